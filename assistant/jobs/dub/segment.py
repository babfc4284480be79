"""Segment: what was heard as lines that can be spoken: sentences, neither long nor tiny."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from assistant.jobs.dub.hear import Heard, HeardWord
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.speakers import Turn, assign_speakers

_SENTENCE_ENDS = frozenset(".?!。？！…।")
_CLAUSE_ENDS = frozenset(",;:，、；：—–")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+")  # "J. R." and "U.S." end no sentence by themselves
_QUOTES = "\"'”’»)]」』"


@dataclass(frozen=True)
class SegmentRules:
    """longest_ms: of a line; pause_ms: a longer one ends a line anywhere; shortest_ms: a shorter
    line is joined to a neighbour that is at most near_ms away; gap_ms: kept free before a line
    when the one before borrows the pause.
    """

    longest_ms: int = 12_000
    pause_ms: int = 700
    shortest_ms: int = 1_200
    near_ms: int = 350
    gap_ms: int = 80


DEFAULT_RULES = SegmentRules()


@dataclass(frozen=True)
class _Piece:
    """Words of one language and speaker that belong together."""

    words: tuple[HeardWord, ...]
    language: str
    speaker: str

    @property
    def start_ms(self) -> int:
        return self.words[0].start_ms

    @property
    def end_ms(self) -> int:
        return self.words[-1].end_ms

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms


def segment(
    heard: Heard, turns: Sequence[Turn] = (), rules: SegmentRules = DEFAULT_RULES
) -> tuple[Line, ...]:
    """The lines of what was heard, in order; every word is in exactly one of them.

    A line ends at the end of a sentence, at a long pause, and where the language or the speaker
    changes; one that is too long is cut at clauses or at its longest gap, and a tiny one is
    joined to its neighbour.
    """
    pieces = [part for piece in _sentences(heard, turns, rules) for part in _short(piece, rules)]
    return tuple(_lines(_joined(pieces, rules), heard.duration_ms, rules))


def _sentences(heard: Heard, turns: Sequence[Turn], rules: SegmentRules) -> Iterator[_Piece]:
    words = [(word, region.language) for region in heard.regions for word in region.words]
    speakers = assign_speakers([(word.start_ms, word.end_ms) for word, _ in words], turns)
    held: list[HeardWord] = []
    for at, (word, language) in enumerate(words):
        held.append(word)
        if at + 1 < len(words):
            after, next_language = words[at + 1]
            goes_on = (
                language == next_language
                and speakers[at] == speakers[at + 1]
                and after.start_ms - word.end_ms < rules.pause_ms
                and not _ends(word, _SENTENCE_ENDS)
            )
            if goes_on:
                continue
        yield _Piece(tuple(held), language, speakers[at])
        held = []


def _ends(word: HeardWord, marks: frozenset[str]) -> bool:
    text = word.text.strip().rstrip(_QUOTES)
    return text[-1:] in marks and not _INITIALS.fullmatch(text)


def _short(piece: _Piece, rules: SegmentRules) -> Iterator[_Piece]:
    """The piece cut until no part is too long; a single long word stays."""
    if piece.length_ms <= rules.longest_ms or len(piece.words) < 2:
        yield piece
        return
    cut = _best_cut(piece)
    for words in (piece.words[:cut], piece.words[cut:]):
        yield from _short(_Piece(words, piece.language, piece.speaker), rules)


def _best_cut(piece: _Piece) -> int:
    """Where to cut: near the middle, after a clause if there is one, and at a long gap."""
    middle = (piece.start_ms + piece.end_ms) / 2

    def merit(at: int) -> float:
        before, after = piece.words[at - 1], piece.words[at]
        gap_ms = after.start_ms - before.end_ms
        off = abs((before.end_ms + after.start_ms) / 2 - middle) / max(1, piece.length_ms)
        return (0.3 if _ends(before, _CLAUSE_ENDS) else 0.0) + min(gap_ms, 600) / 2000 - off

    return max(range(1, len(piece.words)), key=merit)


def _joined(pieces: Sequence[_Piece], rules: SegmentRules) -> list[_Piece]:
    joined: list[_Piece] = []
    for piece in pieces:
        if joined and _belong(joined[-1], piece, rules):
            words = joined[-1].words + piece.words
            joined[-1] = _Piece(words, piece.language, piece.speaker)
        else:
            joined.append(piece)
    return joined


def _belong(first: _Piece, second: _Piece, rules: SegmentRules) -> bool:
    return (
        min(first.length_ms, second.length_ms) < rules.shortest_ms
        and second.start_ms - first.end_ms <= rules.near_ms
        and (first.language, first.speaker) == (second.language, second.speaker)
        and second.end_ms - first.start_ms <= rules.longest_ms
    )


def _lines(pieces: Sequence[_Piece], duration_ms: int, rules: SegmentRules) -> Iterator[Line]:
    if not pieces:
        return
    slots: list[tuple[int, int]] = []
    for piece in pieces:
        # Words may begin where others end, and a word may last no time at all.
        start = max(piece.start_ms, slots[-1][1] if slots else 0)
        slots.append((start, max(piece.end_ms, start + 1)))
    limits = [after[0] - rules.gap_ms for _, after in pairwise(slots)] + [duration_ms]
    for number, (piece, (start, end), limit) in enumerate(
        zip(pieces, slots, limits, strict=True), 1
    ):
        yield Line(
            number=number,
            start_ms=start,
            end_ms=end,
            free_ms=max(0, limit - end),
            language=piece.language,
            speaker=piece.speaker,
            original="".join(word.text for word in piece.words).strip(),
        )
