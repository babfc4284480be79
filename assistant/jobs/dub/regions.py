"""Where somebody speaks in a recording of any length: voice activity, then edges by energy."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE, Samples
from audio.vad import BLOCK, SileroVad, VadState

_RUN = 512 * BLOCK  # samples that the detector is given at once: 16 s
_SILENT_PEAK = 1e-4  # three steps of 16 bits: no voice, and the detector need not look
_STEP = SAMPLE_RATE // 100  # samples of one value of the energy: 10 ms
_EDGE_STEPS = 12  # that an edge may move outwards: the detector is late by so much at most
_BELOW_PEAK = 10 ** (-35 / 10)  # power; what is softer than the peak by 35 dB is no voice
_ABOVE_NOISE = 10 ** (6 / 10)  # power above the softest tenth around


@dataclass(frozen=True)
class RegionRules:
    """on, off: probability at which speech begins and ends; pause_s: a shorter one is within
    speech; shortest_s: less is a click; longest_s: more is cut where speech is least likely.
    """

    on: float = 0.5
    off: float = 0.35
    pause_s: float = 0.35
    shortest_s: float = 0.1
    longest_s: float = 28.0


DEFAULT_RULES = RegionRules()


@dataclass(frozen=True)
class Span:
    """A stretch of a sound at 16 kHz, in samples."""

    start: int
    end: int

    @property
    def samples(self) -> int:
        """Its length."""
        return self.end - self.start


def find_regions(path: Path, vad: SileroVad, rules: RegionRules = DEFAULT_RULES) -> list[Span]:
    """The stretches of speech in a 16 kHz mono file, in order, with a pause between them.

    Digital silence costs next to nothing, and only the probabilities are kept.
    """
    probabilities = np.concatenate([np.zeros(0, np.float32), *_probabilities(path, vad)])
    return [part for span in _spans(probabilities, rules) for part in _cut(span, rules)]


def read_span(path: Path, span: Span, margin: int = 0) -> tuple[Samples, int]:
    """The samples of a span with up to ``margin`` more on both sides, and where they begin."""
    with soundfile.SoundFile(path) as file:
        start = max(0, span.start - margin)
        file.seek(min(start, file.frames))
        samples = file.read(span.end + margin - start, dtype="float32")
    return np.asarray(samples, np.float32), start


def trimmed(samples: Samples, start: int, end: int) -> tuple[int, int]:
    """``start`` and ``end``, moved to where the sound between them begins and ends.

    Each may move inwards, and outwards by up to 120 ms while the sound goes on; never so far that
    nothing is left.
    """
    first = start // _STEP
    last = max(first + 1, -(-end // _STEP))
    power = _powers(samples)
    inside = power[first:last]
    if not len(inside) or not inside.max():
        return start, end
    around = power[max(0, first - 50) : last + 50]
    floor = max(inside.max() * _BELOW_PEAK, float(np.quantile(around, 0.1)) * _ABOVE_NOISE)
    loud = np.flatnonzero(inside > floor)
    if not len(loud):
        return start, end
    begin, stop = first + int(loud[0]), first + int(loud[-1]) + 1
    while begin == first > 0 and first > start // _STEP - _EDGE_STEPS and power[first - 1] > floor:
        begin = first = first - 1
    limit = min(len(power), last + _EDGE_STEPS)
    while last <= stop < limit and power[stop] > floor:
        stop += 1
    return begin * _STEP, min(stop * _STEP, len(samples))


def _powers(samples: Samples) -> NDArray[np.float64]:
    """(n,) -> (ceil(n / 160),): mean square of each 10 ms."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % _STEP))
    return np.asarray(np.square(padded.reshape(-1, _STEP)).mean(axis=1))


def _probabilities(path: Path, vad: SileroVad) -> Iterator[NDArray[np.float32]]:
    """The probability of speech in each 32 ms, run by run."""
    with soundfile.SoundFile(path) as file:
        if file.samplerate != SAMPLE_RATE or file.channels != 1:
            raise AudioError(f"expected 16 kHz mono sound in {path.name}, got {file.samplerate} Hz")
        state = VadState()
        while len(run := file.read(_RUN, dtype="float32")):
            if np.abs(run).max() < _SILENT_PEAK:
                state = VadState()
                yield np.zeros(-(-len(run) // BLOCK), np.float32)
            else:
                yield vad.push(state, np.pad(run, (0, -len(run) % BLOCK)))


@dataclass(frozen=True, eq=False)
class _Spoken:
    """A run of speech: its first block, and the probability in each."""

    start: int
    probabilities: NDArray[np.float32]


def _spans(probabilities: NDArray[np.float32], rules: RegionRules) -> Iterator[_Spoken]:
    pause, shortest = (round(s * SAMPLE_RATE / BLOCK) for s in (rules.pause_s, rules.shortest_s))
    for start, end in _joined(_runs(probabilities, rules), pause):
        if end - start >= shortest:
            yield _Spoken(start, probabilities[start:end])


def _runs(probabilities: Iterable[float], rules: RegionRules) -> Iterator[tuple[int, int]]:
    """First and last block of each run: begun above one threshold, ended below the other."""
    start, at = -1, -1
    for at, probability in enumerate(probabilities):
        if start < 0 and probability >= rules.on:
            start = at
        elif start >= 0 and probability < rules.off:
            yield start, at
            start = -1
    if start >= 0:
        yield start, at + 1


def _joined(runs: Iterable[tuple[int, int]], pause: int) -> Iterator[tuple[int, int]]:
    held: tuple[int, int] | None = None
    for start, end in runs:
        if held and start - held[1] < pause:
            held = held[0], end
            continue
        if held:
            yield held
        held = start, end
    if held:
        yield held


def _cut(spoken: _Spoken, rules: RegionRules) -> Iterator[Span]:
    """The run as spans that are short enough, cut in their second half where speech is weakest."""
    longest = int(rules.longest_s * SAMPLE_RATE / BLOCK)
    start, left = spoken.start, spoken.probabilities
    while len(left) > longest:
        cut = longest // 2 + int(left[longest // 2 : longest].argmin())
        yield Span(start * BLOCK, (start + cut) * BLOCK)
        start, left = start + cut, left[cut:]
    yield Span(start * BLOCK, (start + len(left)) * BLOCK)
