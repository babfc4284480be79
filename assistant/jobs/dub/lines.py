"""What a dub is made of: lines of speech on their way from the original to the new voice."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from assistant.errors import VoxsightError

#: What the dub may do to a voice's pace, and to its sound where nothing else helps.
SLOWEST_RATE, FASTEST_RATE = 0.85, 1.25
SHORTEST_STRETCH = 0.9


class Record:
    """A frozen dataclass that is written as JSON and read back strictly."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    def to_dict(self) -> dict[str, JsonValue]:
        """The fields as JSON has them."""
        written: dict[str, JsonValue] = TypeAdapter[Any](type(self)).dump_python(self, mode="json")
        return written

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, or a person edited.

        Raises VoxsightError for an unknown or missing field, a wrong type, or a value out of range.
        """
        try:
            return TypeAdapter[Self](cls).validate_json(json.dumps(data))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise VoxsightError(f"A {cls.__name__} is wrong at {place}: {first['msg']}.") from None


@dataclass(frozen=True)
class Line(Record):
    """One line of the original; times in ms from the start of the source.

    number: from 1; start_ms, end_ms: its slot, from the first word's start to the last one's end;
    free_ms: pause after it that may be borrowed; language: its code; speaker: "A" where nobody
    tells speakers apart; original: what is said.
    """

    number: int
    start_ms: int
    end_ms: int
    free_ms: int
    language: str
    speaker: str
    original: str

    def __post_init__(self) -> None:
        if self.number < 1:
            raise VoxsightError(f"Expected lines numbered from 1, got the number {self.number}.")
        if not 0 <= self.start_ms < self.end_ms or self.free_ms < 0:
            raise VoxsightError(
                f"Line {self.number} should end after it starts and have a pause of 0 ms or more "
                f"after it, but has start_ms {self.start_ms}, end_ms {self.end_ms}, "
                f"free_ms {self.free_ms}."
            )

    @property
    def slot_ms(self) -> int:
        """How long the original speaks."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True)
class TranslatedLine(Record):
    """A line in the other language: the best wording first, then others, shorter and longer.

    kept: why the original sound stays instead; then, and only then, there is no wording.
    """

    line: Line
    wordings: tuple[str, ...]
    kept: str = ""

    def __post_init__(self) -> None:
        if bool(self.wordings) == bool(self.kept) or not all(map(str.strip, self.wordings)):
            raise VoxsightError(
                f"Line {self.line.number} should have wordings, none of them empty, or a reason "
                f"why its original is kept; got {list(self.wordings)} and {self.kept!r}."
            )


@dataclass(frozen=True)
class FittedLine(Record):
    """How a line is to be spoken: wording, pace and seed of the voice, and the planned times.

    rate: of the voice, 1.0 is its own; stretch: of the sound that it makes, < 1 is shorter, 1.0
    is none; start_ms, end_ms: planned, borrowed_ms of the pause after the slot included; seed: the
    voice's; added_pause_ms: silence that is added at the marks within it.
    """

    line: Line
    wording: str
    rate: float
    stretch: float
    start_ms: int
    end_ms: int
    borrowed_ms: int
    seed: int
    added_pause_ms: int = 0

    def __post_init__(self) -> None:
        where = f"Line {self.line.number} should"
        if not SLOWEST_RATE <= self.rate <= FASTEST_RATE:
            raise VoxsightError(
                f"{where} be spoken at a rate of {SLOWEST_RATE} to {FASTEST_RATE}, got {self.rate}."
            )
        if not SHORTEST_STRETCH <= self.stretch <= 1:
            raise VoxsightError(
                f"{where} be stretched by {SHORTEST_STRETCH} to 1, got {self.stretch}."
            )
        if not self.line.start_ms <= self.start_ms < self.end_ms or not self.wording.strip():
            raise VoxsightError(
                f"{where} say something within its times, got {self.wording!r} from "
                f"{self.start_ms} to {self.end_ms} ms."
            )
        if self.added_pause_ms < 0:
            raise VoxsightError(
                f"{where} pause 0 ms or more at its marks, got {self.added_pause_ms}."
            )
        if not 0 <= self.borrowed_ms <= self.line.free_ms:
            raise VoxsightError(
                f"{where} borrow 0 to {self.line.free_ms} ms of the pause, got {self.borrowed_ms}."
            )

    @property
    def miss_ms(self) -> int:
        """How far the end is from the end of the slot, borrowed pause included; > 0 is late."""
        return self.end_ms - self.line.end_ms - self.borrowed_ms


@dataclass(frozen=True)
class SpokenLine(Record):
    """A line as it was spoken; times in ms from the start of the source.

    words: text, start, end; back_text: what a recogniser understands of it; back_wer: that against
    the wording; silence_ms: within its time. The samples lie beside, in voice.au.
    """

    fitted: FittedLine
    start_ms: int
    end_ms: int
    words: tuple[tuple[str, int, int], ...]
    back_text: str
    back_wer: float
    silence_ms: int
