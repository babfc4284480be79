"""How well a dub came out: a figure for every line, and what they come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from assistant.jobs.dub.lines import FASTEST_RATE, SLOWEST_RATE, SpokenLine, TranslatedLine
from assistant.jobs.dub.mix import Mixed
from assistant.jobs.dub.speak import understood

#: A line that ends so near to its slot's end, borrowed pause included, is in its slot.
IN_SLOT_MS = 150


@dataclass(frozen=True)
class DubReport:
    """A finished dub.

    out: the file that was written; folder: beside it, with report.json, lines.json, the subtitles
    and the picture; language: of the dub; voices: speaker to voice; lines: in order; kept: lines
    whose original is heard instead; mixed: what was measured in the mix.
    """

    source: Path
    out: Path
    folder: Path
    language: str
    voices: Mapping[str, str]
    lines: tuple[SpokenLine, ...]
    kept: tuple[TranslatedLine, ...]
    mixed: Mixed

    def summary(self) -> dict[str, float | int | None]:
        """The figures that are compared over time."""
        return {
            **totals(self.lines, self.language),
            "kept": len(self.kept),
            **_loudness(self.mixed),
        }

    def to_dict(self) -> dict[str, JsonValue]:
        """What report.json holds: names of files without their folders, and no times of day."""
        return {
            "source": self.source.name,
            "output": self.out.name,
            "language": self.language,
            "voices": dict(self.voices),
            "totals": dict(self.summary()),
            "lines": [line_row(line) for line in self.lines],
            "kept": [_kept_row(line) for line in self.kept],
        }


def totals(lines: Sequence[SpokenLine], language: str) -> dict[str, float | int | None]:
    """Shares over all lines; silence by time, word errors by words."""
    count = max(1, len(lines))
    scores = [understood(s.fitted.wording, s.back_text, language) for s in lines]
    slots = sum(line.fitted.line.slot_ms + line.fitted.borrowed_ms for line in lines)
    return {
        "lines": len(lines),
        "lines_in_slot": round(sum(map(in_slot, lines)) / count, 4),
        "rate_in_range": round(sum(map(_in_range, lines)) / count, 4),
        "silence_in_slot": round(sum(line.silence_ms for line in lines) / max(1, slots), 4),
        "back_wer": round(sum(e for e, _ in scores) / max(1, sum(w for _, w in scores)), 4),
        "borrowed": sum(line.fitted.borrowed_ms > 0 for line in lines),
        "paused": sum(line.fitted.added_pause_ms > 0 for line in lines),
        "stretched": sum(line.fitted.stretch != 1.0 for line in lines),
    }


def end_error_ms(line: SpokenLine) -> int:
    """How far from the end of its slot, borrowed pause included, a line ends; > 0 is late."""
    return line.end_ms - line.fitted.line.end_ms - line.fitted.borrowed_ms


def in_slot(line: SpokenLine) -> bool:
    """Whether a line ends where it should."""
    return abs(end_error_ms(line)) <= IN_SLOT_MS


def line_row(line: SpokenLine) -> dict[str, JsonValue]:
    """All that is known of a line."""
    fitted, original = line.fitted, line.fitted.line
    return {
        "number": original.number,
        "speaker": original.speaker,
        "from": original.language,
        "slot_ms": [original.start_ms, original.end_ms],
        "original": original.original,
        "wording": fitted.wording,
        "rate": fitted.rate,
        "stretch": fitted.stretch,
        "seed": fitted.seed,
        "spoken_ms": [line.start_ms, line.end_ms],
        "borrowed_ms": fitted.borrowed_ms,
        "added_pause_ms": fitted.added_pause_ms,
        "end_error_ms": end_error_ms(line),
        "in_slot": in_slot(line),
        "silence_ms": line.silence_ms,
        "back_text": line.back_text,
        "back_wer": line.back_wer,
    }


def _in_range(line: SpokenLine) -> bool:
    # What is stretched is heard faster, whoever made it so.
    return SLOWEST_RATE <= line.fitted.rate / line.fitted.stretch <= FASTEST_RATE


def _kept_row(kept: TranslatedLine) -> dict[str, JsonValue]:
    line = kept.line
    return {
        "number": line.number,
        "slot_ms": [line.start_ms, line.end_ms],
        "original": line.original,
        "why": kept.kept,
    }


def _loudness(mixed: Mixed) -> dict[str, float | None]:
    known = mixed.lufs is not None and mixed.original_lufs is not None
    delta = round(mixed.lufs - mixed.original_lufs, 2) if known else None  # type: ignore[operator]
    return {
        "original_lufs": mixed.original_lufs,
        "lufs": mixed.lufs,
        "loudness_delta_lu": delta,
        "true_peak_db": mixed.true_peak_db,
    }
