"""From a conversation's items to the language model's messages, within a limit of tokens."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from assistant.prompts import Parts, Prompts
from assistant.server.realtime.choices import RetentionRatio, Truncation
from assistant.server.realtime.conversation import Entry
from assistant.server.realtime.items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputAudio,
    InputImage,
    MessageItem,
    OutputAudio,
)
from assistant.server.realtime.wire import WireError
from assistant.writing import Message, ToolCall
from fusion.adapter import SoftTokens

# What a chat template writes around one message, about.
_FRAME_TOKENS = 5
#: "auto" keeps so much of what is allowed when it is too much: forgetting often would cost the
#: model's cache each time, for the prompt would begin otherwise.
_AUTO_RETENTION = 0.5


@dataclass(frozen=True, eq=False)
class Question:
    """What a user says before it is an item: words, and what the camera shows."""

    words: str
    frame: SoftTokens | None = None

    def same(self, other: "Question") -> bool:
        """Whether the answer to one fits the other."""
        return self.words == other.words and self.frame is other.frame


@dataclass(frozen=True)
class Prompt:
    """Messages, with how many tokens of the conversation are pictures and spoken words, about."""

    messages: tuple[Message, ...]
    tokens: int
    image_tokens: int = 0
    audio_tokens: int = 0


class Context:
    """Makes prompts out of entries; it remembers which items are too old to be in one.

    Args:
        prompts: the words around pictures.
        count: how many tokens a text has.
        limit_tokens: of a conversation in a prompt.
    """

    def __init__(self, prompts: Prompts, count: Callable[[str], int], limit_tokens: int) -> None:
        self._prompts, self._limit = prompts, limit_tokens
        self._count = lru_cache(maxsize=512)(count)

    def prompt(
        self,
        instructions: str,
        entries: Iterable[Entry],
        question: Question | None = None,
        truncation: Truncation = "auto",
    ) -> Prompt:
        """The prompt of a response.

        Where it would be too long, its oldest items are left out, now and in every prompt after
        this. WireError if that is not allowed, or if the newest item alone is too long.
        """
        kept = [entry for entry in entries if not entry.left_out]
        asked = self._user_parts(question.words, question.frame) if question else ()
        costs = [self._cost(entry) for entry in kept]
        total = sum(costs) + (self._parts_cost(asked) if asked else 0)
        if total > self._limit:
            kept = self._leave_out(kept, costs, total, truncation, bool(asked))
        messages = [Message("system", (instructions,))] if instructions else []
        for entry in kept:
            _append(messages, self._message(entry))
        if asked:
            _append(messages, Message("user", asked))
        spoken = " ".join([*map(_spoken_words, kept), *([question.words] if question else [])])
        return Prompt(
            tuple(messages),
            sum(self._parts_cost(message.parts) for message in messages),
            sum(part.shape[0] for m in messages for part in m.parts if isinstance(part, Tensor)),
            self._count(spoken.strip()) if spoken.strip() else 0,
        )

    def _leave_out(
        self, kept: list[Entry], costs: list[int], total: int, truncation: Truncation, asked: bool
    ) -> list[Entry]:
        """The newest entries, as many as the truncation keeps."""
        if truncation == "disabled":
            raise self._too_long(total, "delete items, or turn truncation on")
        ratio = _AUTO_RETENTION
        if isinstance(truncation, RetentionRatio):
            ratio = truncation.retention_ratio
        first, newest = 0, len(kept) - (0 if asked else 1)
        while first < newest and total > self._limit * ratio:
            total -= costs[first]
            first += 1
        while first < newest and isinstance(kept[first].item, FunctionCallOutputItem):
            total -= costs[first]  # what was called is left out: so is what it gave
            first += 1
        if total > self._limit:
            raise self._too_long(total, "say less at once")
        for entry in kept[:first]:
            entry.left_out = True
        return kept[first:]

    def _too_long(self, total: int, advice: str) -> WireError:
        return WireError(
            f"Expected a conversation of at most {self._limit} tokens, got {total}; {advice}.",
            "context_length_exceeded",
        )

    def _message(self, entry: Entry) -> Message:
        match entry.item:
            case FunctionCallItem() as call:
                return Message(
                    "assistant", calls=(ToolCall(call.call_id, call.name, call.arguments),)
                )
            case FunctionCallOutputItem() as output:
                return Message("tool", (output.output,), call_id=output.call_id)
        return Message(entry.item.role, self._parts(entry, entry.item))

    def _parts(self, entry: Entry, item: MessageItem) -> Parts:
        if entry.spoken is not None:
            return (self._prompts.cut(entry.spoken),) if entry.spoken else ()
        words = " ".join(filter(None, (_words(part) for part in item.content)))
        if item.role != "user":
            return (words,) if words else ()
        pictures = [entry.pictures[place] for place in sorted(entry.pictures)]
        return self._user_parts(words, *([entry.frame] if entry.frame else []), *pictures)

    def _user_parts(self, words: str, *pictures: SoftTokens | None) -> Parts:
        """What a user shows, then what he says: the order that the model was tried with."""
        shown = [picture for picture in pictures if picture is not None]
        if not shown:
            return self._prompts.user(words) if words else ()
        *others, last = shown
        parts: Parts = ()
        for number, picture in enumerate(others, 1):
            parts += self._prompts.user("", picture, number)
        return parts + self._prompts.user(words, last, len(shown) if others else None)

    def _cost(self, entry: Entry) -> int:
        message = self._message(entry)
        calls = "".join(call.name + call.arguments for call in message.calls)
        return self._parts_cost((*message.parts, calls))

    def _parts_cost(self, parts: Parts) -> int:
        text = "".join(part for part in parts if isinstance(part, str))
        soft = sum(part.shape[0] for part in parts if isinstance(part, Tensor))
        return (self._count(text) if text else 0) + soft + _FRAME_TOKENS


def _append(messages: list[Message], message: Message) -> None:
    """Calls belong to the words before them: the model wrote both in one go."""
    before: Sequence[Message] = messages[-1:]
    if message.calls and before and before[0].role == "assistant":
        messages[-1] = Message("assistant", before[0].parts, (*before[0].calls, *message.calls))
    elif message.parts or message.calls or message.role == "tool":
        messages.append(message)


def _words(part: object) -> str:
    match part:
        case InputAudio(transcript=words) | OutputAudio(transcript=words):
            return words or ""
        case InputImage():
            return ""
    return str(getattr(part, "text", ""))


def _spoken_words(entry: Entry) -> str:
    if not isinstance(entry.item, MessageItem):
        return ""
    spoken = [part for part in entry.item.content if isinstance(part, InputAudio)]
    return " ".join(part.transcript or "" for part in spoken)
