"""How English words are pronounced: a lexicon, word endings, compounds and a letter model.

The data are those of the package gruut_lang_en (MIT): 124,000 words as espeak-ng says them, and a
conditional random field that guesses the rest from their letters. The list was recorded by reading
the words out in alphabetical order, so each carries traces of its neighbour, which are undone here:
"golden" came before "goldenberg" and got its n assimilated to ŋ, "at" before a vowel got a flap,
and "over" before a vowel got a linking r.
"""

from __future__ import annotations

import base64
import re
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from importlib import resources

import pycrfsuite

from audio.errors import AudioError

VOWELS = "aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ"
_CONTEXT = 3  # letters on each side that the letter model looks at
_SILENT = "_"
_SIBILANT = ("s", "z", "ʃ", "ʒ")
_VOICELESS = ("p", "t", "k", "f", "θ")
_LETTER = "abcdefghijklmnopqrstuvwxyz"

# The names of the letters, as espeak-ng en-us says them.
LETTER_NAMES: Mapping[str, str] = dict(
    zip(
        _LETTER,
        str.split(
            "ˈeɪ bˈiː sˈiː dˈiː ˈiː ˈɛf dʒˈiː ˈeɪtʃ ˈaɪ dʒˈeɪ kˈeɪ ˈɛl ˈɛm "
            "ˈɛn ˈoʊ pˈiː kjˈuː ˈɑːɹ ˈɛs tˈiː jˈuː vˈiː dˈʌbəljˌuː ˈɛks wˈaɪ zˈiː"
        ),
        strict=True,
    )
)


class Lexicon:
    """Pronunciations in espeak's IPA, with stress marks; read-only once loaded."""

    def __init__(self, words: Mapping[str, str], letters: pycrfsuite.Tagger | None = None) -> None:
        self._words = words
        self._letters = letters
        self._lock = threading.Lock()  # a tagger holds the sentence that it is working on

    @classmethod
    def load(cls) -> Lexicon:
        """The installed English data.

        Raises AudioError if the package gruut_lang_en is damaged or absent.
        """
        try:
            folder = resources.files("gruut_lang_en") / "espeak"
        except ModuleNotFoundError as error:
            raise AudioError(
                "The English pronunciation data are not installed; run `pip install gruut_lang_en`."
            ) from error
        with resources.as_file(folder) as path:
            tagger = pycrfsuite.Tagger()
            try:
                words = _read_words(f"file:{path / 'lexicon.db'}?mode=ro&immutable=1")
                tagger.open(str(path / "g2p" / "model.crf"))
            except (sqlite3.Error, OSError) as error:
                raise AudioError(
                    f"The English pronunciation data in {path} cannot be read; reinstall "
                    f"gruut_lang_en."
                ) from error
        return cls(words, tagger)

    def __contains__(self, word: str) -> bool:
        return word in self._words

    def say(self, word: str) -> str:
        """Phonemes of one word: lower case, letters and apostrophes only. Never empty."""
        known = self._words.get(word) or self._inflected(word) or self._compound(word)
        if known:
            return known
        if not re.search("[aeiouy]", word) and len(word) < 5:
            return spell(word)
        return self._guess(word) or spell(word)

    def _inflected(self, word: str) -> str | None:
        """A known word with a regular ending."""
        for ending, repairs in _ENDINGS:
            if not word.endswith(ending) or len(word) < len(ending) + 2:
                continue
            stem = word.removesuffix(ending)
            for repair in repairs:
                base = self._words.get(_repaired(stem, repair))
                if base:
                    return base + _ending_sound(ending, base)
        return None

    def _compound(self, word: str) -> str | None:
        """Two known words of at least four letters each, the second with a lighter stress."""
        for cut in range(len(word) - 4, 3, -1):
            first, second = self._words.get(word[:cut]), self._words.get(word[cut:])
            if first and second and "ˈ" in first:
                return first + second.replace("ˈ", "ˌ")
        return None

    def _guess(self, word: str) -> str:
        if self._letters is None:
            return ""
        letters = "".join(letter for letter in word if letter.isalpha())
        with self._lock:
            labels = self._letters.tag([_features(letters, i) for i in range(len(letters))])
        sounds = (part for label in labels for part in _decode(label).split("|"))
        said = _clean(letters, [sound for sound in sounds if sound != _SILENT])
        return said if "ˈ" in said else _stress_first_vowel(said)


