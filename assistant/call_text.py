"""Reads calls of tools out of text as it is being written: `<tool_call>` and JSON after it."""

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fusion.constrained import CALL_OPENS, call_head

# What comes before the arguments, as `fusion.constrained` lets it be written.
_HEAD = re.compile(r'\s*\{"name": "([^"]*)", "arguments": ')


@dataclass(frozen=True)
class CallName:
    """A call has begun."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class CallArguments:
    """More of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnded:
    """A call has all its arguments."""

    index: int


Part = str | CallName | CallArguments | CallEnded


class PlainText:
    """Text in which nothing is called."""

    def push(self, piece: str) -> Iterator[Part]:
        """The piece as it is."""
        yield piece

    def flush(self) -> str:
        """Nothing is ever held back."""
        return ""


@dataclass
class CallText:
    """Text before calls, and the calls; parts come as soon as it is certain what they are.

    `names` are the tools that may be called without the marks, at the very beginning.
    """

    names: Sequence[str] = ()
    _held: str = ""
    _index: int = -1
    _said: bool = False
    _place: str = "text"  # text, name, arguments, end
    _object: "_JsonObject" = field(default_factory=lambda: _JsonObject())

    def push(self, piece: str) -> Iterator[Part]:
        """The parts that are certain with this piece of text, which may be cut anywhere."""
        self._held += piece
        place = ""
        while place != self._place:
            place = self._place
            match place:
                case "text":
                    yield from self._text()
                case "name":
                    yield from self._name()
                case "arguments":
                    yield from self._arguments()
                case "end":
                    self._end()

    def flush(self) -> str:
        """At the end: text that was held back since it might have become a call."""
        held, self._held = self._held, ""
        return held if self._place == "text" and self._index < 0 else ""

    def _text(self) -> Iterator[str]:
        if not self._said and self._begins_bare():
            return
        before, mark, after = self._held.partition(CALL_OPENS)
        # White space before a call belongs to neither.
        said = before.rstrip()
        if not mark:
            kept = next(n for n in range(len(CALL_OPENS) - 1, -1, -1) if _may_open(before, n))
            said = before[: len(before) - kept].rstrip()
            after = self._held[len(said) :]
        if said and self._index < 0:
            self._said = True
            yield said
        self._held = after
        if mark:
            self._place = "name"

    def _begins_bare(self) -> bool:
        """Whether a call without marks begins here, or still may."""
        start = self._held.lstrip()
        heads = [call_head(name) for name in self.names]
        if any(start.startswith(head) for head in heads):
            self._place = "name"
            return True
        return any(head.startswith(start) for head in heads)

    def _name(self) -> Iterator[CallName]:
        head = _HEAD.match(self._held)
        if head is not None:
            self._index += 1
            self._held = self._held[head.end() :]
            self._place, self._object = "arguments", _JsonObject()
            yield CallName(self._index, f"call_{uuid.uuid4().hex[:24]}", head[1])

    def _arguments(self) -> Iterator[CallArguments | CallEnded]:
        taken = self._object.push(self._held)
        if taken:
            yield CallArguments(self._index, self._held[:taken])
        self._held = self._held[taken:]
        if self._object.ended:
            self._place = "end"
            yield CallEnded(self._index)

    def _end(self) -> None:
        """Past the brace after the arguments; a closing mark is no text, as nothing is any more."""
        _, brace, after = self._held.partition("}")
        if brace:
            self._held, self._place = after, "text"


def _may_open(text: str, length: int) -> bool:
    return length == 0 or text.endswith(CALL_OPENS[:length])


@dataclass
class _JsonObject:
    """Finds where a JSON object ends."""

    ended: bool = False
    _depth: int = 0
    _quoted: bool = False
    _escaped: bool = False

    def push(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for count, sign in enumerate(text, start=1):
            self._take(sign)
            if self.ended:
                return count
        return len(text)

    def _take(self, sign: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped = sign == "\\"
            self._quoted = sign != '"'
        elif sign == '"':
            self._quoted = True
        elif sign in "{[":
            self._depth += 1
        elif sign in "}]":
            self._depth -= 1
            self.ended = self._depth == 0
