"""The time line of a dub as a picture: old and new lines under each other, paces, loudness."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unicodedata import combining, normalize

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from assistant.jobs.dub.lines import FASTEST_RATE, SLOWEST_RATE, SpokenLine
from assistant.jobs.dub.mix import RATE, stereo_blocks
from assistant.jobs.dub.report import DubReport, end_error_ms, in_slot

_WIDTH, _LEFT, _RIGHT = 1800, 120, 24
_STRIP_S, _MOST_STRIPS = 30.0, 40
_HEAD, _STRIP = 104, 234
_INK, _DIM, _PALE = "#222222", "#767676", "#e4e4e4"
_OLD, _OLD_WAVE = "#c6dbef", "#6b93b8"
_NEW_WAVE = "#5f9e6e"
_GOOD, _FAIR, _POOR, _KEPT = "#a1d99b", "#fdd49e", "#fb8a72", "#d9d9d9"
_BORROWED = "#2f7d4f"
_FLOOR_DB = -60.0
# Rows of a strip: top and height in pixels.
_WAVE_OLD, _ROW_OLD, _ROW_NEW, _WAVE_NEW, _ROW_RATE = (
    *((4, 40), (48, 32), (84, 32), (120, 40)),
    (168, 36),
)


def draw(report: DubReport, original: Path, mixed: Path) -> Image.Image:
    """The picture of a job: strips of half a minute, longer ones for more than 20 minutes.

    Args:
        report: the finished dub.
        original, mixed: the two sounds, for their loudness.
    """
    duration = _duration(mixed)
    seconds = max(_STRIP_S, duration / _MOST_STRIPS)
    strips = max(1, int(np.ceil(duration / seconds)))
    image = Image.new("RGB", (_WIDTH, _HEAD + strips * _STRIP + 8), "white")
    _head(ImageDraw.Draw(image), report)
    columns = _WIDTH - _LEFT - _RIGHT
    waves = [_levels(path, seconds, columns, strips) for path in (original, mixed)]
    for number in range(strips):
        strip = _Strip(image, number, seconds)
        strip.axis()
        for top, wave, colour in zip(
            (_WAVE_OLD, _WAVE_NEW), waves, (_OLD_WAVE, _NEW_WAVE), strict=True
        ):
            strip.wave(top, wave[number * columns : (number + 1) * columns], colour)
        strip.kept(report)
        for line in report.lines:
            strip.line(line)
    return image


def _head(ink: ImageDraw.ImageDraw, report: DubReport) -> None:
    figures = report.summary()
    ink.text((12, 8), f"{report.source.name} in {report.language}", _INK, _font(20))
    told = (
        f"{figures['lines']} lines, {_share(figures['lines_in_slot'])} end in their slot, "
        f"{_share(figures['rate_in_range'])} at {SLOWEST_RATE:g} to {FASTEST_RATE:g} times the "
        f"voice's pace, {_share(figures['silence_in_slot'])} of the slots silent, recognised back "
        f"with {_share(figures['back_wer'])} word errors"
    )
    ink.text((12, 38), told, _INK, _font(14))
    if figures["lufs"] is not None and figures["original_lufs"] is not None:
        loud = (
            f"Loudness {figures['lufs']:.1f} LUFS, the original {figures['original_lufs']:.1f}; "
            f"true peak {figures['true_peak_db']:.1f} dB"
        )
        ink.text((12, 58), loud, _INK, _font(14))
    at = 12
    for colour, label in (
        (_OLD, "original line"),
        (_GOOD, "in its slot, understood"),
        (_FAIR, "word errors"),
        (_POOR, "ends outside its slot"),
        (_BORROWED, "borrowed pause"),
        (_KEPT, "original kept"),
    ):
        ink.rectangle((at, 84, at + 16, 96), colour, _DIM)
        ink.text((at + 22, 82), label, _INK, _font(13))
        at += 40 + round(_font(13).getlength(label))


def _share(value: float | int | None) -> str:
    return f"{100 * (value or 0):.1f} %"


@dataclass(frozen=True)
class _Strip:
    """Half a minute or more of the time line."""

    image: Image.Image
    number: int
    seconds: float

    @property
    def _ink(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    @property
    def _top(self) -> int:
        return _HEAD + self.number * _STRIP

    def _x(self, ms: float) -> float:
        scale = (_WIDTH - _LEFT - _RIGHT) / self.seconds
        return _LEFT + (ms / 1000 - self.number * self.seconds) * scale

    def _span(self, start_ms: int, end_ms: int) -> tuple[float, float] | None:
        """Where a time lies in this strip, cut at its ends; None if it does not."""
        low, high = max(self._x(start_ms), _LEFT), min(self._x(end_ms), _WIDTH - _RIGHT)
        return (low, high) if low < high else None

    def axis(self) -> None:
        """Seconds, and the names of the rows."""
        ink, top = self._ink, self._top
        step = next(s for s in (1, 2, 5, 10, 30, 60, 300, 1800) if s * 1676 / self.seconds >= 60)
        first = int(np.ceil(self.number * self.seconds / step))
        bottom = top + _ROW_RATE[0] + _ROW_RATE[1]
        for count in range(first, int((self.number + 1) * self.seconds / step) + 1):
            x = self._x(count * step * 1000)
            ink.line((x, top, x, bottom), _PALE)
            minutes, rest = divmod(count * step, 60)
            ink.text((x, bottom + 4), f"{minutes}:{rest:02d}", _DIM, _font(12), "ma")
        for (row, height), name in (
            (_WAVE_OLD, "original"),
            (_ROW_OLD, "its lines"),
            (_ROW_NEW, "dubbed lines"),
            (_WAVE_NEW, "dub"),
            (_ROW_RATE, f"pace {SLOWEST_RATE:g}-{FASTEST_RATE:g}"),
        ):
            ink.text((12, top + row + height / 2), name, _INK, _font(13), "lm")

    def wave(self, row: tuple[int, int], levels: NDArray[np.float32], colour: str) -> None:
        """The loudness of a sound, a column for each of the levels 0 to 1."""
        ink, middle = self._ink, self._top + row[0] + row[1] / 2
        for x, value in enumerate(levels, _LEFT):
            if value > 0:
                reach = float(value) * row[1] / 2
                ink.line((x, middle - reach, x, middle + reach), colour)

    def kept(self, report: DubReport) -> None:
        """The lines whose original is heard."""
        for kept in report.kept:
            line = kept.line
            self._box(
                _ROW_OLD, line.start_ms, line.end_ms, _OLD, _readable(line.original, line.language)
            )
            self._box(_ROW_NEW, line.start_ms, line.end_ms, _KEPT, kept.kept)

    def line(self, line: SpokenLine) -> None:
        """An original line, what became of it, and its pace."""
        fitted, old = line.fitted, line.fitted.line
        label = _readable(old.original, old.language)
        self._box(_ROW_OLD, old.start_ms, old.end_ms, _OLD, label)
        colour = _POOR if not in_slot(line) else _FAIR if line.back_wer else _GOOD
        self._box(
            _ROW_NEW,
            line.start_ms,
            line.end_ms,
            colour,
            f"{old.number}: {_readable(fitted.wording, '')}",
        )
        borrowed = self._span(old.end_ms, old.end_ms + fitted.borrowed_ms)
        if borrowed is not None:
            bottom = self._top + _ROW_NEW[0] + _ROW_NEW[1]
            self._ink.rectangle((borrowed[0], bottom - 4, borrowed[1], bottom), _BORROWED)
        self._pace(line)

    def _box(self, row: tuple[int, int], start: int, end: int, colour: str, label: str) -> None:
        span = self._span(start, end)
        if span is None:
            return
        top = self._top + row[0]
        self._ink.rectangle((span[0], top, span[1], top + row[1]), colour, "white")
        self._wrapped(span, top + 2, label)

    def _wrapped(self, span: tuple[float, float], top: int, label: str) -> None:
        """A label on two lines at most, cut where there is no room."""
        font, room = _font(12), span[1] - span[0] - 6
        words, rows = label.split(), [""]
        for word in words:
            joined = f"{rows[-1]} {word}".strip()
            if font.getlength(joined) <= room or not rows[-1]:
                rows[-1] = joined
            elif len(rows) == 2:
                rows[-1] = f"{rows[-1]} {word}"
                break
            else:
                rows.append(word)
        for number, text in enumerate(rows):
            self._ink.text((span[0] + 4, top + 14 * number), _cut(text, room), _INK, font)

    def _pace(self, line: SpokenLine) -> None:
        """The rate between its bounds, and how far from the slot's end the line ends."""
        span = self._span(line.start_ms, line.end_ms)
        if span is None:
            return
        ink, (row, height) = self._ink, _ROW_RATE
        low, high = self._top + row + height - 14, self._top + row
        middle = low - (1.0 - SLOWEST_RATE) / (FASTEST_RATE - SLOWEST_RATE) * (low - high)
        rate = line.fitted.rate / line.fitted.stretch
        y = low - (rate - SLOWEST_RATE) / (FASTEST_RATE - SLOWEST_RATE) * (low - high)
        for edge in (low, high):
            ink.line((span[0], edge, span[1], edge), _PALE)
        ink.rectangle((span[0], min(y, middle), span[1], max(y, middle)), _OLD_WAVE)
        fitted = line.fitted
        stretched = f" (sound x {fitted.stretch:.2f})" if fitted.stretch != 1.0 else ""
        paused = f", pauses {fitted.added_pause_ms} ms longer" if fitted.added_pause_ms else ""
        label = f"x {fitted.rate:.2f}{stretched}{paused}, {end_error_ms(line):+d} ms"
        ink.text((span[0], low + 2), _cut(label, span[1] - span[0] + 40), _DIM, _font(11))


