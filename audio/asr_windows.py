"""Where a long sound is cut for recognition: at its pauses, into windows of speech."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE, Samples
from audio.vad import BLOCK, SileroVad, VadState

#: ``map``, or what does the same in several threads.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

# Silero's own thresholds: speech begins at the one and ends below the other.
_ON = 0.5
_OFF = 0.35
_SHORTEST_PAUSE = 4  # blocks, 128 ms: what is shorter lies within a word
_SHORTEST_SPEECH = 3  # blocks
_SMOOTH = 3  # blocks over which the likelihood is averaged to find the quietest
# Sections are heard on their own, so that threads can share a long sound. The state that the
# sound before has left fades within this lead-in.
_SECTION = 1875  # blocks, 60 s
_LEAD_IN = 64  # blocks, 2 s
# Below this peak (three steps of 16 bits) a section holds no sound.
_SILENT_PEAK = 1e-4


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a sound, from sample ``begin`` to sample ``end``."""

    begin: int
    end: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.begin) / SAMPLE_RATE


@dataclass(frozen=True)
class Cutting:
    """How speech becomes windows; all in s.

    longest: speech without a pause is cut at its quietest moment before this; gap: a longer pause
    always ends a window; margin: what a window takes of the pauses around it.
    """

    longest_s: float = 20.0
    gap_s: float = 1.5
    margin_s: float = 0.2

    def __post_init__(self) -> None:
        if not 2 <= self.longest_s <= 28:
            raise AudioError(f"expected windows of 2 to 28 s at most, got {self.longest_s}")
        if not 0.2 <= self.gap_s <= 28:
            raise AudioError(f"expected a gap of 0.2 to 28 s, got {self.gap_s}")
        if not 0 <= self.margin_s <= 0.5:
            raise AudioError(f"expected a margin of 0 to 0.5 s, got {self.margin_s}")


def speech_likelihood(vad: SileroVad, samples: Samples, run: Map = map) -> NDArray[np.float32]:
    """How likely each whole block of 512 samples is speech, (n // 512,).

    ``run`` may hear the sections of 60 s in several threads; what comes out is the same.
    """
    blocks = len(samples) // BLOCK

    def hear(start: int) -> NDArray[np.float32]:
        end = min(start + _SECTION, blocks)
        section = samples[start * BLOCK : end * BLOCK]
        if np.abs(section).max() < _SILENT_PEAK:
            return np.zeros(end - start, np.float32)
        lead = min(start, _LEAD_IN)
        return vad.push(VadState(), samples[(start - lead) * BLOCK : end * BLOCK])[lead:]

    parts = list(run(hear, range(0, blocks, _SECTION)))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def cut_windows(likelihood: NDArray[np.float32], samples: int, cutting: Cutting) -> list[Span]:
    """Cut a sound of so many ``samples`` into windows of speech, in order; none overlap.

    A window ends at the longest pause in its second half, so that sentences stay whole where they
    can. ``likelihood`` is that of ``speech_likelihood``.
    """
    longest = _blocks(cutting.longest_s)
    parts = [
        part
        for begin, end in _speech(likelihood)
        for part in _split(likelihood, begin, end, longest)
    ]
    packed = _pack(parts, longest, _blocks(cutting.gap_s))
    return _with_margins(packed, samples, round(cutting.margin_s * SAMPLE_RATE))


def speech_seconds(likelihood: NDArray[np.float32], span: Span) -> float:
    """How much of a stretch is speech."""
    within = likelihood[-(-span.begin // BLOCK) : span.end // BLOCK]
    return int((within >= _ON).sum()) * BLOCK / SAMPLE_RATE


def _blocks(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE / BLOCK)


def _speech(likelihood: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Blocks (begin, end) of speech without a pause."""
    found: list[tuple[int, int]] = []
    begin: int | None = None
    end = 0
    for block, value in enumerate([*likelihood.tolist(), *[0.0] * _SHORTEST_PAUSE]):
        if value >= (_ON if begin is None else _OFF):
            begin = block if begin is None else begin
            end = block + 1
        elif begin is not None and block + 1 - end >= _SHORTEST_PAUSE:
            if end - begin >= _SHORTEST_SPEECH:
                found.append((begin, end))
            begin = None
    return found


def _split(
    likelihood: NDArray[np.float32], begin: int, end: int, longest: int
) -> list[tuple[int, int]]:
    """Speech without a pause, cut where it is least likely speech, in the second half of each."""
    parts = []
    while end - begin > longest:
        middle = begin + longest // 2
        around = np.convolve(likelihood[middle : begin + longest], np.ones(_SMOOTH), "same")
        # The ends of "same" see fewer blocks, and would look quiet.
        cut = middle + 1 + int(np.argmin(around[1:-1]))
        parts.append((begin, cut))
        begin = cut
    return [*parts, (begin, end)]


def _pack(parts: list[tuple[int, int]], longest: int, gap: int) -> list[tuple[int, int]]:
    """Join neighbours into windows of at most ``longest`` blocks."""
    packed: list[tuple[int, int]] = []
    first = 0
    while first < len(parts):
        begin, last = parts[first][0], first
        room = begin + longest

        def pause(index: int) -> int:
            return parts[index + 1][0] - parts[index][1]

        while last + 1 < len(parts) and pause(last) <= gap and parts[last + 1][1] <= room:
            last += 1
        if last + 1 < len(parts) and pause(last) <= gap:  # full, while speech goes on
            late = [i for i in range(first, last + 1) if parts[i][1] >= begin + longest // 2]
            last = max(late or [last], key=pause)
        packed.append((begin, parts[last][1]))
        first = last + 1
    return packed


def _with_margins(packed: list[tuple[int, int]], samples: int, margin: int) -> list[Span]:
    """In samples, with a margin on both sides, but no more than half of a pause."""
    bounds = [(begin * BLOCK, end * BLOCK) for begin, end in packed]
    halves = [(end + begin) // 2 for (_, end), (begin, _) in pairwise(bounds)]
    return [
        Span(max(begin - margin, lowest), min(end + margin, highest))
        for (begin, end), lowest, highest in zip(
            bounds, [0, *halves], [*halves, samples], strict=False
        )
    ]
