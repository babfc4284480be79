"""Text of the language model for programs: streamed, with tools called and answers of a form."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from assistant.call_text import CallArguments, CallEnded, CallName, CallText, Part, PlainText
from assistant.errors import VoxsightError
from fusion.constrained import Constrainer, Function, Guide
from fusion.decoder import DecodeOptions, Decoder, EmbeddedPrompt, Finish, KVCache, TextStream
from fusion.errors import FusionError
from fusion.prompt import PromptBuilder, Turn
from fusion.text_stream import StopFilter

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tool:
    """A function that the program offers; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise VoxsightError(
                "Expected a tool's name of 1 to 64 letters, digits, underscores and dashes, got "
                f"{self.name[:80]!r}; rename the tool."
            )


@dataclass(frozen=True)
class ToolCall:
    """A function that the model called; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message: texts and images (soft tokens (k, hidden)) in the order they are shown.

    An assistant's message may hold `calls`; a tool's tells in `call_id` which of them it answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[str | Tensor, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True)
class WriteOptions:
    """What to write and when to end; greedy by default.

    `tool_choice` is auto, none, required, or the name of the tool that must be called. `stop`
    ends text, not a call. An answer of a `schema`, or any `json_object`, that ends by itself
    keeps to it. Raises VoxsightError for what contradicts itself.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] | None = None
    json_object: bool = False
    parallel_calls: bool = True

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise VoxsightError(
                f"Expected tools with different names, got {', '.join(names)}; rename one."
            )
        if self.tool_choice not in ("auto", "none", "required", *names):
            raise VoxsightError(
                f"Expected tool_choice auto, none, required or a tool's name, got "
                f"{self.tool_choice!r}; the tools are {', '.join(names) or 'none'}."
            )
        if self.tool_choice == "required" and not names:
            raise VoxsightError("Expected tools with tool_choice required, got none; give tools.")

    @property
    def form(self) -> Mapping[str, Any] | None:
        """The JSON schema of the answer's text; None for any text."""
        return {"type": "object"} if self.schema is None and self.json_object else self.schema

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The tools that this answer may call."""
        match self.tool_choice:
            case "none":
                return ()
            case "auto" | "required":
                return self.tools
            case name:
                return tuple(tool for tool in self.tools if tool.name == name)


@dataclass(frozen=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True)
class CallBegan:
    """The model calls a tool; its arguments follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class CallDelta:
    """More of the JSON text of call `index`'s arguments."""

    index: int
    arguments: str


@dataclass(frozen=True)
class WritingEnded:
    """The last of the stream: why it ended, and what it took."""

    finish: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


Written = TextDelta | CallBegan | CallDelta | WritingEnded


