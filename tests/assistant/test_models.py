"""The store against real wheels, fetched by the real pip from a folder instead of an index."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.assets import asset
from assistant.catalogue import ModelSpec, load_catalogue
from assistant.config import Settings, load_settings
from assistant.errors import ModelStoreError, OfflineError
from assistant.models import ModelStore, State

HALVES = (b"first half, " * 5000, b"second half." * 5000)
CONFIG = b'{"a": 1}'


def make_wheel(folder: Path, name: str, members: dict[str, bytes]) -> None:
    """A wheel that pip accepts."""
    info = f"{name}-1.0.dist-info"
    files = dict(members)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files).encode()
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)


def part(package: str, member: str) -> dict[str, object]:
    return {"package": f"{package}==1.0", "member": member, "wheel_bytes": 1000}


def file_spec(path: str, content: bytes, *parts: dict[str, object]) -> dict[str, object]:
    return {
        "path": path,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sources": [{"kind": "package", "parts": parts}],
    }


def spec(*files: dict[str, object]) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "toy",
            "task": "samples",
            "summary": "toy",
            "licence": "MIT",
            "upstream": "-",
            "files": files,
        }
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the index; no network is used."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    make_wheel(folder, "toyone", {"d/part1": HALVES[0], "d/config.json": CONFIG})
    make_wheel(folder, "toytwo", {"d/part2": HALVES[1]})
    return folder


TOY = spec(
    file_spec(
        "sub/model.bin", HALVES[0] + HALVES[1], part("toyone", "d/part1"), part("toytwo", "d/part2")
    ),
    file_spec("config.json", CONFIG, part("toyone", "d/config.json")),
)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., ModelStore]:
    def make(model: ModelSpec = TOY, offline: bool = False) -> ModelStore:
        settings = Settings(cache_dir=tmp_path / "cache", offline=offline)
        return ModelStore(settings, {"toy": model})

    return make


def test_pull_joins_parts_and_checks_them(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    store = make_store()
    assert store.state("toy") is State.ABSENT
    folder = store.folder("toy")
    assert (folder / "sub/model.bin").read_bytes() == HALVES[0] + HALVES[1]
    assert (folder / "config.json").read_bytes() == CONFIG
    assert store.state("toy") is State.READY
    assert not (folder / ".downloads").exists()


def test_present_model_is_not_fetched_again(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    make_store().folder("toy")
    for wheel in index.iterdir():
        wheel.unlink()
    make_store(offline=True).folder("toy")


def test_flipped_byte_is_found_named_and_mended(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    store = make_store()
    file = store.folder("toy") / "sub/model.bin"
    content = bytearray(file.read_bytes())
    content[1234] ^= 1
    file.write_bytes(content)
    assert store.state("toy") is State.UNVERIFIED
    with pytest.raises(ModelStoreError, match=r"model\.bin is damaged.*voxsight models pull toy"):
        store.folder("toy")
    assert [check.problem != "" for check in store.verify("toy")] == [True, False]
    store.pull("toy")
    assert file.read_bytes() == HALVES[0] + HALVES[1]
    assert store.state("toy") is State.READY


def test_a_copied_store_is_unverified_until_it_is_used(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    store = make_store()
    for file in store.folder("toy").rglob("*"):
        os.utime(file, (1, 1))
    assert store.state("toy") is State.UNVERIFIED
    make_store(offline=True).folder("toy")
    assert store.state("toy") is State.READY


def test_a_truncated_file_is_damaged(index: Path, make_store: Callable[..., ModelStore]) -> None:
    store = make_store()
    os.truncate(store.folder("toy") / "sub/model.bin", 10)
    assert store.state("toy") is State.DAMAGED


def test_flipped_byte_with_its_old_time_is_found_by_verify(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    store = make_store()
    file = store.folder("toy") / "config.json"
    times = file.stat()
    file.write_bytes(b'{"a": 2}')
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert any(check.problem for check in store.verify("toy"))
    assert store.state("toy") is State.DAMAGED


def test_wrong_bytes_from_a_source_are_refused_and_nothing_is_left(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    make_wheel(index, "toytwo", {"d/part2": b"something else"})
    store = make_store()
    with pytest.raises(ModelStoreError, match="toyone==1.0, toytwo==1.0 holds other bytes"):
        store.folder("toy")
    assert not list(store.root.rglob("*model.bin*"))
    assert store.state("toy") is not State.READY


def test_next_source_serves_when_the_first_fails(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    entry = file_spec("config.json", CONFIG, part("toyone", "d/config.json"))
    good = entry["sources"]
    assert isinstance(good, list)
    entry["sources"] = [{"kind": "package", "parts": [part("nosuchtoy", "x")]}, *good]
    folder = make_store(spec(entry)).folder("toy")
    assert (folder / "config.json").read_bytes() == CONFIG


def test_interrupted_pull_goes_on_where_it_stopped(
    index: Path, make_store: Callable[..., ModelStore]
) -> None:
    (index / "toytwo-1.0-py3-none-any.whl").rename(index / "hidden")
    store = make_store()
    with pytest.raises(ModelStoreError, match="pip could not fetch toytwo==1.0"):
        store.folder("toy")
    assert store.state("toy") is State.ABSENT
    (index / "hidden").rename(index / "toytwo-1.0-py3-none-any.whl")
    (index / "toyone-1.0-py3-none-any.whl").unlink()  # it must not be asked for again
    folder = store.folder("toy")
    assert (folder / "sub/model.bin").read_bytes() == HALVES[0] + HALVES[1]


def test_package_without_the_member(index: Path, make_store: Callable[..., ModelStore]) -> None:
    model = spec(file_spec("config.json", CONFIG, part("toytwo", "d/config.json")))
    with pytest.raises(ModelStoreError, match="toytwo==1.0 lacks d/config.json"):
        make_store(model).folder("toy")


def test_damaged_wheel_is_thrown_away(index: Path, make_store: Callable[..., ModelStore]) -> None:
    store = make_store()
    downloads = store.root / "toy" / ".downloads"
    downloads.mkdir(parents=True)
    (downloads / "toyone-1.0-py3-none-any.whl").write_bytes(b"PK half a wheel")
    with pytest.raises(ModelStoreError, match="toyone==1.0 lacks"):
        store.folder("toy")
    assert store.folder("toy").is_dir()  # the next try fetches a good one


def test_offline_says_what_to_do(index: Path, make_store: Callable[..., ModelStore]) -> None:
    with pytest.raises(OfflineError, match=r"toy .*VOXSIGHT_OFFLINE.*voxsight models pull toy"):
        make_store(offline=True).folder("toy")


def test_unknown_name_lists_the_known(make_store: Callable[..., ModelStore]) -> None:
    with pytest.raises(ModelStoreError, match="no model 'tyo'; the catalogue holds toy"):
        make_store().folder("tyo")


def test_local_folder_is_taken_as_it_is(
    tmp_path: Path, make_store: Callable[..., ModelStore]
) -> None:
    assert make_store().folder(str(tmp_path)) == tmp_path


def test_full_disk_is_told_before_the_download(
    index: Path, make_store: Callable[..., ModelStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("assistant.models.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(ModelStoreError, match="must be free"):
        make_store().folder("toy")


def test_pip_missing(
    index: Path, make_store: Callable[..., ModelStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.fetch.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelStoreError, match="ensurepip"):
        make_store().folder("toy")


def test_catalogue_refuses_paths_out_of_the_store() -> None:
    for path in ("../x", "/etc/x", "a/../../x", "a//b", "..", "a/."):
        with pytest.raises(ValueError, match="path"):
            spec(file_spec(path, b"x", part("toyone", "x")))


def test_bad_catalogue_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[models.x]\ntask = 'samples'\n")
    with pytest.raises(ModelStoreError, match="cannot be used"):
        load_catalogue(file)


def test_shipped_catalogue_is_sound() -> None:
    catalogue = load_catalogue(asset("models.toml"))
    settings = load_settings()
    for name in (
        settings.recogniser,
        settings.language_model,
        settings.voice,
        settings.image_encoder,
    ):
        assert name in catalogue
    for model in catalogue.values():
        paths = [file.path for file in model.files]
        assert len(set(paths)) == len(paths)
