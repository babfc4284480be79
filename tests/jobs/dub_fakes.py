"""Dubbing without models: hearing, translating and speaking are played, all else is real."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from assistant.config import Settings, load_settings
from assistant.jobs.dub import understanding
from assistant.jobs.dub.hear import Heard, HeardWord, Region
from assistant.jobs.dub.job import DubOptions, DubReport, dub
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.tools import Tools
from tests.jobs.dub_samples import HummingVoice, Text

#: What is said in the played films: language, words, start and end in ms.
SAID = (
    ("de", "Guten Tag.", 300, 1200),
    ("de", "Wie geht es dir?", 1600, 2700),
    ("fr", "Bonjour le monde.", 3300, 4200),
)
ENGLISH = {
    "Guten Tag.": ("Good day.", "A very good day."),
    "Wie geht es dir?": ("How are you?",),
    "Bonjour le monde.": ("Hello world.",),
}


@dataclass(frozen=True)
class PlayedModels:
    """In place of ``Models``; its recogniser hears "hello" in everything."""

    settings: Settings
    root: Path
    multilingual: bool = True

    @property
    def recogniser(self) -> "PlayedModels":
        return self

    def transcribe(self, sound: Any, options: Any) -> Text:
        return Text("hello")

    def folder(self, name: str) -> Path:
        folder = self.root / Path(name).name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.bin").write_bytes(name.encode())
        return folder


def played_models(root: Path, **settings: Any) -> PlayedModels:
    return PlayedModels(load_settings(recogniser="whisper-base", **settings), root)


def played_hearing(said: Sequence[tuple[str, str, int, int]]) -> Callable[..., Heard]:
    def hear(speech: Path, *_: Any) -> Heard:
        regions = []
        for language, text, start, end in said:
            words = text.split()
            each = (end - start) // len(words)
            heard = tuple(
                HeardWord(start + at * each, start + (at + 1) * each, f" {word}", 1.0)
                for at, word in enumerate(words)
            )
            regions.append(Region(start, end, language, 1.0, heard))
        return Heard(10_000, tuple(regions))

    return hear


@dataclass(frozen=True)
class PlayedTranslator:
    name: str = "played"
    target: str = "en"
    delay_s: float = 0.0

    def __call__(self, line: Line, *_: Any) -> tuple[str, ...]:
        time.sleep(self.delay_s)
        return ENGLISH.get(line.original, ())


def played_dub(
    source: Path,
    out: Path,
    root: Path,
    options: DubOptions | None = None,
    *,
    said: Sequence[tuple[str, str, int, int]] = SAID,
    delay_s: float = 0.0,
    **more: Any,
) -> DubReport:
    """``dub`` with played models, which take ``delay_s`` for each line."""

    class SlowVoice(HummingVoice):
        def say(self, text: str, rate: float, seed: int) -> Any:
            time.sleep(delay_s)
            return super().say(text, rate, seed)

    with (
        patch.object(understanding, "hear", played_hearing(said)),
        patch.object(Tools, "translator", PlayedTranslator(delay_s=delay_s)),
        patch.object(Tools, "voice", lambda self, name: SlowVoice(name=name)),
    ):
        return dub(source, out, options, models=played_models(root), **more)  # type: ignore[arg-type]


def dub_slowly(source: Path, out: Path, root: Path) -> None:
    """In a process of its own, to be killed."""
    played_dub(source, out, root, delay_s=0.05)
