"""A person corrects the lines of a dub in ``lines.json``; what was not touched stays as it is."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pydantic import JsonValue

from assistant.errors import VoxsightError
from assistant.jobs.dub.fit import fit_at_rate
from assistant.jobs.dub.lines import (
    FASTEST_RATE,
    SLOWEST_RATE,
    FittedLine,
    Line,
    Record,
    TranslatedLine,
)
from assistant.jobs.dub.voices import DubVoice

_FORMAT = 1
_GAP_MS = 80  # between the end of a line and the start of the next


@dataclass(frozen=True)
class EditedLine(Record):
    """A line as a person may change it.

    number, language, original: say which line it is, and stay as they are; speaker: who gets the
    same voice; start_ms, end_ms: its slot; text: what is said, "" keeps the original sound;
    rate: of the voice, null lets the fit choose.
    """

    number: int
    language: str
    original: str
    speaker: str
    start_ms: int
    end_ms: int
    text: str
    rate: float | None

    def __post_init__(self) -> None:
        if self.rate is not None and not SLOWEST_RATE <= self.rate <= FASTEST_RATE:
            raise VoxsightError(
                f"Line {self.number} should have a rate of {SLOWEST_RATE} to {FASTEST_RATE}, or "
                f"null to let it be chosen, but has {self.rate:g}."
            )
        if not 0 <= self.start_ms < self.end_ms:
            raise VoxsightError(
                f"Line {self.number} should start at 0 ms or later and end after that, but runs "
                f"from {self.start_ms} to {self.end_ms} ms."
            )


@dataclass(frozen=True)
class Plan:
    """What is to be spoken, and which lines keep their original sound; each in order."""

    fitted: tuple[FittedLine, ...]
    kept: tuple[TranslatedLine, ...]


#: Fits one line: the stage's own function, with the voice of the line's speaker.
Fit = Callable[[TranslatedLine], FittedLine]


def to_edit(plan: Plan, rates: Mapping[int, float]) -> tuple[EditedLine, ...]:
    """The lines of a plan to be corrected; ``rates`` are those that a person had chosen."""
    spoken = {fitted.line.number: (fitted.line, fitted.wording) for fitted in plan.fitted}
    silent = {kept.line.number: (kept.line, "") for kept in plan.kept}
    return tuple(
        EditedLine(
            number=line.number,
            language=line.language,
            original=line.original,
            speaker=line.speaker,
            start_ms=line.start_ms,
            end_ms=line.end_ms,
            text=text,
            rate=rates.get(line.number),
        )
        for _, (line, text) in sorted({**spoken, **silent}.items())
    )


def lines_document(lines: Sequence[EditedLine], source: str, language: str) -> JsonValue:
    """What lines.json holds; ``source`` is the sha256 of the file, ``language`` the dub's."""
    rows: list[JsonValue] = [line.to_dict() for line in lines]
    return {"format": _FORMAT, "source": source, "language": language, "lines": rows}


