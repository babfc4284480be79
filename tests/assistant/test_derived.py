from pathlib import Path

import pytest

from assistant.derived import derived_folder


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        folder.mkdir()
        (folder / "weights").write_text("abc")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    file.write_text("source")
    return file


def test_made_once(tmp_path: Path, source: Path) -> None:
    maker = Maker()
    first = derived_folder(tmp_path / "d", source, maker)
    assert derived_folder(tmp_path / "d", source, maker) == first
    assert maker.calls == 1
    assert (first / "weights").read_text() == "abc"


@pytest.mark.parametrize("harm", ["change", "delete", "stamp"])
def test_touched_since_is_made_anew(tmp_path: Path, source: Path, harm: str) -> None:
    maker = Maker()
    folder = derived_folder(tmp_path / "d", source, maker)
    if harm == "change":
        (folder / "weights").write_text("abx")
    elif harm == "delete":
        (folder / "weights").unlink()
    else:
        (folder / ".derived.json").write_text("{")
    assert derived_folder(tmp_path / "d", source, maker) == folder
    assert maker.calls == 2
    assert (folder / "weights").read_text() == "abc"


def test_another_source_is_another_folder(tmp_path: Path, source: Path) -> None:
    maker = Maker()
    first = derived_folder(tmp_path / "d", source, maker)
    source.write_text("another source")
    assert derived_folder(tmp_path / "d", source, maker) != first


def test_failed_making_leaves_nothing_that_counts(tmp_path: Path, source: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        derived_folder(tmp_path / "d", source, fail)
    maker = Maker()
    folder = derived_folder(tmp_path / "d", source, maker)
    assert [file.name for file in folder.iterdir() if file.name[0] != "."] == ["weights"]
