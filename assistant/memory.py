"""What one conversation remembers: its pictures, questions, and the answers as they were heard."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from assistant.errors import ConfigError
from assistant.prompts import Parts, Prompts
from fusion.adapter import SoftTokens
from fusion.prompt import Turn

# What a chat template writes around one turn, about; a limit in tokens needs no more.
_FRAME_TOKENS = 5
_LEAST_TOKENS = 64
# A question is shortened by whole words; text without spaces by so many signs.
_PIECE = re.compile(r"\s*\S{1,24}")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of the conversation: the first has number 1; `at` is its frame's position."""

    number: int
    seen: SoftTokens
    at: int


@dataclass(frozen=True, eq=False)
class _Exchange:
    question: Turn
    answer: Turn
    tokens: int


class Memory:
    """What one conversation remembers; no model inside, one for each session.

    A prompt only ever grows at its end, so that a decoder's cache keeps what it has of it: a
    question's words come after its picture, what they call for comes after them, and the oldest
    exchanges are forgotten several at a time.
    """

    def __init__(
        self,
        prompts: Prompts,
        *,
        limit_tokens: int,
        count: Callable[[str], int],
        max_pictures: int = 32,
    ) -> None:
        """An empty memory. ConfigError for limits that leave no room.

        Args:
            prompts: the words around questions and pictures.
            limit_tokens: of all earlier exchanges; a question may take half as much.
            count: how many tokens a text has, about.
            max_pictures: the newest ones that can still be asked about.
        """
        if limit_tokens < _LEAST_TOKENS or max_pictures < 1:
            raise ConfigError(
                f"Expected a memory of {_LEAST_TOKENS} tokens and 1 picture or more, got "
                f"{limit_tokens} and {max_pictures}; raise the limit."
            )
        self._prompts = prompts
        self._limit = limit_tokens
        self._count = lru_cache(maxsize=4096)(count)
        self._pictures: deque[Picture] = deque(maxlen=max_pictures)
        self._exchanges: list[_Exchange] = []
        self._unanswered: Parts = ()

    @property
    def current(self) -> Picture | None:
        """The newest picture: what "this" means."""
        return self._pictures[-1] if self._pictures else None

    @property
    def history(self) -> list[Turn]:
        """The exchanges that are remembered, oldest first."""
        return [turn for each in self._exchanges for turn in (each.question, each.answer)]

    @property
    def tokens(self) -> int:
        """How much the history takes, about."""
        return sum(each.tokens for each in self._exchanges)

    def see(self, seen: SoftTokens, at: int) -> Picture:
        """A new picture, from a frame at sample `at`."""
        number = self.current.number + 1 if self.current else 1
        picture = Picture(number, seen, at)
        self._pictures.append(picture)
        return picture

    def question(self, words: str) -> list[Turn]:
        """The prompt for a question of which these words are known so far; changes nothing.

        The newest picture is shown if the history does not hold it; those that the words name may
        follow the words. A question that was never answered is put before. Of words that take more
        than half of the limit the oldest are left out, a quarter of the limit at a time: of
        somebody who talks for minutes the end matters most.
        """
        words = self._shortened(words)
        new = None if self.current is None or self._holds(self.current) else self.current
        number = new.number if new and new.number > 1 else None
        parts = self._prompts.user(words, new.seen if new else None, number)
        if self._unanswered:
            parts = (*self._unanswered, "\n", *parts)
        parts += self._called_for(words, new)
        return [self._prompts.first, *self.history, Turn("user", parts)]

    def remember(self, question: Turn, answer: str, *, interrupted: bool = False) -> None:
        """An exchange is over.

        Args:
            question: the last turn of what `question` returned, as it was answered.
            answer: what was heard of the answer. If nothing was, the question waits for the next
                one, and both are answered together.
            interrupted: whether there was more to be heard.
        """
        answer = answer.strip()
        if not answer:
            fits = self._cost(question.parts) <= self._limit // 2
            self._unanswered = question.parts if fits else ()
            return
        self._unanswered = ()
        said = self._prompts.cut(answer) if interrupted else answer
        tokens = self._cost(question.parts) + self._cost((said,))
        self._exchanges.append(_Exchange(question, Turn("assistant", (said,)), tokens))
        self._forget()

    def named_pictures(self, text: str) -> tuple[int, ...]:
        """The pictures that an English text names and that can be shown, in that order.

        "Picture 2", "the first and the third photo", "the one before", "the last two pictures".
        """
        return tuple(picture.number for picture in self._named(text))

    def _named(self, text: str) -> list[Picture]:
        known = {picture.number: picture for picture in self._pictures}
        newest = max(known, default=0)
        numbers = dict.fromkeys(_numbers_named(text, newest))
        return [known[number] for number in numbers if number in known]

    def _called_for(self, words: str, new: Picture | None) -> Parts:
        """The pictures that the words name, to be put after them; `new` is put before them.

        Those in the history are shown again where a nearer picture would be taken for them: asked
        about an old picture next to a new one, the 0.5 B model described the new one 6 times of 6,
        and with the old one shown again once; asked about the newest of three that it had seen, it
        described another 3 times of 3, and then never.
        """
        named = self._named(words)
        all_again = new is not None or (len(self._pictures) > 1 and self.current in named)
        parts: Parts = ()
        for picture in named:
            if picture is not new and (all_again or not self._holds(picture)):
                parts += self._prompts.again(picture.seen, picture.number)
        return parts

    def _holds(self, picture: Picture) -> bool:
        """Whether the prompt shows this picture already."""
        turns = [each.question.parts for each in self._exchanges]
        return any(
            part is picture.seen.embeddings
            for parts in (*turns, self._unanswered)
            for part in parts
        )

    def _cost(self, parts: Parts) -> int:
        texts = "".join(part for part in parts if isinstance(part, str))
        soft = sum(part.shape[0] for part in parts if isinstance(part, Tensor))
        return self._count(texts) + soft + _FRAME_TOKENS

    def _forget(self) -> None:
        """Beyond the limit only the newest exchanges stay, as many as fit into half of it."""
        if self.tokens <= self._limit:
            return
        while len(self._exchanges) > 1 and self.tokens > self._limit // 2:
            del self._exchanges[0]
        if self.tokens > self._limit:
            self._exchanges.clear()

    def _shortened(self, words: str) -> str:
        """The end of words that are too many; for words and more words it mostly begins alike."""
        most = self._limit // 2
        pieces = _PIECE.findall(words)
        begin = taken = 0
        for piece in pieces:
            taken += self._count(piece)
            if taken <= most:
                continue
            while taken > most // 2:
                taken -= self._count(pieces[begin])
                begin += 1
        return "".join(pieces[begin:]).lstrip() if begin else words