class Writer:
    """Writes answers to messages; shared by all sessions, its methods block."""

    def __init__(self, decoder: Decoder, prompts: PromptBuilder) -> None:
        self._decoder = decoder
        self._prompts = prompts
        self._constrainer = Constrainer(decoder)

    def stream(
        self, messages: Sequence[Message], options: WriteOptions, cache: KVCache | None = None
    ) -> Iterator[Written]:
        """The answer as it is written; nothing is computed before the first `next`.

        Closing the iterator ends the work, at the latest after the token that is being computed.
        `cache` then holds the messages and what was written of the answer. FusionError where the
        messages do not fit in the model's context, or a schema cannot be enforced.
        """
        guide = self._guide(options)
        # What may not be called is not shown either: a small model would write calls all the same.
        offered = () if options.tool_choice == "none" else options.tools
        prompt = self._prompt(messages, offered, open_answer=True)
        decode = self._decode_options(prompt, options)
        cache = cache if cache is not None else self.new_cache()
        cached = min(cache.shared_length(prompt), len(prompt) - 1)
        text = self._decoder.stream(prompt, decode, cache, guide)
        answer = _Answer([tool.name for tool in options.callable], options.stop)
        yield from answer.read(text)
        yield WritingEnded(answer.finish(text), len(prompt), text.tokens, cached)

    def prefill(
        self, messages: Sequence[Message], cache: KVCache, tools: Sequence[Tool] = ()
    ) -> None:
        """Run messages into `cache`, the answer not opened, so that a later answer begins sooner.

        Works with messages that the model's template takes as the start of a longer conversation.
        """
        self._decoder.prefill(self._prompt(messages, tools, open_answer=False), cache)

    def prepare(self) -> None:
        """Make ready what the first answer of a given form would otherwise wait for (1 to 2 s)."""
        with contextlib.suppress(FusionError):  # told to who asks for such an answer
            self._constrainer.json({"type": "object"})

    def new_cache(self) -> KVCache:
        """An empty cache for one conversation."""
        return self._decoder.new_cache()

    def count(self, text: str) -> int:
        """How many tokens `text` has."""
        return len(self._decoder.token_ids(text))

    def _prompt(
        self, messages: Sequence[Message], tools: Sequence[Tool], *, open_answer: bool
    ) -> EmbeddedPrompt:
        offered = [vars(tool) for tool in tools]
        return self._prompts.build(
            [_turn(message) for message in messages], open_answer=open_answer, tools=offered
        )

    def _guide(self, options: WriteOptions) -> Guide | None:
        form = options.form
        if options.callable:
            return self._constrainer.calls(
                [Function(tool.name, tool.parameters) for tool in options.callable],
                forced=options.tool_choice != "auto",
                several=options.parallel_calls and options.tool_choice in ("auto", "required"),
                schema=form,
            )
        return self._constrainer.json(form) if form is not None else None

    def _decode_options(self, prompt: EmbeddedPrompt, options: WriteOptions) -> DecodeOptions:
        """The budget, cut to what the model's context has left."""
        budget, context = options.max_tokens, self._decoder.network.context
        if context is not None:
            if len(prompt) >= context:
                raise VoxsightError(
                    f"Expected messages of fewer than {context} tokens, the language model's "
                    f"context, but they take {len(prompt)}; shorten them."
                )
            budget = min(budget, context - len(prompt))
        return DecodeOptions(
            max_tokens=budget,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed,
        )


class _Answer:
    """Sorts an answer's text into what is said and what is called."""

    def __init__(self, tools: Sequence[str], stop: Sequence[str]) -> None:
        self._reader: CallText | PlainText = CallText(tools) if tools else PlainText()
        self._gate = StopFilter(stop)
        self._calls: list[tuple[str, str]] = []
        self._held: list[Written] = []
        self._stopped = False

    def read(self, text: TextStream) -> Iterator[Written]:
        """The answer's events, up to the first stop string or a call that repeats another."""
        for piece in text:
            for part in self._reader.push(piece):
                yield from self._sort(part)
                if self._stopped:
                    return
        rest = self._gate.push(self._reader.flush()) + self._gate.flush()
        if rest and not self._calls:
            yield TextDelta(rest)

    def finish(self, text: TextStream) -> Literal["stop", "length", "tool_calls"]:
        """Why it ended."""
        if text.finish is Finish.LENGTH and not self._stopped:
            return "length"
        return "tool_calls" if self._calls else "stop"

    def _sort(self, part: Part) -> Iterator[Written]:
        match part:
            case str():
                if said := self._gate.push(part):
                    yield TextDelta(said)
                self._stopped = self._gate.stopped
            case CallName():
                if rest := self._gate.flush():
                    yield TextDelta(rest)
                self._calls.append((part.name, ""))
                yield from self._show(CallBegan(part.index, part.id, part.name))
            case CallArguments():
                name, arguments = self._calls[-1]
                self._calls[-1] = name, arguments + part.text
                yield from self._show(CallDelta(part.index, part.text))
            case CallEnded():
                # A small model may go on calling the same for ever, so that from the second call
                # on, a call is shown when it is known to be another.
                self._stopped = self._calls[-1] in self._calls[:-1]
                held, self._held = self._held, []
                yield from () if self._stopped else held

    def _show(self, event: Written) -> Iterator[Written]:
        if len(self._calls) == 1:
            yield event
        else:
            self._held.append(event)


def _turn(message: Message) -> Turn:
    calls = tuple({"name": call.name, "arguments": _arguments(call)} for call in message.calls)
    return Turn(message.role, message.parts, calls)


def _arguments(call: ToolCall) -> dict[str, Any]:
    """A call's arguments as the template wants them: what a program sends back may be anything."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise VoxsightError(
            f"Expected a JSON object as the arguments of the call {call.id!r}, got "
            f"{call.arguments[:80]!r}; send back what the model wrote."
        )
    return arguments