def _cut(text: str, room: float) -> str:
    font = _font(12)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…" if text else ""


def _readable(text: str, language: str) -> str:
    """The text without accents, which the picture's font lacks; its language for other scripts."""
    parts = normalize("NFKD", text.replace("’", "'").replace("ł", "l").replace("ß", "ss"))
    plain = "".join(sign for sign in parts if not combining(sign))
    letters = [sign for sign in plain if sign.isalpha()]
    foreign = sum(not sign.isascii() for sign in letters)
    if foreign > len(letters) / 5:
        return f"({language})"
    return "".join(sign if sign.isascii() else "?" for sign in plain)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _duration(path: Path) -> float:
    return float(soundfile.info(path).duration)


def _levels(path: Path, seconds: float, columns: int, strips: int) -> NDArray[np.float32]:
    """Loudness of each column of all strips, 0 at -60 dB and below, 1 at full scale."""
    step = seconds / columns * RATE
    powers = np.zeros(columns * strips)
    at = 0
    for block in stereo_blocks(path):
        places = ((at + np.arange(len(block))) / step).astype(int)
        inside = places < len(powers)
        power = np.square(block).mean(axis=1)
        powers += np.bincount(places[inside], power[inside], minlength=len(powers))
        at += len(block)
    decibels = 10 * np.log10(np.maximum(powers / step, 1e-12))
    shares: NDArray[np.float32] = np.clip(1 - decibels / _FLOOR_DB, 0, 1).astype(np.float32)
    return shares
