"""Words to phonemes, as espeak-ng's American English says them in a sentence.

Piper's voices were trained on espeak-ng's transcriptions, so the goal is to write what it writes:
each word from the lexicon, then the changes that neighbours make (weak forms, linking r, flaps,
words run together, the main stress that moves to the end of a clause).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from audio import weak_forms as forms
from audio.lexicon import VOWELS, Lexicon, spell

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*'?")
_SPELLED = re.compile(r"\b[A-Z](?: [A-Z]\b)+(?:'s\b)?")
_TOKEN = re.compile(rf"{_SPELLED.pattern}|{_WORD.pattern}|[,.;:?!]")
_BREATH_AFTER = 4  # words
_VOWEL_FIRST = re.compile(f"[ˈˌ]?[{VOWELS}]")


class Phonemizer:
    """Turns verbalised English text into IPA; holds no state of a text."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    def __call__(self, text: str) -> str:
        """IPA of a text in which numbers and signs are already words.

        Words are separated by a space, clause marks (, . ; : ? !) stay where they were; runs of
        single capitals ("U S A") are spelled. A text without a word gives "".
        """
        pieces: list[str] = []
        words: list[str] = []
        for token in _TOKEN.findall(text.replace("’", "'")):
            if token not in ",.;:?!":
                words.append(token.lower())
            elif words:
                pieces.append(" ".join(self._clause(words)) + token)
                words = []
            elif pieces:
                pieces[-1] = pieces[-1][:-1] + token  # of several marks the last one counts
        if words:
            pieces.append(" ".join(self._clause(words)))
        return " ".join(pieces)

    def _clause(self, words: Sequence[str]) -> list[str]:
        """Phonemes of the words of one clause; pairs run together come out as one."""
        said = [self._word(words, at) for at in range(len(words))]
        self._stress_late(words, said)
        out: list[str] = []
        at = 0
        while at < len(words):
            follower = said[at + 1] if at + 1 < len(words) else ""
            pair = forms.PAIRS.get((words[at], words[at + 1])) if follower else None
            if pair:
                after = said[at + 2] if at + 2 < len(words) else ""
                out.append(pair.replace("~", "ɪ" if _VOWEL_FIRST.match(after) else "ə"))
                at += 2
                continue
            if (
                at >= _BREATH_AFTER
                and words[at + 1 : at + 2]
                and words[at + 1] in forms.BREATH_BEFORE
            ):
                follower = ""
            out.append(_before(words[at], said[at], follower))
            at += 1
        return out

    def _word(self, words: Sequence[str], at: int) -> str:
        word = words[at]
        if " " in word:
            return _spelled(word)
        if at and at == len(words) - 1 and word in forms.LAST:
            return forms.LAST[word]
        if at and word in forms.INSIDE:
            return forms.INSIDE[word]
        return _by_part_of_speech(words, at) or forms.USUAL.get(word) or self._lexicon.say(word)

    @staticmethod
    def _stress_late(words: Sequence[str], said: list[str]) -> None:
        """Give the main stress to a late light word, if no word after it has one."""
        for at in range(len(words) - 1, -1, -1):
            if "ˈ" in said[at]:
                return
            last = at == len(words) - 1
            if words[at] in forms.STRESSED_LATE or (last and words[at] in forms.STRESSED_LAST):
                said[at] = _stressed(said[at])
                return
        said[-1] = _stressed(said[-1])


def _by_part_of_speech(words: Sequence[str], at: int) -> str | None:
    """The form of a word that sounds otherwise as a verb, a participle or a noun, if it is one."""
    word = words[at]
    if not (word in forms.VERBS or word in forms.PARTICIPLES or word in forms.NOUNS):
        return None
    back = at - 1
    while back > 0 and words[back] in forms.SKIPPED:
        back -= 1
    previous = words[back] if back >= 0 else ""
    if previous in forms.BEFORE_PARTICIPLE and word in forms.PARTICIPLES:
        return forms.PARTICIPLES[word]
    if previous in forms.BEFORE_NOUN and word in forms.NOUNS:
        return forms.NOUNS[word]
    third = word.endswith("s") and previous in forms.BEFORE_THIRD_PERSON
    return forms.VERBS.get(word) if third or previous in forms.BEFORE_VERB else None


def _spelled(group: str) -> str:
    """A run of letters, such as "u s a" or "f b i's", spelled."""
    letters, owner, _ = group.partition("'s")
    said = spell(letters)
    return said + ("z" if owner else "")


def _before(word: str, said: str, follower: str) -> str:
    """What a word becomes before the next one: a weak form, a flap or a linking r."""
    if not _VOWEL_FIRST.match(follower):
        return said
    weak = forms.BEFORE_VOWEL.get(word)
    if weak and "ˈ" not in said:
        return weak
    return said + "ɹ" if said.endswith(("ɚ", "ɜː")) else said


def _stressed(said: str) -> str:
    if "ˈ" in said:
        return said
    if "ˌ" in said:
        return said.replace("ˌ", "ˈ", 1)
    return re.sub(f"([{VOWELS}])", r"ˈ\1", said, count=1)
