"""What the tests of engines share: one library of real speech, and what it must become."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.jobs.engine import engine_by_name
from tests.jobs.sounds import results

Folder = Callable[[str], Path]


@pytest.fixture(scope="session")
def speech_library(model_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest: two groups, as the language of some is told; one recording cannot be read."""
    folder = tmp_path_factory.mktemp("library")
    sounds = sorted((model_folder("sample-speech") / "en").glob("*.wav"))
    lines = []
    for at, file in enumerate([*sounds[:2], *sounds[1:3]]):
        (folder / f"{at}.wav").write_bytes(file.read_bytes())
        lines.append({"audio": f"{at}.wav"} | ({"language": "en"} if at % 2 else {}))
    (folder / "bad.wav").write_bytes(b"RIFF")
    manifest = folder / "list.jsonl"
    manifest.write_text("\n".join(map(json.dumps, [*lines, {"audio": "bad.wav"}])))
    return manifest


@pytest.fixture(scope="session")
def expected(speech_library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results' files, made in one process."""
    return results(speech_library, tmp_path_factory.mktemp("expected"), engine_by_name("local"))
