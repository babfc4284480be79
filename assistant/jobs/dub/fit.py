"""Fit: which wording, how fast and with which seed a line takes as long as the original did.

Where that is not enough, it pauses longer at its marks, begins a little late, borrows the pause
after it, or is stretched in time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, log

from assistant.errors import ConfigError
from assistant.jobs.dub import pauses
from assistant.jobs.dub.lines import (
    FASTEST_RATE,
    SHORTEST_STRETCH,
    SLOWEST_RATE,
    FittedLine,
    TranslatedLine,
)
from assistant.jobs.dub.voices import DubVoice

#: Why the original of a line is kept that no wording fits.
TOO_LONG = "no wording is short enough, however fast it is spoken"


@dataclass(frozen=True)
class FitOptions:
    """seeds: readings that are measured, as a voice's durations vary; miss_ms: the end of a line
    may be so far from the end of its slot without borrowing; wordings: that are measured closely.
    """

    seeds: int = 16
    miss_ms: int = 150
    wordings: int = 4

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.wordings < 1 or self.miss_ms < 0:
            raise ConfigError(
                "Expected 1 or more seeds and wordings to try and a miss of 0 ms or more, got "
                f"{self.seeds}, {self.wordings} and {self.miss_ms}."
            )


DEFAULT_OPTIONS = FitOptions()

_CORRECTIONS = 2  # of a rate by the length that it gives
_CLOSELY = 3  # wordings at a rate that are tried with every seed
_EARLY_MS = 15  # aimed at before the end, beyond which there may be no room at all
_FADE_MS = 45  # at the end of a line its voice dies away: it goes on so long after it is heard
_COMMA_MS = 250  # that a voice pauses at a mark within a line
# What is too short pauses so much longer at each mark, at the most, and then begins so much after
# the lips: ITU-R BT.1359 accepts sound 185 ms late.
_LONGEST_PAUSE_MS, _LATEST_START_MS = 800, 180

# What a listener minds, in one unit: a rate at its bound, or an end a whole miss away.
_OTHER_WORDING, _LATER_WORDING = 0.3, 0.05  # the first is the best translation
_MISS, _BEYOND = 2.0, 20.0
_BORROW, _BORROW_S = 2.5, 3.0  # before a stretch, after any rate
_PAUSE, _PAUSE_S = 1.0, 3.0  # after any rate
_LATE_START = 3.0
_STRETCH, _STRETCH_SHARE = 3.0, 20.0
_UNNATURAL, _UNNATURAL_SHARE = 25.0, 100.0  # a pace out of bounds, after any small miss
_SILENCE = 2.0  # for a line that is all pauses


def fit(
    lines: Sequence[TranslatedLine], voice: DubVoice, options: FitOptions = DEFAULT_OPTIONS
) -> tuple[FittedLine, ...]:
    """The lines as they are to be spoken, in order.

    A line whose original is kept, and one that no wording fits without speaking into the next
    line, is left out. The same lines and voice give the same result.
    """
    fitted = (fit_line(line, voice, options) for line in lines if line.wordings)
    return tuple(line for line in fitted if line is not None)


def fit_line(
    line: TranslatedLine, voice: DubVoice, options: FitOptions = DEFAULT_OPTIONS
) -> FittedLine | None:
    """The best way to speak a line; None if nothing ends before the next line begins."""
    found = [fitted for _, fitted in ranked(line, voice, options)]
    return found[0] if found else None


def fit_at_rate(
    line: TranslatedLine, rate: float, voice: DubVoice, options: FitOptions = DEFAULT_OPTIONS
) -> FittedLine | None:
    """The best way to speak the first wording at a rate that is given, never stretched.

    None if no reading ends before the next line begins.
    """
    search, wording = _Search(line, voice, options), line.wordings[0]
    ways = (way for seed in range(options.seeds) for way in search.at(wording, rate, seed))
    return min((way for way in ways if way.stretch == 1), key=search.cost, default=None)


def ranked(
    line: TranslatedLine, voice: DubVoice, options: FitOptions = DEFAULT_OPTIONS
) -> list[tuple[float, FittedLine]]:
    """All ways to speak a line that were measured, the best first, each with its cost."""
    search = _Search(line, voice, options)
    ways = [(round(search.cost(way), 6), way) for way in search.ways()]
    return sorted(ways, key=lambda pair: (pair[0], pair[1].seed, pair[1].rate, pair[1].wording))


@dataclass(frozen=True)
class _Measured:
    """A wording at a rate and with a seed, and how long the voice takes for it."""

    wording: str
    rate: float
    seed: int
    length_ms: float


class _Search:
    """One line, its voice, and what has been measured."""

    def __init__(self, line: TranslatedLine, voice: DubVoice, options: FitOptions) -> None:
        self.translated, self.line, self.options = line, line.line, options

        @cache
        def length_ms(wording: str, rate: float, seed: int) -> float:
            return voice.measure(wording, rate, seed) * 1000 / voice.sample_rate

        self._length_ms = length_ms
        self._fade_ms = min(_FADE_MS, self.line.free_ms)

    def ways(self) -> Iterator[FittedLine]:
        """Ways to speak the line: the likeliest wordings at a few rates, the best with every seed.

        If none fits, every wording as fast as may be.
        """
        seeds = range(self.options.seeds)
        first = [
            way
            for wording in self._likeliest()
            for rate in self._rates(wording)
            for way in self.at(wording, rate, 0)
        ]
        yield from first
        if not first:
            for wording in self.translated.wordings:
                for seed in seeds:
                    yield from self.at(wording, FASTEST_RATE, seed)
        first.sort(key=lambda way: (self.cost(way), way.rate, way.wording))
        best = dict.fromkeys((way.wording, way.rate) for way in first)
        for wording, rate in list(best)[:_CLOSELY]:
            for seed in seeds[1:]:
                yield from self.at(wording, rate, seed)

    def _rates(self, wording: str) -> list[float]:
        """Rates at which a wording comes near to the slot, or to slot and pause together.

        Pauses that a voice trims last the same at any rate, so the length may not just follow the
        rate: each rate is corrected by what it gives.
        """
        slot_ms, natural_ms = self.line.slot_ms, self._length_ms(wording, 1.0, 0)
        rates: set[float] = set()
        for goal_ms in {slot_ms, min(slot_ms + self.line.free_ms, round(natural_ms))}:
            end_ms = goal_ms + min(self._fade_ms, slot_ms + self.line.free_ms - goal_ms)
            near = 0 <= end_ms - natural_ms <= _EARLY_MS
            aim_ms = max(1, end_ms - (0 if near else _EARLY_MS))
            rate = natural_ms / aim_ms
            for _ in range(_CORRECTIONS):
                rates.add(bounded := _bounded(rate))
                rate = bounded * self._length_ms(wording, bounded, 0) / aim_ms
            rates.add(_bounded(rate))
        return sorted(rates)

    def cost(self, way: FittedLine) -> float:
        """How much a listener minds."""
        at = self.translated.wordings.index(way.wording)
        off_ms = abs(way.miss_ms - (0 if way.borrowed_ms else self._fade_ms))
        miss = max(0, off_ms - _EARLY_MS) / max(1, self.options.miss_ms)
        pace = way.rate / way.stretch
        unnatural = abs(log(pace / _bounded(pace)))
        return (
            (_OTHER_WORDING + _LATER_WORDING * at if at else 0.0)
            + abs(log(way.rate)) / log(FASTEST_RATE)
            + _MISS * miss
            + (_BEYOND * miss if miss > 1 else 0.0)
            + (_BORROW + _BORROW_S * way.borrowed_ms / 1000 if way.borrowed_ms else 0.0)
            + (_PAUSE + _PAUSE_S * way.added_pause_ms / 1000 if way.added_pause_ms else 0.0)
            + _LATE_START * (way.start_ms - self.line.start_ms) / _LATEST_START_MS
            + (_STRETCH + _STRETCH_SHARE * abs(way.stretch - 1) if way.stretch != 1 else 0.0)
            + (_UNNATURAL + _UNNATURAL_SHARE * unnatural if unnatural > 1e-3 else 0.0)
            + _SILENCE * pauses.count(way.wording) * _COMMA_MS / self.line.slot_ms
        )

    def _likeliest(self) -> list[str]:
        """The wordings that come nearest to the slot at a rate that is allowed, best first.

        The shortest is always among them: it may be the only one that fits.
        """
        scored = []
        for at, wording in enumerate(self.translated.wordings):
            natural_ms = self._length_ms(wording, 1.0, 0)
            if not natural_ms:
                continue
            wanted = natural_ms / self.line.slot_ms
            off = abs(log(wanted / _bounded(wanted)))
            rate = abs(log(_bounded(wanted))) / log(FASTEST_RATE)
            scored.append((off * 20 + rate + (_OTHER_WORDING if at else 0), at, wording))
        likeliest = [wording for _, _, wording in sorted(scored)[: self.options.wordings]]
        sounding = [wording for _, _, wording in scored]
        shortest = min(sounding, key=lambda wording: self._length_ms(wording, 1.0, 0), default="")
        return likeliest if shortest in likeliest or not shortest else [*likeliest, shortest]

    def at(self, wording: str, rate: float, seed: int) -> Iterator[FittedLine]:
        """One reading as it is, and in other ways where it misses the slot."""
        length_ms = self._length_ms(wording, rate, seed)
        if not length_ms:
            return
        reading = _Measured(wording, rate, seed, length_ms)
        yield from self._placed(reading)
        short_ms = self.line.slot_ms - round(length_ms)
        if short_ms + self._fade_ms > self.options.miss_ms:
            yield from self._slowly(reading, short_ms + self._fade_ms)
        elif -short_ms > self.options.miss_ms:
            for goal in (self.line.slot_ms, self.line.slot_ms + self.line.free_ms):
                stretch = floor(goal / length_ms * 1000) / 1000  # never beyond the goal
                if stretch < 1:
                    yield from self._placed(reading, stretch=max(stretch, SHORTEST_STRETCH))

    def _slowly(self, reading: _Measured, short_ms: int) -> Iterator[FittedLine]:
        """A reading that is too short, with longer pauses, begun a little later, or both.

        It begins late only where it then ends in its slot; else that would help nobody.
        """
        most = min(short_ms, pauses.count(reading.wording) * _LONGEST_PAUSE_MS)
        for added_pause_ms in sorted({0, most}):
            if added_pause_ms:
                yield from self._placed(reading, added_pause_ms=added_pause_ms)
            late_ms = min(short_ms - added_pause_ms, _LATEST_START_MS)
            if late_ms and short_ms - added_pause_ms - late_ms <= self.options.miss_ms:
                yield from self._placed(reading, added_pause_ms=added_pause_ms, late_ms=late_ms)

    def _placed(
        self, reading: _Measured, *, stretch: float = 1.0, added_pause_ms: int = 0, late_ms: int = 0
    ) -> Iterator[FittedLine]:
        """The reading at its time, unless it would speak into the next line."""
        line = self.line
        length_ms = round(reading.length_ms * stretch) + added_pause_ms
        over_ms = late_ms + length_ms - line.slot_ms
        if over_ms > line.free_ms or length_ms < 1:
            return
        yield FittedLine(
            line=line,
            wording=reading.wording,
            rate=reading.rate,
            stretch=stretch,
            start_ms=line.start_ms + late_ms,
            end_ms=line.start_ms + late_ms + length_ms,
            borrowed_ms=over_ms if over_ms > self.options.miss_ms else 0,
            seed=reading.seed,
            added_pause_ms=added_pause_ms,
        )


def _bounded(rate: float) -> float:
    return round(min(max(rate, SLOWEST_RATE), FASTEST_RATE), 3)
