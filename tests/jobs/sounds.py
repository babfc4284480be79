"""Recordings for tests: tones of a given length, and a recogniser that hears how long they are."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from assistant.config import load_settings
from assistant.jobs import recognising, transcribe
from assistant.jobs.engine import Engine
from assistant.loading import Models
from audio.asr import Recogniser
from audio.asr_batch import BatchOptions
from audio.asr_types import Segment, Transcript, Word
from audio.errors import AudioError
from audio.media import write_wav
from audio.pcm import SAMPLE_RATE, Sound


def tone(path: Path, seconds: float = 0.5) -> Path:
    """A recording; written in the same moment for all, so that tests can copy times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    wave = (0.2 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    write_wav(path, Sound(wave, SAMPLE_RATE))
    return path


def touch(path: Path) -> None:
    """Makes it look changed."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


def hear_length(sound: Sound, options: BatchOptions) -> Transcript:
    """A transcript that tells how long the sound is."""
    text = f"{sound.duration_s:g} seconds"
    words = tuple(Word(i * 0.1, i * 0.1 + 0.1, f" {w}", 0.5) for i, w in enumerate(text.split()))
    language = options.language or "en"
    segment = Segment(0.0, 0.2, text, words)
    return Transcript(text, language, 1.0, sound.duration_s, (segment,))


class ToyModel:
    """Stands for the recogniser of jobs in this process, and counts what it hears."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"toy")
        self.models = Models(load_settings(recogniser=str(folder)))
        self.groups: list[int] = []
        self.fail: Callable[[Sequence[Sound]], None] = lambda _: None
        monkeypatch.setattr(Recogniser, "load", lambda *_, **__: object())
        monkeypatch.setattr(recognising, "transcribe_many", self._hear)

    @property
    def heard(self) -> int:
        """How many recordings were heard."""
        return sum(self.groups)

    def _hear(
        self,
        recogniser: object,
        sounds: Sequence[Sound],
        options: BatchOptions,
        *,
        progress: Callable[[float], object] | None,
    ) -> list[Transcript]:
        self.fail(sounds)
        if options.language == "xx":
            raise AudioError("this Whisper model does not know the language 'xx'")
        self.groups.append(len(sounds))
        if progress is not None:
            progress(sum(sound.duration_s for sound in sounds))
        return [hear_length(sound, options) for sound in sounds]


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def results(manifest: Path, out: Path, engine: Engine) -> dict[str, bytes]:
    """What an engine makes of the library of speech, with the real model."""
    models = Models(load_settings(recogniser="whisper-tiny.en"))
    report = transcribe(manifest, out, models=models, engine=engine)
    assert [failure.audio for failure in report.failures] == ["bad.wav"]
    return tree(out)
