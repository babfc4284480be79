"""A realtime dialogue on fake models: nothing but what went in can come out."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter

from assistant.prompts import load_prompts
from assistant.server.engine import Engine
from assistant.server.metrics import Metrics
from assistant.server.realtime.dialogue import Dialogue, DialogueLimits
from assistant.server.realtime.events_in import ClientEvent, parse
from assistant.server.realtime.events_out import ServerEvent, to_json
from assistant.server.realtime.settings import Offer, SessionSettings
from assistant.writing import (
    CallBegan,
    CallDelta,
    Message,
    TextDelta,
    WriteOptions,
    WritingEnded,
    Written,
)
from audio.pcm import Samples, to_pcm16
from audio.transcript import HeardWord
from tests.assistant import session_fakes as fakes
from tests.assistant.session_fakes import VOCABULARY, WORD, Models

OFFER = Offer(model="voxsight", voices=("joe",), instructions="Be brief.")
CHUNK_S = 0.064
#: 24 kHz samples that one word of a fake answer lasts.
WORD_BYTES = 2 * 24_000 * fakes.REPLY_WORD // fakes.RATE


def words_in(samples: Samples) -> list[tuple[str, int, int]]:
    """As in the session's fakes, for sound that was resampled on its way."""
    found, at = [], 0
    loud = np.abs(samples) > 0.05
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud.astype(np.int8), [0]))))
    for at, end in zip(edges[::2], edges[1::2], strict=True):
        if end - at > WORD // 2:
            level = float(np.median(samples[at:end]))
            found.append((VOCABULARY[round((level - 0.1) / 0.01)], int(at), int(end)))
    return found


class Listener(fakes.Listener):
    """Hears words in sound that was resampled; what failed is asked for again, as in earnest."""

    def request(self, state: fakes.StreamState) -> tuple[int, Samples] | None:
        known = state.read_until
        request = super().request(state)
        state.read_until = known
        return request

    def accept(self, state: fakes.StreamState, words: tuple[HeardWord, ...]) -> Any:
        state.read_until = sum(map(len, state.sound))
        return super().accept(state, words)

    def recognise(self, request: tuple[int, Samples]) -> tuple[HeardWord, ...]:
        self.calls += 1
        if self.fault:
            raise self.fault
        begin, sound = request
        return tuple(HeardWord(f" {w}", begin + a, begin + b) for w, a, b in words_in(sound))


@dataclass
class Writer:
    """Answers "You said ..." with the last user message's words, or what it is told to."""

    answer: str | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)  # name, arguments
    fault: Exception | None = None
    asked: list[tuple[Message, ...]] = field(default_factory=list)
    options: list[WriteOptions] = field(default_factory=list)
    prefilled: list[tuple[Message, ...]] = field(default_factory=list)
    caches: list[Any] = field(default_factory=list)

    def new_cache(self) -> Any:
        return object()

    def count(self, text: str) -> int:
        return len(text.split())

    def prefill(self, messages: Sequence[Message], cache: Any, tools: Any = ()) -> None:
        self.prefilled.append(tuple(messages))

    def stream(
        self, messages: Sequence[Message], options: WriteOptions, cache: Any = None
    ) -> Iterator[Written]:
        self.asked.append(tuple(messages))
        self.options.append(options)
        self.caches.append(cache)
        return self._stream(messages, options)

    def _stream(self, messages: Sequence[Message], options: WriteOptions) -> Iterator[Written]:
        if self.fault:
            raise self.fault
        read = sum(self.count(text_of(message)) for message in messages)
        asked = next((text_of(m) for m in reversed(messages) if m.role == "user"), "nothing")
        words = (self.answer if self.answer is not None else f"You said {asked}.").split()
        calls = self.calls if options.tools and options.tool_choice != "none" else []
        if calls and self.answer is None:
            words = []
        for number, word in enumerate(words):
            if number == options.max_tokens:
                yield WritingEnded("length", read, number, 0)
                return
            yield TextDelta(word + " ")
        for index, (name, arguments) in enumerate(calls):
            yield CallBegan(index, f"call_{len(self.asked)}_{index}", name)
            for start in range(0, len(arguments), 4):
                yield CallDelta(index, arguments[start : start + 4])
        yield WritingEnded("tool_calls" if calls else "stop", read, len(words) + len(calls), 0)


def text_of(message: Message) -> str:
    return "".join(part for part in message.parts if isinstance(part, str))


