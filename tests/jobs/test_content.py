import json
import multiprocessing
import os
import signal
import time
from errno import ENOSPC
from pathlib import Path

import pytest
from filelock import FileLock

from assistant.errors import VoxsightError
from assistant.jobs.content import (
    STAGE_VERSIONS,
    Results,
    canonical_json,
    file_sha256,
    is_whole,
    read_json,
    write_json,
)


def write_two(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.txt").write_text("one")
    (folder / "sub" / "b.bin").write_bytes(bytes(100))


def test_made_once_and_journalled(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        write_two(folder)

    results = Results(tmp_path / "results")
    first = results.get("fit", {"b": 1, "a": [1, "é"]}, make)
    again = Results(tmp_path / "results").get("fit", {"a": [1, "é"], "b": 1}, make)
    assert first == again and len(made) == 1
    assert first.folder == tmp_path / "results" / "fit" / first.key and len(first.key) == 24
    assert (first.folder / "sub" / "b.bin").read_bytes() == bytes(100)
    assert results.journal() == [("fit", first.key)]
    assert results.get("fit", {"a": [1, "é"], "b": 2}, make).key != first.key
    assert results.get("mix", {"a": [1, "é"], "b": 1}, make).key != first.key
    assert len(results.journal()) == len(made) == 3


def test_killed_between_a_result_and_its_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(Results, "_note", die)
        Results(tmp_path).get("fit", {"x": 1}, write_two)
    results = Results(tmp_path)
    assert results.journal() == []
    made = [results.get("fit", {"x": 1}, lambda _: pytest.fail("made twice")) for _ in range(2)]
    assert results.journal() == [("fit", made[0].key)]


@pytest.mark.parametrize("harm", ["change", "remove", "add", "manifest"])
def test_damaged_is_made_anew(tmp_path: Path, harm: str) -> None:
    results = Results(tmp_path)
    folder = results.get("speak", {"x": 1}, write_two).folder
    if harm == "change":
        (folder / "a.txt").write_text("two")
    elif harm == "remove":
        (folder / "sub" / "b.bin").unlink()
    elif harm == "add":
        (folder / "c").write_text("")
    else:
        (folder / "manifest.json").write_text("{")
    assert not is_whole(folder)
    assert results.get("speak", {"x": 1}, write_two).folder == folder
    assert is_whole(folder) and (folder / "a.txt").read_text() == "one"
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
    assert len(results.journal()) == 2


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyError("stage")

    results = Results(tmp_path)
    with pytest.raises(KeyError):
        results.get("mix", {}, fail)
    assert list((tmp_path / "mix").iterdir()) == [] and results.journal() == []
    assert results.get("mix", {}, write_two).folder.is_dir()


def test_full_disk_is_told(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with pytest.raises(VoxsightError, match="Cannot write results into .*No space left.*free some"):
        Results(tmp_path).get("mix", {}, full)
    assert list((tmp_path / "mix").iterdir()) == []

    def other(folder: Path) -> None:
        raise FileNotFoundError(2, "lost")

    with pytest.raises(FileNotFoundError):
        Results(tmp_path).get("mix", {}, other)


def test_inputs_and_stages_are_checked(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(VoxsightError, match="Expected one of the stages extract, .*'dance'"):
        results.get("dance", {}, write_two)
    with pytest.raises(VoxsightError, match="JSON"):
        results.result("fit", {"x": float("nan")})
    with pytest.raises(VoxsightError, match="JSON"):
        canonical_json({"x": object()})  # type: ignore[dict-item]
    assert all(version >= 1 for version in STAGE_VERSIONS.values())


def test_version_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Results(tmp_path).result("fit", {}).key
    versions = {**STAGE_VERSIONS, "fit": STAGE_VERSIONS["fit"] + 1}
    monkeypatch.setattr("assistant.jobs.content.STAGE_VERSIONS", versions)
    assert Results(tmp_path).result("fit", {}).key != before


def test_json_files(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": "ü", "a": 1})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n "a": 1,\n "b": "ü"\n}\n'
    assert read_json(tmp_path / "x.json") == {"a": 1, "b": "ü"}
    with pytest.raises(VoxsightError, match="Cannot read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "e").write_bytes(b"")
    assert file_sha256(tmp_path / "e").startswith("e3b0c442")


def test_damaged_journal_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"stage": "fit", "key": "1"}\n{"stage"\n[]\n')
    assert Results(tmp_path).journal() == [("fit", "1")]
    assert Results(tmp_path / "new").journal() == []


def slow_work(folder: str, count: int) -> None:
    """Make some results, each of several files, noting outside when one was begun."""
    results = Results(Path(folder) / "results")

    for number in range(count):

        def make(target: Path, number: int = number) -> None:
            for part in range(4):
                (target / f"{part}.txt").write_text(f"{number} {part} " * 500)
                time.sleep(0.002)

        results.get("speak", {"number": number}, make)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    count, whole_before = 12, set[Path]()
    stage = tmp_path / "results" / "speak"
    ages: dict[Path, int] = {}
    for kill in range(8):
        worker = context.Process(target=slow_work, args=(str(tmp_path), count))
        worker.start()
        # Let it come so far as to make something, and then stop it in the middle.
        for _ in range(2000):
            if not worker.is_alive() or len(list(stage.glob("[!.]*"))) > len(whole_before):
                break
            time.sleep(0.01)
        time.sleep(0.003 * kill)
        if worker.pid is not None and worker.is_alive():
            os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        found = set(stage.glob("[!.]*"))
        assert all(is_whole(folder) for folder in found), "half made"
        assert whole_before <= found
        for folder in whole_before:
            assert folder.stat().st_ino == ages[folder], "made twice"
        whole_before, ages = found, {folder: folder.stat().st_ino for folder in found}
    slow_work(str(tmp_path), count)
    folders = sorted(stage.glob("[!.]*"))
    assert len(folders) == count and all(map(is_whole, folders))
    assert list(stage.glob(".*")) == [], "left over"
    keys = [key for _, key in Results(tmp_path / "results").journal()]
    assert len(keys) == len(set(keys)), "counted twice"
    assert set(keys) <= {folder.name for folder in folders}


def test_processes_share_the_work(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=slow_work, args=(str(tmp_path), 6)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    journal = (tmp_path / "results" / "journal.jsonl").read_text().splitlines()
    assert len(journal) == len({json.loads(line)["key"] for line in journal}) == 6


def test_lock_is_per_result(tmp_path: Path) -> None:
    results = Results(tmp_path)
    key = results.result("fit", {"x": 1}).key
    (tmp_path / ".locks").mkdir()
    with FileLock(tmp_path / ".locks" / f"fit-{key}"):
        assert results.get("fit", {"x": 2}, write_two).folder.is_dir()
