"""When each written word is heard: written words, spoken words, phonemes, durations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate

from audio.spoken_tables import ABBREVIATIONS
from audio.verbalise import verbalise

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_PLAIN = re.compile(r"[\"'“‘(]*([A-Za-z]?[a-z]+(?:['’][a-z]+)?)[,.;:?!\"'”’)]*")
_MARKS = ",.;:?!"
_GROUP = re.compile(rf"[^\s{_MARKS}]+")
_LONGEST_MERGE = 8  # words in one group of phonemes: a run of spelled letters, "of the"
_SLACK = 4  # merges beyond those that the counts ask for
_MERGE_COST = 1.0  # so that one word to one group wins where the lengths leave it open


@dataclass(frozen=True)
class SpokenWord:
    """A word as it was written and where it is heard: samples `start` to `end` of the sound.

    The pause after a word, at a comma for instance, counts as its own.
    """

    text: str
    start: int
    end: int


def written_words(clause: str) -> list[str]:
    """The words of a text as they are written.

    What is not spoken (a dash, an emoji) stays with its neighbour.
    """
    texts: list[str] = []
    silent = ""
    for word in clause.split():
        if any(map(str.isalnum, word)) or verbalise(word):
            texts.append(silent + word)
            silent = ""
        elif texts:
            texts[-1] += f" {word}"
        else:
            silent += f"{word} "
    return texts or [clause.strip()]


def words_heard(words: Sequence[SpokenWord], played: int) -> int:
    """How many of the words someone has heard who heard `played` samples: half a word counts."""
    return sum(2 * played > word.start + word.end for word in words)


def sign_edges(durations: Sequence[int], widths: Sequence[int], head: int) -> list[int]:
    """Where each sign of the phonemes begins, and where the last one ends, in samples.

    Args:
        durations: samples of each phoneme id.
        widths: how many ids each sign has, the padding after it included; 0 if it is not spoken.
        head: how many ids come before the first sign.
    """
    at = [0, *accumulate(durations)]
    return [at[head + ids] for ids in (0, *accumulate(widths))]


def time_words(
    clause: str, spoken: str, phonemes: str, edges: Sequence[int], start: int, end: int
) -> tuple[SpokenWord, ...]:
    """The words of a clause with their times, which fill `start` to `end` without a gap.

    Args:
        clause: as it was written.
        spoken: the same in words (see `verbalise`).
        phonemes: the same in IPA, words apart by spaces.
        edges: see `sign_edges`.
        start, end: of the clause's sound, in samples; the edges count from `start`.
    """
    texts = written_words(clause)
    said = _WORD.findall(spoken)
    begins = [start + begin for begin in _token_starts(said, phonemes, edges)]
    owners = _owners(texts, [word.lower() for word in said])
    starts: list[int] = []
    for number in range(len(texts)):
        own = [begin for begin, owner in zip(begins, owners, strict=True) if owner == number]
        starts.append(own[0] if own else -1)
    return _tiled(texts, starts, start, end)


def _tiled(
    texts: Sequence[str], starts: Sequence[int], start: int, end: int
) -> tuple[SpokenWord, ...]:
    """Each word up to the next one; a word that is not said (-1) takes no time."""
    words: list[SpokenWord] = []
    until = end
    for number in range(len(texts) - 1, -1, -1):
        begin = until if starts[number] < 0 else starts[number]
        begin = start if number == 0 else min(begin, until)
        words.append(SpokenWord(texts[number], begin, until))
        until = begin
    return tuple(reversed(words))


def _owners(texts: Sequence[str], said: Sequence[str]) -> list[int]:
    """For each spoken word the number of the written one that it belongs to, never decreasing.

    Each written word is put into words by itself, and that is matched with how the whole clause
    was: what "12:30" becomes is found as it is; what depends on neighbours ("May 5" with its
    "fifth") lies between words that are found, and is shared out in proportion.
    """
    alone = [(word, number) for number, text in enumerate(texts) for word in _alone(text)]
    owners: list[int] = []
    matcher = SequenceMatcher(None, [word for word, _ in alone], said, autojunk=False)
    for _, a, a_end, b, b_end in matcher.get_opcodes():
        for index in range(b, b_end):
            at = a + (index - b) * (a_end - a) // (b_end - b) if a_end > a else max(0, a - 1)
            owners.append(alone[at][1] if alone else 0)
    _give_each_one(owners, len(texts))
    return owners


def _alone(text: str) -> list[str]:
    plain = _PLAIN.fullmatch(text)
    if plain and text not in ABBREVIATIONS:
        return [plain[1].lower().replace("’", "'")]
    return [word.lower() for word in _WORD.findall(verbalise(text))]


def _give_each_one(owners: list[int], count: int) -> None:
    """In place: a written word that got no spoken one takes one from a neighbour with several."""
    for number in range(count):
        if number in owners:
            continue
        after = sum(owner < number for owner in owners)  # where its spoken word would be
        if after and owners.count(owners[after - 1]) > 1:
            owners[after - 1] = number
        elif after < len(owners) and owners.count(owners[after]) > 1:
            owners[after] = number


def _token_starts(said: Sequence[str], phonemes: str, edges: Sequence[int]) -> list[int]:
    """Where each spoken word begins, in samples."""
    groups = [found.span() for found in _GROUP.finditer(phonemes)]
    if not groups:
        return [edges[0]] * len(said)
    letters = [_letters(word) for word in said]
    sizes = [stop - begin for begin, stop in groups]
    starts: list[int] = []
    for words, group in _matched(letters, sizes):
        low, high = edges[groups[group][0]], edges[groups[group][1]]
        inside = [0, *accumulate(letters[len(starts) : len(starts) + words])]
        starts += [round(low + (high - low) * part / inside[-1]) for part in inside[:-1]]
    return starts


def _letters(word: str) -> int:
    """A measure of how long a word sounds; a single letter is spelled."""
    return max(2, len(word))


def _matched(letters: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (how many words, their first group) in order, for all words.

    Most words are one group of phonemes each, but "of the" is run together, letters are spelled in
    one group, and another phonemizer may split a word. The cheapest way through is taken, where
    words and phonemes should be of one length.
    """
    if len(letters) == len(sizes):
        return [(1, group) for group in range(len(sizes))]
    scale = sum(sizes) / max(1, sum(letters))
    wanted = [scale * total for total in (0, *accumulate(letters))]
    heard = [0, *accumulate(sizes)]
    band = abs(len(letters) - len(sizes)) + _SLACK
    best: _Ways = {(0, 0): (0.0, (0, 0))}
    for words in range(1, len(letters) + 1):
        for groups in range(max(1, words - band), min(len(sizes), words + band) + 1):
            ways = []
            for step in _STEPS:
                before = (words - step[0], groups - step[1])
                if before in best:
                    block = heard[groups] - heard[before[1]] - wanted[words] + wanted[before[0]]
                    cost = abs(block) + _MERGE_COST * (sum(step) - 2)
                    ways.append((best[before][0] + cost, before))
            if ways:
                best[words, groups] = min(ways)
    return _way_back(best, len(letters), len(sizes))


_Ways = dict[tuple[int, int], tuple[float, tuple[int, int]]]
_STEPS = (
    (1, 1),
    *((words, 1) for words in range(2, _LONGEST_MERGE + 1)),
    *((1, groups) for groups in range(2, _LONGEST_MERGE + 1)),
)


def _way_back(best: _Ways, words: int, groups: int) -> list[tuple[int, int]]:
    if (words, groups) not in best:  # hopelessly unlike: in proportion
        return [(1, number * groups // words) for number in range(words)]
    way: list[tuple[int, int]] = []
    at = (words, groups)
    while at != (0, 0):
        before = best[at][1]
        way.append((at[0] - before[0], before[1]))
        at = before
    return way[::-1]
