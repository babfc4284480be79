import os
from pathlib import Path

import pytest

from assistant.errors import ConfigError
from assistant.jobs.files import Library, is_collection, length_s
from tests.jobs.sounds import tone


def names(*named: Path) -> list[str]:
    return [recording.name for recording in Library(named)]


def filled(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_a_folder_is_searched_to_the_bottom(tmp_path: Path) -> None:
    filled(tmp_path, "b.MP4", "a.wav", "a.mp3", "notes.txt", ".hidden.wav", "in/deep/c.opus")
    filled(tmp_path, ".trash/d.wav", "in/a.wav")
    assert names(tmp_path) == ["a.mp3", "a.wav", "b.MP4", "in/a.wav", "in/deep/c.opus"]
    assert len(Library([tmp_path])) == 5


def test_the_same_name_in_two_folders_stays_apart(tmp_path: Path) -> None:
    filled(tmp_path, "x/a.wav", "y/a.wav", "y/z/a.wav")
    assert names(tmp_path / "x", tmp_path / "y" / "z") == ["x/a.wav", "y/z/a.wav"]
    assert names(tmp_path / "x" / "a.wav", tmp_path / "y" / "a.wav") == ["x/a.wav", "y/a.wav"]
    assert names(tmp_path / "x" / "a.wav") == ["a.wav"]
    patterns = (tmp_path / "x" / "*.wav", tmp_path / "y" / "**" / "*.wav")
    assert sorted(names(*patterns)) == ["x/a.wav", "y/a.wav", "y/z/a.wav"]


def test_patterns_match_files_of_any_ending_and_names_with_brackets_are_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, "a.raw", "b/c.raw", "take[1].wav")
    assert sorted(names(tmp_path / "**")) == ["a.raw", "b/c.raw", "take[1].wav"]
    assert names(tmp_path / "take[1].wav") == ["take[1].wav"]
    monkeypatch.chdir(tmp_path)
    assert names(Path("b/*")) == ["c.raw"]
    assert names(Path("b/../a.raw")) == ["a.raw"]


def test_a_manifest_names_recordings_from_its_folder(tmp_path: Path) -> None:
    filled(tmp_path, "lists/in/a.wav", "far/a.wav")
    manifest = tmp_path / "lists" / "m.jsonl"
    manifest.write_text('{"audio": "in/a.wav", "language": "de"}\n{"audio": "../far/a.wav"}')
    first, second = Library([manifest])
    assert (first.name, first.language) == ("in/a.wav", "de")
    assert first.path == tmp_path / "lists/in/a.wav"
    assert second.name.startswith("elsewhere/") and second.name.endswith("/a.wav")
    assert second.path == tmp_path / "far/a.wav"
    assert Library([manifest]).languages == {"de"}


def test_ids_are_names_and_stand_alone(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "a.wav", "id": "one"}\n{"audio": "a.wav", "id": "two"}')
    assert names(manifest) == ["one", "two"]
    filled(tmp_path, "a.wav")
    with pytest.raises(ConfigError, match="a manifest with ids by itself"):
        Library([manifest, tmp_path / "a.wav"])


@pytest.mark.parametrize("named", ["", "*.wav", "m.jsonl"])
def test_where_there_is_nothing_that_is_told(tmp_path: Path, named: str) -> None:
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="Expected .*recording"):
        Library([tmp_path / named])
    with pytest.raises(ConfigError, match="name files, a folder or a manifest"):
        Library([])


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    filled(tmp_path, "lib/a.wav")
    (tmp_path / "lib" / "loop").symlink_to(tmp_path / "lib")
    assert names(tmp_path / "lib") == ["a.wav"]


def test_what_is_a_collection(tmp_path: Path) -> None:
    filled(tmp_path, "a.wav", "b[1].wav")
    assert not is_collection(tmp_path / "a.wav")
    assert not is_collection(tmp_path / "b[1].wav")
    assert is_collection(tmp_path)
    assert is_collection(tmp_path / "*.wav")
    assert is_collection(tmp_path / "m.jsonl")


def test_lengths_are_told_from_headers(tmp_path: Path) -> None:
    import av

    assert length_s(tone(tmp_path / "a.wav", 1.25)) == 1.25
    film = tmp_path / "a.mkv"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=8000)
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert length_s(film) == pytest.approx(1.0, abs=0.05)
    (tmp_path / "b.mp4").write_bytes(os.urandom(32_000))
    (tmp_path / "b.raw").write_bytes(bytes(16_000))
    assert length_s(tmp_path / "b.mp4") == 2.0
    assert length_s(tmp_path / "b.raw") == 1.0
    assert length_s(tmp_path / "missing.wav") == 0.0
