"""The waterfall: a picture of a conversation, a row for each stage and time to the right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from assistant.events import (
    Backchannelled,
    Partial,
    PictureKept,
    ReplyStopped,
    SessionFailed,
    SpeechBegan,
    TurnEnded,
)
from assistant.rehearsal import Moment
from assistant.timeline import HeardPart, TurnTimes, duration_of, heard_parts, summarise
from audio.pcm import SAMPLE_RATE, Samples, Sound

_MADE, _HEARD = "sound as made", "sound as heard"


@dataclass(frozen=True)
class Span:
    """Something that lasted from ``begin`` to ``end`` s; a moment if they are equal."""

    begin: float
    end: float
    label: str = ""


@dataclass(frozen=True)
class Lane:
    """A row of the picture; its spans are in order and never overlap."""

    name: str
    colour: str
    spans: list[Span] = field(default_factory=list)


def lanes(moments: Sequence[Moment]) -> list[Lane]:
    """The rows of the waterfall, from what came in to what was heard."""
    turns, parts = summarise(moments), heard_parts(moments)
    rows = (
        ("speech in", "#9ecae1", _speech(moments)),
        ("tentative words", "#fdd49e", _words(moments, "tentative")),
        ("committed words", "#a1d99b", _words(moments, "committed")),
        ("turn over?", "#d9d9d9", _decisions(turns)),
        ("text, from first token", "#bcbddc", _text(turns)),
        (_MADE, "#fa9fb5", _made(turns, parts)),
        (_HEARD, "#74c476", (_heard(part) for part in parts if part.end > part.begin)),
        ("silence before it", "#fb6a4a", _waits(turns)),
        ("remarks", "#de2d26", _remarks(moments)),
    )
    return [Lane(name, colour, _disjoint(spans)) for name, colour, spans in rows]


def _disjoint(spans: Iterable[Span]) -> list[Span]:
    """In order, each cut where the next one begins."""
    ordered = sorted(spans, key=lambda span: (span.begin, span.end))
    limits = [span.begin for span in ordered[1:]] + [float("inf")]
    return [
        replace(span, end=max(span.begin, min(span.end, limit)))
        for span, limit in zip(ordered, limits, strict=False)
    ]


def _ms(turn: TurnTimes, at: float) -> str:
    return f"{(at - turn.speech_end) * 1000:.0f} ms"


def _speech(moments: Sequence[Moment]) -> Iterator[Span]:
    begin: float | None = None
    for moment in moments:
        end, label, following = moment.at, "", None
        match moment.event:
            case SpeechBegan(sample):
                end = following = sample / SAMPLE_RATE
            case TurnEnded(_, question, sample):
                end, label = sample / SAMPLE_RATE, question
            case Backchannelled():
                label = "(listening)"
            case _:
                continue
        if begin is not None:
            yield Span(begin, max(begin, end), label)
        begin = following
    if begin is not None:
        yield Span(begin, max(begin, duration_of(moments)))


def _words(moments: Sequence[Moment], kind: str) -> Iterator[Span]:
    """What each partial adds, until the next one or the end of the turn."""
    changes = [m for m in moments if isinstance(m.event, Partial | TurnEnded | Backchannelled)]
    ends = [moment.at for moment in changes[1:]] + [duration_of(moments)]
    known = ""
    for moment, end in zip(changes, ends, strict=False):
        if not isinstance(moment.event, Partial):
            known = ""
            continue
        committed = moment.event.committed
        new = committed.removeprefix(known).strip()
        known = committed
        label = new if kind == "committed" else moment.event.tentative
        if label:
            yield Span(moment.at, end, label)


def _decisions(turns: Iterable[TurnTimes]) -> Iterator[Span]:
    for turn in turns:
        yield Span(turn.speech_end, turn.decided, _ms(turn, turn.decided))


def _text(turns: Iterable[TurnTimes]) -> Iterator[Span]:
    for turn in turns:
        if turn.first_text is not None and turn.last_text is not None:
            label = f"{_ms(turn, turn.first_text)}: {turn.answer.strip()}"
            yield Span(turn.first_text, turn.last_text, label)


def _made(turns: Iterable[TurnTimes], parts: Iterable[HeardPart]) -> Iterator[Span]:
    since = {t.turn: t.decided if t.first_text is None else t.first_text for t in turns}
    for part in parts:
        turn, made = part.event.turn, part.made
        yield Span(since.get(turn, made), made, f"{part.event.sound.duration_s:.2f} s")
        since[turn] = made


def _heard(part: HeardPart) -> Span:
    return Span(part.begin, part.end, " ".join(word.text for word in part.event.words))


def _waits(turns: Iterable[TurnTimes]) -> Iterator[Span]:
    for turn in turns:
        if turn.first_sound is not None:
            yield Span(turn.speech_end, turn.first_sound, _ms(turn, turn.first_sound))


def _remarks(moments: Iterable[Moment]) -> Iterator[Span]:
    for moment in moments:
        match moment.event:
            case ReplyStopped():
                yield Span(moment.at, moment.at, "interrupted")
            case Backchannelled():
                yield Span(moment.at, moment.at, "went on")
            case PictureKept(number):
                yield Span(moment.at, moment.at, f"picture {number}")
            case SessionFailed(message):
                yield Span(moment.at, moment.at, message)


def draw(moments: Sequence[Moment], sound: Sound | None = None, title: str = "") -> Image.Image:
    """The waterfall: a row for each stage, time to the right.

    It is 1600 x 700, and wider for more than half a minute.
    """
    duration = max(duration_of(moments), sound.duration_s if sound else 0.0, 1.0)
    canvas = _Canvas(duration, lanes(moments))
    if sound is not None:
        canvas.wave(sound)
    for row, lane in enumerate(canvas.rows):
        canvas.lane(row, lane)
    for part in heard_parts(moments):
        if part.end > part.begin:
            canvas.link(part.made, part.begin)
    turns = summarise(moments)
    for turn in turns:
        canvas.line(turn.speech_end, "#08519c")
        canvas.line(turn.first_sound, "#238b45")
        canvas.line(turn.interrupted, "#de2d26")
    canvas.text(12, 8, title or "Waterfall of a conversation", size=18)
    canvas.text(12, 32, _headline(turns), width=canvas.image.width - 24)
    return canvas.image


def _headline(turns: Sequence[TurnTimes]) -> str:
    waits = [t.first_sound - t.speech_end for t in turns if t.first_sound is not None]
    if not waits:
        return "No reply was heard."
    each = ", ".join(f"{wait:.2f} s" for wait in waits)
    middle = f"; median {median(waits):.2f} s" if len(waits) > 1 else ""
    return f"End of speech (blue line) to first sound (green line): {each}{middle}"


_LEFT, _TOP, _BOTTOM, _RIGHT = 180, 64, 44, 20
_INK, _PALE = "#222222", "#e6e6e6"


class _Canvas:
    """Turns seconds and rows into pixels."""

    def __init__(self, duration: float, rows: list[Lane]) -> None:
        self.rows = rows
        width, height = min(16_000, max(1600, round(duration * 48) + _LEFT + _RIGHT)), 700
        self.image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._scale = (width - _LEFT - _RIGHT) / duration
        self._height = (height - _TOP - _BOTTOM) / len(rows)
        self._axis(duration)

    def _x(self, seconds: float) -> int:
        return _LEFT + round(seconds * self._scale)

    def _y(self, row: float) -> int:
        return _TOP + round(row * self._height)

    def _axis(self, duration: float) -> None:
        steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
        step = next((step for step in steps if step * self._scale >= 70), 600)
        for number in range(int(duration / step) + 1):
            x = self._x(number * step)
            self._draw.line((x, _TOP, x, self._y(len(self.rows))), _PALE)
            self.text(x, self._y(len(self.rows)) + 6, f"{number * step:g}", anchor="ma")
        self.text(12, self._y(len(self.rows)) + 6, "seconds")

    def wave(self, sound: Sound) -> None:
        """Loudness of the sound, behind the first row."""
        middle, reach = self._y(0.6), self._height * 0.28
        peaks = _peaks(sound.samples, max(1, round(sound.duration_s * self._scale)))
        for x, peak in enumerate(peaks, _LEFT):
            self._draw.line((x, middle - peak * reach, x, middle + peak * reach), "#6b7b8c")

    def lane(self, row: int, lane: Lane) -> None:
        """One row with its name, its spans and as much of their labels as there is room for."""
        first = row == 0  # the waveform is behind it, and the labels are above
        top, bottom = self._y(row + (0.3 if first else 0.2)), self._y(row + (0.9 if first else 0.8))
        fill, outline = (None, lane.colour) if first else (lane.colour, "white")
        middle = (top + bottom) // 2 - 8
        self.text(12, middle, lane.name)
        begins = [self._x(span.begin) for span in lane.spans] + [self.image.width]
        for span, begin, following in zip(lane.spans, begins, begins[1:], strict=False):
            end = max(begin + 1, min(self._x(span.end), following))
            edge = outline if end - begin > 2 else lane.colour
            self._draw.rectangle((begin, top, end, bottom), fill, edge, width=1)
            at = top - 17 if first else middle
            self.text(begin + 4, at, span.label, width=following - begin - 6)

    def link(self, made: float, heard: float) -> None:
        """From when a part was made to when it was heard: the longer, the more is in stock."""
        names = [lane.name for lane in self.rows]
        above, below = names.index(_MADE) + 0.8, names.index(_HEARD) + 0.2
        ends = (self._x(made), self._y(above), self._x(heard), self._y(below))
        self._draw.line(ends, "#a0a0a0")

    def line(self, at: float | None, colour: str) -> None:
        """A moment that matters to all rows."""
        if at is not None:
            x = self._x(at)
            self._draw.line((x, _TOP, x, self._y(len(self.rows))), colour)

    def text(
        self, x: int, y: int, text: str, *, size: int = 13, width: float = 1e9, anchor: str = "la"
    ) -> None:
        """A text, cut to ``width`` pixels; for ``anchor`` see Pillow."""
        font = ImageFont.load_default(size)
        if font.getlength(text) > width:
            while text and font.getlength(text + "…") > width:
                text = text[:-1]
            text = text + "…" if len(text) > 1 else ""
        self._draw.text((x, y), text, _INK, font, anchor)


def _peaks(samples: Samples, columns: int) -> NDArray[np.float32]:
    """The loudest sample of each column, 1 for the loudest of all."""
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    peaks: NDArray[np.float32] = np.maximum.reduceat(np.abs(samples), edges)
    return peaks / max(float(peaks.max()), 1e-6)