def read_edits(path: Path, source: str, language: str) -> tuple[EditedLine, ...]:
    """The lines of a file that a person corrected.

    Raises:
        VoxsightError: it cannot be read, is of another source or language, has unknown or missing
            fields, or its lines overlap.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VoxsightError(f"Cannot read the edited lines {path}: {error}.") from None
    fields = {"format", "source", "language", "lines"}
    if not isinstance(document, dict) or set(document) != fields:
        raise VoxsightError(
            f"Expected {path} to hold {', '.join(sorted(fields))} and nothing else, as the "
            "lines.json that a run writes."
        )
    for name, wanted in (("format", _FORMAT), ("source", source), ("language", language)):
        if document[name] != wanted:
            raise VoxsightError(
                f"Expected the edited lines of this dub ({name} {wanted!r}), got {name} "
                f"{document[name]!r} in {path}; edit the lines.json of this source."
            )
    if not isinstance(document["lines"], list):
        raise VoxsightError(f"Expected a list of lines in {path}.")
    lines = tuple(EditedLine.from_dict(row) for row in document["lines"])
    _check_order(lines, path)
    return lines


def _check_order(lines: Sequence[EditedLine], path: Path) -> None:
    for before, after in pairwise(lines):
        if before.number >= after.number or before.end_ms > after.start_ms:
            raise VoxsightError(
                f"Expected the lines of {path} in order and one after the other, but line "
                f"{after.number} starts at {after.start_ms} ms, after line {before.number} that "
                f"ends at {before.end_ms} ms."
            )


def apply_edits(
    plan: Plan,
    translated: Sequence[TranslatedLine],
    edits: Sequence[EditedLine],
    fit: Fit,
    voice_of: Callable[[str], DubVoice],
) -> Plan:
    """The plan with a person's changes; a line that was not changed is the very same.

    Args:
        plan: what would be spoken without them.
        translated: all lines with their wordings.
        edits: from ``read_edits``.
        fit: fits a line anew.
        voice_of: the voice of a speaker, for lines whose rate is given.
    """
    base = {line.number: line for line in to_edit(plan, {})}
    wordings = {each.line.number: each for each in translated}
    _check_same(base, edits)
    starts = [edit.start_ms for edit in edits[1:]] + [None]
    fitted = {each.line.number: each for each in plan.fitted}
    kept = {each.line.number: each for each in plan.kept}
    for edit, following in zip(edits, starts, strict=True):
        number, old = edit.number, wordings[edit.number]
        line = _edited_line(old.line, edit, following)
        if edit == base[number] and line == old.line:
            continue
        fitted.pop(number, None)
        kept.pop(number, None)
        if not edit.text.strip():
            kept[number] = TranslatedLine(line, (), "a person chose to keep the original")
        elif edit.rate is not None:
            fitted[number] = at_rate(line, edit.text, edit.rate, voice_of(line.speaker))
        else:
            same = edit.text == base[number].text and not old.kept
            texts = old.wordings if same else (edit.text,)
            fitted[number] = fit(TranslatedLine(line, texts))
    return Plan(
        tuple(fitted[number] for number in sorted(fitted)),
        tuple(kept[number] for number in sorted(kept)),
    )


def _check_same(base: Mapping[int, EditedLine], edits: Sequence[EditedLine]) -> None:
    """Only what may be changed was changed, and no line is missing."""
    numbers = [edit.number for edit in edits]
    if numbers != sorted(base):
        lost = sorted(set(base) ^ set(numbers))
        raise VoxsightError(
            f"Expected each line of the dub once, but line {lost[0]} is missing or unknown; "
            'to keep the original sound of a line, leave its text empty ("").'
        )
    for edit in edits:
        own = base[edit.number]
        for name in ("language", "original"):
            if getattr(edit, name) != getattr(own, name):
                raise VoxsightError(
                    f"The {name} of line {edit.number} says which line it is and cannot be "
                    f"changed; expected {getattr(own, name)!r}, got {getattr(edit, name)!r}."
                )


def _edited_line(line: Line, edit: EditedLine, following_ms: int | None) -> Line:
    """The line with its new slot; the pause after it shrinks if the next line came nearer."""
    free = max(0, line.end_ms + line.free_ms - edit.end_ms)
    if following_ms is not None:
        free = min(free, max(0, following_ms - _GAP_MS - edit.end_ms))
    return replace(
        line,
        speaker=edit.speaker,
        start_ms=edit.start_ms,
        end_ms=edit.end_ms,
        free_ms=free,
    )


def at_rate(line: Line, text: str, rate: float, voice: DubVoice) -> FittedLine:
    """A line at a rate that a person chose, which ends as near to its slot's end as may be.

    Raises:
        VoxsightError: at that rate it does not end before the next line begins.
    """
    made = fit_at_rate(TranslatedLine(line, (text,)), rate, voice)
    if made is None:
        length = round(voice.measure(text, rate, 0) * 1000 / voice.sample_rate)
        raise VoxsightError(
            f"Line {line.number} takes {length} ms at a rate of {rate:g}, expected 1 to "
            f"{line.slot_ms + line.free_ms} ms, up to the next line; shorten its text, raise the "
            "rate, or give it null."
        )
    return made
