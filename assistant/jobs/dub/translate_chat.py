"""Translate with a chat model, which reads a line's neighbours and may be asked to be brief."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assistant.errors import ConfigError
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.track_languages import language_name
from assistant.jobs.dub.translate import most_tokens
from audio.asr_decode import repeats_itself
from audio.pcm import Samples
from fusion.decoder import DecodeOptions, Decoder, Finish
from fusion.prompt import PromptBuilder, Turn

_SYSTEM = (
    "You translate the lines of a film. Answer with the translation of the one line that you are "
    "asked for, in {target}, and with nothing else."
)
_PLAIN = "Translate this line from {language} into {target}:\n{line}"
_BRIEF = "Translate this line from {language} into {target}, in as few words as you can:\n{line}"
_BEFORE, _AFTER = "What is said before it:\n{lines}", "What is said after it:\n{lines}"

_LABEL = re.compile(r"^(?:\w+ )?translation(?: in \w+)?\s*:\s*", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_QUOTES = "\"'“”„«»‘’`* "
_NAMES = 2  # so many words may be the same in both languages


@dataclass(frozen=True)
class ChatOptions:
    """drafts: translations that are drawn beside the likeliest; temperature: at which."""

    drafts: int = 3
    temperature: float = 0.7

    def __post_init__(self) -> None:
        if self.drafts < 0 or not 0 < self.temperature < 100:
            raise ConfigError(
                "Expected 0 or more drafts and a temperature above 0 and below 100, got "
                f"{self.drafts} and {self.temperature}."
            )


DEFAULT_OPTIONS = ChatOptions()


class ChatTranslator:
    """Any chat model as a translator.

    Unlike the models of ``TextTranslator`` it can be shown what is said before and after a line
    and still be asked for that line alone. It gives the likeliest translation, a brief one for
    slots that are short, and some drafts, drawn with fixed seeds: the same in every run.
    """

    def __init__(
        self,
        decoder: Decoder,
        builder: PromptBuilder,
        target: str,
        name: str,
        options: ChatOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Translate into ``target``, a code such as "de"; ``builder`` is the decoder's own."""
        self._decoder, self._builder = decoder, builder
        self.target, self.name, self.options = target, name, options

    def __call__(
        self,
        line: Line,
        sound: Samples,  # noqa: ARG002
        before: Sequence[Line],
        after: Sequence[Line],
    ) -> tuple[str, ...]:
        """Translations of the line's text, the likeliest first; see ``Translator``."""
        if line.language == self.target:
            return (line.original,)
        turns = self.question(line, before, after)
        told = "\n".join(str(part) for turn in turns for part in turn.parts)
        found = (_cleaned(text) for text in self._answers(line, before, after))
        return tuple(dict.fromkeys(text for text in found if _makes_sense(text, told)))

    def question(
        self,
        line: Line,
        before: Sequence[Line] = (),
        after: Sequence[Line] = (),
        form: str = _PLAIN,
    ) -> list[Turn]:
        """What the model is asked: its neighbours first, so that the line comes last."""
        names = {"language": language_name(line.language), "target": language_name(self.target)}
        around = [
            words.format(lines="\n".join(one.original for one in lines))
            for words, lines in ((_BEFORE, before), (_AFTER, after))
            if lines
        ]
        asked = form.format(line=line.original, **names)
        return [
            Turn("system", (_SYSTEM.format(**names),)),
            Turn("user", ("\n\n".join([*around, asked]),)),
        ]

    def _answers(self, line: Line, before: Sequence[Line], after: Sequence[Line]) -> Iterator[str]:
        """What it answers; an answer that does not end is none."""
        most = most_tokens(len(self._decoder.token_ids(line.original)))
        greedy = DecodeOptions(max_tokens=most)
        drawn = [
            DecodeOptions(max_tokens=most, temperature=self.options.temperature, seed=seed)
            for seed in range(1, self.options.drafts + 1)
        ]
        asked = [(_PLAIN, greedy), (_BRIEF, greedy), *((_PLAIN, each) for each in drawn)]
        for form, options in asked:
            prompt = self._builder.build(self.question(line, before, after, form))
            stream = self._decoder.stream(prompt, options)
            text = "".join(stream)
            if stream.finish is not Finish.LENGTH:
                yield text


def _makes_sense(text: str, told: str) -> bool:
    """Whether an answer is one, and no piece of what the model was told: small ones recite that.

    Numbers and a name or two may be the same in both languages.
    """
    words = _words(text)
    recited = len(words) > _NAMES and " ".join(words) in " ".join(_words(told))
    return (
        any(map(str.isalnum, text))
        and text.isprintable()
        and not repeats_itself(text)
        and not recited
    )


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if not word.isdigit()]


def _cleaned(answer: str) -> str:
    """The translation without what chat models like to put around it; its first paragraph."""
    paragraph = next((part for part in answer.split("\n") if part.strip(_QUOTES)), "")
    text = _LABEL.sub("", paragraph.strip(_QUOTES)).strip()
    if text[:1] in _QUOTES or text[-1:] in _QUOTES:
        text = text.strip(_QUOTES)
    return " ".join(text.split())
