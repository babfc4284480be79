"""Translate: each line into wordings of another language, from its sound or from its text."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from assistant.errors import ConfigError
from assistant.jobs.dub.hear import encoded
from assistant.jobs.dub.lines import Line, TranslatedLine
from assistant.jobs.dub.wordings import tidied, wordings
from audio.asr import RecogniseOptions, Recogniser, Window
from audio.asr_nbest import Hypothesis, hypotheses, languages_of
from audio.pcm import Samples

#: Why the original of a line is kept.
NOT_TRANSLATED = "no translation of it made sense"

_STAMMER = re.compile(r"\b(\w+)(?:\W+\1\b){2,}", re.IGNORECASE)  # a word three times in a row
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


class Translator(Protocol):
    """Turns lines into another language."""

    @property
    def name(self) -> str:
        """What it is called in keys of results and in reports; holds no path."""
        ...

    @property
    def target(self) -> str:
        """Code of the language that it translates into."""
        ...

    def __call__(
        self, line: Line, sound: Samples, before: Sequence[Line], after: Sequence[Line]
    ) -> tuple[str, ...]:
        """Translations, the best first; none if it cannot.

        Args:
            line: what is to be translated.
            sound: of the line, 16 kHz, with a little around it.
            before: the lines before it, nearest last.
            after: the lines after it, nearest first.
        """
        ...


def translate(
    line: Line,
    sound: Samples,
    translator: Translator,
    before: Sequence[Line] = (),
    after: Sequence[Line] = (),
) -> TranslatedLine:
    """The line with its wordings, or with the reason why its original is kept."""
    found = translator(line, sound, before, after)
    if translator.target == "en":
        found = wordings(found)
    if not found:
        return TranslatedLine(line, (), kept=NOT_TRANSLATED)
    return TranslatedLine(line, found)


def most_tokens(original: int) -> int:
    """How many tokens the translation of so many may have; a longer one goes round in circles."""
    return 3 * original + 32


@dataclass(frozen=True)
class WhisperOptions:
    """beams: hypotheses of one search; languages: that are tried when the detected one gives no
    sense; min_avg_logprob: less likely texts are no sense; known_share: of the words must be
    English ones, or the line was not translated but spelled.
    """

    beams: int = 5
    languages: int = 3
    min_avg_logprob: float = -1.8
    known_share: float = 0.7

    def __post_init__(self) -> None:
        if self.beams < 1 or self.languages < 1 or not 0 <= self.known_share <= 1:
            raise ConfigError(
                "Expected 1 or more beams and languages and a share of 0 to 1, got "
                f"{self.beams}, {self.languages} and {self.known_share}."
            )


DEFAULT_OPTIONS = WhisperOptions()


class WhisperTranslator:
    """Whisper hears the line and writes English: any of its languages, nothing else to install.

    The line is encoded twice, with a short and with a full padding, which gives different
    texts; each is searched with beams, which is the same in every run, unlike sampling.
    """

    target = "en"

    def __init__(
        self,
        recogniser: Recogniser,
        is_word: Callable[[str], bool],
        name: str,
        options: WhisperOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Translate with a multilingual recogniser; ``is_word`` knows English (lower case)."""
        recogniser.check(RecogniseOptions(task="translate"))
        self._recogniser, self._is_word = recogniser, is_word
        self.name, self.options = name, options

    def __call__(
        self,
        line: Line,
        sound: Samples,
        before: Sequence[Line],  # noqa: ARG002
        after: Sequence[Line],  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Translations by what the line sounds like; its neighbours are not asked."""
        for found in self._searches(line.language, sound):
            sensible = [one for one in found if self.makes_sense(one)]
            if sensible:
                sensible.sort(key=lambda one: (-self._merit(one), one.text))
                return tuple(dict.fromkeys(tidied(one.text) for one in sensible))
        return ()

    def makes_sense(self, hypothesis: Hypothesis) -> bool:
        """Whether it is English, and no endless repetition."""
        return (
            not hypothesis.repeats
            and not _STAMMER.search(hypothesis.text)
            and hypothesis.avg_logprob >= self.options.min_avg_logprob
            and hypothesis.text.isprintable()
            and not any(map(self._left_over, _words(hypothesis.text)))
            and self.known(hypothesis.text) >= self.options.known_share
        )

    def _left_over(self, word: str) -> bool:
        """Whether a word stayed in the other language: foreign letters, and neither name nor known.

        "José" is a name and "café" is known; "preguiçoso" was not translated.
        """
        name = any(map(str.isupper, word))
        return word.isalpha() and not (word.isascii() or name or self._is_word(_folded(word)))

    def known(self, text: str) -> float:
        """The share of its words that are English ones; digits are words that everybody knows.

        Single letters are none, but for "a" and "I": Whisper spells what it cannot translate.
        """
        words = _words(text.lower())
        if not words:
            return 1.0 if any(map(str.isdigit, text)) else 0.0
        known = [word for word in words if self._is_word(_folded(word))]
        english = [word for word in known if word[1:] or word in "ai"]
        return len(english) / len(words)

    def _merit(self, hypothesis: Hypothesis) -> float:
        return hypothesis.avg_logprob + 2 * self.known(hypothesis.text)

    def _searches(self, language: str, sound: Samples) -> Iterator[list[Hypothesis]]:
        """What the line's own language gives, then what the likeliest others do."""
        full = encoded(self._recogniser, sound, None)
        yield self._search(full, language) + self._search(
            encoded(self._recogniser, sound, 5.0), language
        )
        likely = languages_of(self._recogniser, full)
        others = sorted(likely, key=lambda code: -likely[code])
        for code in [code for code in others if code != language][: self.options.languages - 1]:
            yield self._search(full, code)

    def _search(self, window: Window, language: str) -> list[Hypothesis]:
        return hypotheses(
            self._recogniser,
            window,
            language=language,
            task="transcribe" if language == "en" else "translate",
            count=self.options.beams,
        )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.replace("’", "'"))


def _folded(word: str) -> str:
    """The word without accents: an English lexicon has "cafe"."""
    letters = unicodedata.normalize("NFKD", word)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
