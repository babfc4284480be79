"""Pauses: a line that is shorter than its original takes its time at its marks, as people do."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from assistant.jobs.dub.voices import Said
from audio.pcm import Samples
from audio.spoken_tables import ABBREVIATIONS
from audio.spoken_words import SpokenWord, written_words

_MARKS = frozenset(",;:.?!…—–")
_CLOSERS = "\"'”’)»"
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+")  # nobody pauses in "J. R. Smith" and "5 p.m. today"
_NEAR_MS = 200  # of where a word ends its pause is looked for, ...
_QUIET_MS = 60  # ... the softest so long: a closed consonant is shorter
_QUIET_DB = -30.0  # below the line's mean level; what is louder is no pause
_FADE_MS = 5


def count(wording: str) -> int:
    """How many places within a wording have a mark to pause at."""
    return len(_places(written_words(wording)))


def lengthened(said: Said, pause_ms: int, rate: int) -> Said:
    """The same speech with ``pause_ms`` more of silence, shared by the places that have a mark.

    Said as it was if there is none. Each silence goes into the pause that the voice makes there, or
    to the end of the word where it makes none.
    """
    places = _places([word.text for word in said.words])
    total = pause_ms * rate // 1000
    if not places or total <= 0:
        return said
    edges = [total * at // len(places) for at in range(len(places) + 1)]
    sizes = [after - before for before, after in pairwise(edges)]
    cuts: list[int] = []
    for at in places:
        cuts.append(max(_cut(said, at, rate), *cuts[-1:], 0))
    words = _moved(said.words, dict(zip(places, sizes, strict=True)))
    return Said(_parted(said.samples, cuts, sizes, rate), words)


def _places(words: Sequence[str]) -> list[int]:
    return [at for at, word in enumerate(words[:-1]) if _ends_with_a_mark(word.rstrip(_CLOSERS))]


def _ends_with_a_mark(word: str) -> bool:
    return word[-1:] in _MARKS and word not in ABBREVIATIONS and not _INITIALS.fullmatch(word)


def _cut(said: Said, at: int, rate: int) -> int:
    """The middle of the softest stretch around the end of a word, if that is soft enough."""
    word, after = said.words[at : at + 2]
    near, width = rate * _NEAR_MS // 1000, rate * _QUIET_MS // 1000
    low, high = max(word.start, word.end - near), min(after.end, word.end + near)
    if high - low <= width:
        return word.end
    sums = np.cumsum(np.square(said.samples[low:high], dtype=np.float64))
    powers = (sums[width:] - sums[:-width]) / width
    softest = int(np.argmin(powers))
    level = float(np.square(said.samples, dtype=np.float64).mean())
    if powers[softest] > level * 10 ** (_QUIET_DB / 10):
        return word.end
    return low + softest + width // 2


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


def _moved(words: Sequence[SpokenWord], added: dict[int, int]) -> tuple[SpokenWord, ...]:
    """The words where they come to lie, given what is added to which; a pause is the word's own."""
    moved, by = list[SpokenWord](), 0
    for at, word in enumerate(words):
        more = added.get(at, 0)
        moved.append(SpokenWord(word.text, word.start + by, word.end + by + more))
        by += more
    return tuple(moved)
