"""Pauses: a line that is shorter than its original takes its time at its marks, as people do."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from assistant.jobs.dub.voices import Said
from audio.pcm import Samples
from audio.spoken_words import SpokenWord

_MARKS = frozenset(",;:.?!…—–")
_CLOSERS = "\"'”’)»"
_NEAR_MS = 200  # of where a word ends its pause is looked for, ...
_QUIET_MS = 60  # ... the quietest so long: a closed consonant is shorter
_FADE_MS = 5


def count(wording: str) -> int:
    """How many places within a wording have a mark to pause at."""
    return len(_places(wording.split()))


def lengthened(said: Said, pause_ms: int, rate: int) -> Said:
    """The same speech with ``pause_ms`` more of silence, shared by the places that have a mark.

    Said as it was if there is none. Each silence goes where the voice is softest around the mark,
    so it lengthens the pause that the voice makes there, whichever voice it is.
    """
    places = _places([word.text for word in said.words])
    total = pause_ms * rate // 1000
    if not places or total <= 0:
        return said
    edges = [total * at // len(places) for at in range(len(places) + 1)]
    sizes = [after - before for before, after in pairwise(edges)]
    cuts = sorted(_softest(said.samples, said.words[at].end, rate) for at in places)
    return Said(_parted(said.samples, cuts, sizes, rate), _moved(said.words, cuts, sizes))


def _places(words: Sequence[str]) -> list[int]:
    return [at for at, word in enumerate(words[:-1]) if word.rstrip(_CLOSERS)[-1:] in _MARKS]


def _softest(samples: Samples, end: int, rate: int) -> int:
    """The middle of the softest stretch near the end of a word."""
    near, width = rate * _NEAR_MS // 1000, rate * _QUIET_MS // 1000
    low, high = max(0, end - near), min(len(samples), end + near)
    if high - low <= width:
        return min(end, len(samples))
    sums = np.cumsum(np.square(samples[low:high], dtype=np.float64))
    return low + int(np.argmin(sums[width:] - sums[:-width])) + width // 2


def _parted(samples: Samples, cuts: Sequence[int], sizes: Sequence[int], rate: int) -> Samples:
    parts, ramp = np.split(samples.copy(), cuts), rate * _FADE_MS // 1000
    down = np.linspace(1.0, 0.0, ramp, dtype=np.float32)
    pieces = []
    for number, part in enumerate(parts):
        size = min(ramp, len(part))
        if number:
            part[:size] *= down[::-1][:size]
            pieces.append(np.zeros(sizes[number - 1], np.float32))
        if number < len(cuts):
            part[len(part) - size :] *= down[ramp - size :]
        pieces.append(part)
    return np.concatenate(pieces)


def _moved(
    words: Sequence[SpokenWord], cuts: Sequence[int], sizes: Sequence[int]
) -> tuple[SpokenWord, ...]:
    """The words where they come to lie; a pause belongs to the word before it."""

    def moved(at: int) -> int:
        return at + sum(size for cut, size in zip(cuts, sizes, strict=True) if cut <= at)

    return tuple(SpokenWord(word.text, moved(word.start), moved(word.end)) for word in words)