@dataclass
class Caller:
    """Counts what is spent; refuses what it is told to."""

    spent: dict[str, float] = field(default_factory=dict)
    refuse: dict[str, Exception] = field(default_factory=dict)

    def spend(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            if name in self.refuse:
                raise self.refuse[name]
            self.spent[name] = self.spent.get(name, 0) + amount

    def rate_limits(self) -> tuple[Any, ...]:
        return ()


def look(image: Image.Image) -> Any:
    """What is seen is the picture's colour."""
    red, green, blue = np.asarray(image).reshape(-1, 3).mean(0)
    name = ("red", "green", "blue")[int(np.argmax((red, green, blue)))]
    guess = SimpleNamespace(name=name, probability=0.9)
    return SimpleNamespace(embeddings=torch.ones(2, 4), guesses=(guess,), recognised=True)


@dataclass
class World:
    """Fake models that dialogues share."""

    models: Models = field(default_factory=lambda: Models(listener=Listener(), look=look))
    writer: Writer = field(default_factory=Writer)
    caller: Caller = field(default_factory=Caller)

    def engine(self) -> Engine:
        models = SimpleNamespace(prompts=load_prompts())
        return Engine(models, None, self.models.parts(), self.writer)  # type: ignore[arg-type]


class Client:
    """One client of a dialogue: what it sends, and all that it was sent."""

    def __init__(
        self,
        world: World,
        limits: DialogueLimits | None = None,
        kind: Any = "realtime",
        extensions: Any = (),
    ) -> None:
        self.events: list[ServerEvent] = []
        self.world = world
        self.gone: Exception | None = None
        self._queue: asyncio.Queue[ClientEvent | None] = asyncio.Queue()
        self._taking = False
        self.dialogue = Dialogue(
            world.engine(),
            SessionSettings.initial(OFFER, "sess_1", kind),
            self._receive,
            offer=OFFER,
            limits=limits or DialogueLimits(),
            caller=world.caller,  # type: ignore[arg-type]
            metrics=Metrics(),
            name="sess_1",
            extensions=extensions,
        )

    def _receive(self, event: ServerEvent) -> None:
        if self.gone is not None:
            raise self.gone
        self.events.append(checked(event))

    async def __aenter__(self) -> "Client":
        self._run = asyncio.create_task(self.dialogue.run(self._incoming()))
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._queue.put_nowait(None)
        await self._run

    async def _incoming(self) -> AsyncIterator[ClientEvent]:
        while (event := await self._queue.get()) is not None:
            self._taking = True
            yield event
            self._taking = False

    async def _settle(self) -> None:
        """Let everything happen that can; pictures are opened in a thread of their own."""
        for _ in range(500):
            await settle()
            seeing = self.dialogue._seeing._work
            if not self._taking and (seeing is None or seeing.done()):
                break
            await asyncio.sleep(0.001)

    async def send(self, type: str, **fields: Any) -> list[ServerEvent]:
        """Send one event, let everything happen that can, and give what came of it."""
        before = len(self.events)
        self._taking = True
        self._queue.put_nowait(parse(json.dumps({"type": type} | fields)))
        await self._settle()
        return self.events[before:]

    async def update(self, **fields: Any) -> list[ServerEvent]:
        return await self.send("session.update", session={"type": "realtime"} | fields)

    async def hear(self, *sounds: Samples) -> list[ServerEvent]:
        """Send 16 kHz sound in chunks, at the speed at which the dialogue takes it."""
        before = len(self.events)
        whole = upsampled(np.concatenate(sounds))
        step = round(24_000 * CHUNK_S)
        for start in range(0, len(whole), step):
            await self.send("input_audio_buffer.append", audio=pcm(whole[start : start + step]))
        return self.events[before:]

    async def say(self, text: str, **fields: Any) -> list[ServerEvent]:
        """A message of the user in writing."""
        item = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": text}],
        }
        return await self.send("conversation.item.create", item=item | fields)

    def of(self, *types: str) -> list[Any]:
        return of(self.events, *types)

    @property
    def items(self) -> list[Any]:
        """The conversation inside."""
        return [entry.item for entry in self.dialogue._conversation]


async def settle() -> None:
    for _ in range(150):
        await asyncio.sleep(0)


@cache
def sdk_events() -> TypeAdapter[Any]:
    """What OpenAI's own client takes for an event."""
    from openai.types.realtime import RealtimeServerEvent

    return TypeAdapter(RealtimeServerEvent)


def checked(event: ServerEvent) -> ServerEvent:
    """The event, if OpenAI's client would take it."""
    if not event.type.startswith("voxsight."):
        sdk_events().validate_json(to_json(event))
    return event


def of(events: Sequence[ServerEvent], *types: str) -> list[Any]:
    return [event for event in events if event.type in types]


def kinds(events: Sequence[ServerEvent]) -> list[str]:
    """The types of events, runs of deltas as one."""
    names: list[str] = []
    for event in events:
        if not (names and names[-1] == event.type and event.type.endswith("delta")):
            names.append(event.type)
    return names


def upsampled(samples: Samples) -> Samples:
    return samples[(np.arange(len(samples) * 3 // 2) / 1.5).astype(int)]


def pcm(samples: Samples) -> str:
    return base64.b64encode(to_pcm16(samples).astype("<i2").tobytes()).decode()


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def run(script: Callable[[Client], Any], world: World | None = None, **options: Any) -> Client:
    """Play a script with one client, to its end."""

    async def play() -> Client:
        async with Client(world or World(), **options) as client:
            await script(client)
        return client

    return asyncio.run(play())
