"""What came of a job: counts, speed and how sure the recogniser was, by language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant.jobs.failures import Failure
from assistant.jobs.recognising import Done


@dataclass
class LanguageTotal:
    """The recordings of one language that a job has done."""

    recordings: int = 0
    sound_s: float = 0.0
    words: int = 0
    #: Sum of the words' probabilities.
    certainty: float = 0.0

    @property
    def confidence(self) -> float | None:
        """The mean probability of a word; None without words."""
        return self.certainty / self.words if self.words else None

    def add(self, other: "LanguageTotal") -> None:
        """Counts what the other has counted, too."""
        self.recordings += other.recordings
        self.sound_s += other.sound_s
        self.words += other.words
        self.certainty += other.certainty


@dataclass(frozen=True)
class TranscribeReport:
    """How a job ended.

    Attributes:
        done: recordings transcribed by this job.
        skipped: those that had been before, and have not changed.
        failures: those that could not be, with reasons; also in ``failures.jsonl``.
        languages: what was done, by language, the one with the most sound first.
        took_s: how long the job took, the loading of models included.
    """

    done: int
    skipped: int
    failures: tuple[Failure, ...]
    languages: Mapping[str, LanguageTotal]
    took_s: float

    @property
    def recordings(self) -> int:
        """All that the job was about."""
        return self.done + self.skipped + len(self.failures)

    @property
    def total(self) -> LanguageTotal:
        """What was done, in all languages."""
        total = LanguageTotal()
        for one in self.languages.values():
            total.add(one)
        return total

    @property
    def speed(self) -> float:
        """Seconds of sound a second."""
        return self.total.sound_s / self.took_s if self.took_s > 0 else 0.0

    def summary(self) -> dict[str, Any]:
        """The report for one line of JSON."""
        total = self.total
        return {
            "recordings": self.recordings,
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "audio_seconds": round(total.sound_s, 3),
            "seconds": round(self.took_s, 3),
            "audio_seconds_per_second": round(self.speed, 2),
            "confidence": _rounded(total.confidence),
            "languages": {
                language: {
                    "recordings": one.recordings,
                    "audio_seconds": round(one.sound_s, 3),
                    "confidence": _rounded(one.confidence),
                }
                for language, one in self.languages.items()
            },
        }


@dataclass
class Tally:
    """Counts while a job runs; its size depends on the languages only."""

    done: int = 0
    skipped: int = 0
    languages: dict[str, LanguageTotal] = field(default_factory=dict)

    def add(self, end: Done) -> None:
        """Counts one recording."""
        self.done += 1
        one = LanguageTotal(1, end.sound_s, end.words, (end.confidence or 0.0) * end.words)
        self.languages.setdefault(end.language, LanguageTotal()).add(one)

    def report(self, failures: Sequence[Failure], took_s: float) -> TranscribeReport:
        """What has been counted."""
        order = sorted(self.languages, key=lambda name: (-self.languages[name].sound_s, name))
        languages = {name: self.languages[name] for name in order}
        return TranscribeReport(self.done, self.skipped, tuple(failures), languages, took_s)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