# Ending, and what may stand at the end of the stem once it is gone: "" as it is, "e" a dropped e,
# "y" for an i, "2" a doubled consonant.
_ENDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("'s", ("",)),
    ("s'", ("", "s")),
    ("'", ("",)),
    ("ies", ("y",)),
    ("es", ("", "e")),
    ("s", ("",)),
    ("ied", ("y",)),
    ("ed", ("", "e", "2")),
    ("ing", ("", "e", "2")),
    ("ers", ("", "e", "2")),
    ("er", ("", "e", "2")),
    ("less", ("",)),
    ("iness", ("y",)),
    ("ness", ("",)),
    ("ily", ("y",)),
    ("ly", ("",)),
)


def _repaired(stem: str, repair: str) -> str:
    if repair == "2":
        return stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] else ""
    return stem + repair


def _ending_sound(ending: str, base: str) -> str:
    match ending:
        case "'s" | "s'" | "ies" | "es" | "s" | "'":
            if base.endswith(_SIBILANT):
                return "ᵻz"
            return "s" if base.endswith(_VOICELESS) else "z"
        case "ed" | "ied":
            if base.endswith(("t", "d")):
                return "ᵻd"
            return "t" if base.endswith((*_VOICELESS, "s", "ʃ")) else "d"
        case _:
            return {
                "ing": "ɪŋ",
                "er": "ɚ",
                "ers": "ɚz",
                "less": "ləs",
                "ness": "nəs",
                "iness": "nəs",
            }.get(ending, "li")


def spell(word: str) -> str:
    """The letters one by one, the main stress on the last: "usb" -> jˌuːˌɛsbˈiː."""
    names = [LETTER_NAMES[letter] for letter in word if letter in LETTER_NAMES]
    return "".join(name.replace("ˈ", "ˌ") for name in names[:-1]) + "".join(names[-1:])


def _read_words(uri: str) -> dict[str, str]:
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        rows = connection.execute(
            "SELECT word, phonemes FROM word_phonemes WHERE role = '' ORDER BY pron_order DESC"
        )
        return {word: _clean(word, phonemes.split(" ")) for word, phonemes in rows}


def _clean(word: str, sounds: list[str]) -> str:
    """Join the sounds of a listed word and undo what its alphabetical neighbour did to it."""
    if not sounds:
        return ""
    last = sounds[-1]
    if last == "ŋ" and re.search(r"n[ea]?$", word):
        sounds = [*sounds[:-1], "n"]
    elif last == "ɹ" and len(sounds) > 1 and sounds[-2].endswith(("ɚ", "ɜː")):
        sounds = sounds[:-1]
    elif last == "ɾ":
        sounds = [*sounds[:-1], "t"]
    return "".join(sounds)


def _stress_first_vowel(said: str) -> str:
    """Put the main stress before the first vowel, or turn a lighter stress into it."""
    if "ˌ" in said:
        return said.replace("ˌ", "ˈ", 1)
    return re.sub(f"([{VOWELS}])", r"ˈ\1", said, count=1)


@lru_cache(maxsize=256)
def _encode(letter: str) -> str:
    return base64.b64encode(letter.encode()).decode()


def _decode(label: str) -> str:
    return base64.b64decode(label).decode()


def _features(word: str, at: int) -> dict[str, str | float | bool]:
    """What the letter model sees at one letter, under the names it was trained with.

    Source: gruut 2.4, g2p.py (MIT).
    """
    features: dict[str, str | float | bool] = {"bias": 1.0, "grapheme": _encode(word[at])}
    for step in range(1, _CONTEXT + 1):
        if at >= step:
            features[f"grapheme-{step}"] = _encode(word[at - step])
        if at + step < len(word):
            features[f"grapheme+{step}"] = _encode(word[at + step])
    if at == 0:
        features["begin"] = True
    if at == len(word) - 1:
        features["end"] = True
    return features
