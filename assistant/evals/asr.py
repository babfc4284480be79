"""Word error rate of a recogniser over a folder of recordings with their transcripts."""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishTextNormalizer,
)

from assistant.errors import ConfigError
from assistant.evals.edit_distance import edit_distance
from audio.asr import RecogniseOptions, Recogniser
from audio.media import read_sound

_COLUMNS = ("file", "language", "text")


@dataclass(frozen=True)
class Recording:
    """One line of ``transcripts.tsv``."""

    path: Path
    language: str
    text: str


@dataclass(frozen=True)
class AsrRow:
    """What was recognised in one file; ``errors`` of ``words`` normalised reference words."""

    file: str
    language: str
    reference: str
    hypothesis: str
    words: int
    errors: int
    audio_s: float
    seconds: float

    @property
    def wer(self) -> float:
        """Errors per reference word."""
        return self.errors / max(1, self.words)


@dataclass(frozen=True)
class AsrReport:
    """All files' rows; ``wer`` is over all words, so long files weigh more."""

    model: str
    rows: tuple[AsrRow, ...]

    @property
    def wer(self) -> float:
        """Errors per reference word, over all files."""
        return sum(row.errors for row in self.rows) / max(1, sum(row.words for row in self.rows))

    @property
    def seconds(self) -> float:
        """Time spent on recognition, files not counted."""
        return sum(row.seconds for row in self.rows)

    def summary(self) -> dict[str, str | float | int]:
        """The figures that are compared over time."""
        return {"wer": round(self.wer, 4), "model": self.model, "files": len(self.rows)}


def read_transcripts(data: Path) -> list[Recording]:
    """The recordings listed in the folder's ``transcripts.tsv`` (columns file, language, text)."""
    table = Path(data) / "transcripts.tsv"
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(
                    f"{table} lacks the column {missing[0]}; expected {', '.join(_COLUMNS)}"
                )
            rows = list(reader)
    except OSError as error:
        raise ConfigError(
            f"cannot read {table}: {error.strerror}; expected a folder of recordings with it"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{table} is not UTF-8 text; save it as UTF-8") from None
    if not rows:
        raise ConfigError(f"{table} lists no recordings; expected a line for each")
    recordings = []
    for number, row in enumerate(rows, start=2):
        name, language, text = (row[column] for column in _COLUMNS)
        if not name or not language or not (text or "").strip():
            raise ConfigError(f"line {number} of {table} has an empty column; fill it in")
        recordings.append(Recording(Path(data) / name, language, text))
    return recordings


def normalise(text: str, language: str) -> str:
    """The text as Whisper's paper compares it (appendix C): English with its own rules."""
    if language == "en":
        return str(_english()(text)).strip()
    # Without spaces between words, letters are compared instead (as the paper does).
    basic = BasicTextNormalizer(split_letters=language in {"zh", "ja", "th", "lo", "my", "yue"})
    return str(basic(text)).strip()


@cache
def _english() -> EnglishTextNormalizer:
    """Rules from transformers; the table of British spellings from whisper-normalizer."""
    table = files("whisper_normalizer") / "normalizers" / "english.json"
    return EnglishTextNormalizer(json.loads(table.read_text(encoding="utf-8")))


def score(reference: str, hypothesis: str, language: str) -> tuple[int, int]:
    """Word errors, and how many words the reference has, after normalisation."""
    wanted = normalise(reference, language).split()
    return edit_distance(wanted, normalise(hypothesis, language).split()), len(wanted)


def evaluate_asr(
    data: Path,
    recogniser: Recogniser,
    model_name: str,
    progress: Callable[[AsrRow], None] | None = None,
    options: RecogniseOptions | None = None,
) -> AsrReport:
    """Recognise every recording of the folder, each in its own language, and count word errors.

    ``options`` hold for all recordings, but for the language.

    ``progress`` is called with each row as it is done. ``ConfigError`` for a bad table,
    ``AudioError`` for a bad recording or a language that the model does not know.
    """
    rows = []
    for recording in read_transcripts(data):
        sound = read_sound(recording.path)
        chosen = replace(options or RecogniseOptions(), language=recording.language)
        begun = time.perf_counter()
        transcript = recogniser.transcribe(sound, chosen)
        seconds = time.perf_counter() - begun
        errors, words = score(recording.text, transcript.text, recording.language)
        row = AsrRow(
            file=recording.path.name,
            language=recording.language,
            reference=recording.text,
            hypothesis=transcript.text,
            words=words,
            errors=errors,
            audio_s=sound.duration_s,
            seconds=seconds,
        )
        rows.append(row)
        if progress is not None:
            progress(row)
    return AsrReport(model_name, tuple(rows))