_THING = r"(?:picture|photo|image|frame|shot)s?"
_SMALL = str.split("one two three four five six seven eight nine ten eleven twelve")
_ORDER = str.split(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)
_VALUES = {word: number for words in (_SMALL, _ORDER) for number, word in enumerate(words, 1)}
_N = rf"(?:\d{{1,3}}|{'|'.join(_SMALL)})\b"
_TH = rf"(?:\d{{1,3}}(?:st|nd|rd|th)|{'|'.join(_ORDER)})\b"
_AND = r"(?:,|,? and|,? or)"
# "The first two pictures" are listed up to so many: more would not fit beside each other.
_FEW = 4

_NAMED = re.compile(
    rf"\b(?P<ago>{_N}) {_THING} (?:ago|back)\b"
    rf"|\b(?:(?P<side>first|last) )?(?P<few>both|{_N})(?: of)?(?: the| these| those)? {_THING}"
    rf"|\b(?P<ordinals>{_TH}(?:{_AND}(?: the)? {_TH})*) (?:{_THING}|one)\b"
    rf"|\b(?P<before>(?:previous|preceding|earlier|other) (?:{_THING}|one)|(?:{_THING}|one) before)"
    rf"|\b(?P<last>(?:last|latest|newest|current) (?:{_THING}|one)|{_THING} (?:right )?now)\b"
    rf"|\b(?:picture|photo|image|frame|shot)s (?P<list>{_N}(?:{_AND} {_N})+)"
    rf"|\b{_THING} (?:number |no\.? )?#?(?P<number>{_N})"
)
_NUMBERS = re.compile(rf"{_TH}|{_N}")


def _numbers_named(text: str, newest: int) -> Iterator[int]:
    """The numbers of the pictures that are named, whether or not there are such pictures."""
    for found in _NAMED.finditer(" ".join(text.lower().split())):
        kind, said = next((kind, said) for kind, said in found.groupdict().items() if said)
        if kind == "ago":
            yield newest - _value(said)
        elif kind in ("side", "few"):
            few = min(2 if found["few"] == "both" else _value(found["few"]), _FEW)
            start = 1 if found["side"] == "first" else newest - few + 1
            yield from range(start, start + few)
        elif kind == "before":
            yield newest - 1
        elif kind == "last":
            yield newest
        else:
            yield from map(_value, _NUMBERS.findall(said))


def _value(number: str) -> int:
    return _VALUES.get(number) or int(number.rstrip("stndrh"))
