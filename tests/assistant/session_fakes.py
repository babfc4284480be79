"""Stand-ins for the models of a session that depend on nothing but what they are given.

A spoken word is a burst of 0.3 s whose level says which word of ``VOCABULARY`` it is, so that words
come out of a session only if their sound went into it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from assistant.events import AudioIn, SessionEvent, SessionInput
from assistant.memory import Memory
from assistant.prompts import load_prompts
from assistant.reply import Tongue
from assistant.session import Parts, Session, SessionConfig
from audio.pcm import Samples
from audio.spoken_words import SpokenWord
from audio.transcript import HeardWord, TranscriptUpdate
from audio.tts import SpokenChunk

RATE = 16_000
CHUNK = 1_024
WORD = 4_800
VOCABULARY = (
    *str.split("what is this tell me more about cats dogs birds stop wait yeah okay because and"),
    *str.split("how are you today one two three four five six seven eight nine ten"),
)
REPLY_WORD = 3_200  # samples of one spoken word of a reply, 0.2 s


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def say(text: str) -> Samples:
    """The sound of words of ``VOCABULARY``."""
    parts = []
    for word in text.split():
        level = 0.1 + 0.01 * VOCABULARY.index(word)
        parts += [np.full(WORD, level, np.float32), np.zeros(160, np.float32)]
    return np.concatenate(parts)


def words_in(samples: Samples) -> list[tuple[str, int, int]]:
    """The words whose bursts are in the samples for more than half, with their places."""
    found, at = [], 0
    while at < len(samples):
        level = samples[at]
        end = at
        while end < len(samples) and samples[end] == level:
            end += 1
        if level > 0 and end - at > WORD // 2:
            found.append((VOCABULARY[round((float(level) - 0.1) / 0.01)], at, end))
        at = end
    return found


class LoopWorker:
    """A worker whose calls run on the event loop, one turn of the loop each."""

    held = False  # calls wait as long as this is set

    async def run(self, call: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        while self.held:
            await asyncio.sleep(0)
        return call()

    async def iterate(self, make: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
        for item in await self.run(make):
            yield item
            await asyncio.sleep(0)


class Activity:
    """Speech is what is not zero."""

    def push(self, state: Any, samples: Samples) -> Any:
        heard = np.concatenate((state.tail[64:], samples))
        count = len(heard) // 512
        blocks = heard[: count * 512].reshape(count, 512)
        state.tail = np.concatenate((state.tail[:64], heard[count * 512 :]))
        state.blocks += count
        return (np.abs(blocks).mean(axis=1) > 0.01).astype(np.float32)


@dataclass
class StreamState:
    sound: list[Samples] = field(default_factory=list)
    begin: int = 0
    speech_until: int = 0
    read_until: int = 0
    words: tuple[HeardWord, ...] = ()
    committed: int = 0


class Listener:
    """Hears the words of a stream; a word is final once another one follows it."""

    def __init__(self) -> None:
        self.calls = 0
        self.fault: Exception | None = None

    def state(self) -> StreamState:
        return StreamState()

    def begin(self, state: StreamState, at: int) -> None:
        state.begin, state.words, state.committed, state.read_until = at, (), 0, at

    def hear(self, state: StreamState, samples: Samples, speech_until: int | None = None) -> None:
        state.sound.append(samples)
        state.speech_until = speech_until or 0

    def request(self, state: StreamState) -> tuple[int, Samples] | None:
        if state.read_until >= state.speech_until:
            return None
        sound = np.concatenate(state.sound)
        state.read_until = len(sound)
        return state.begin, sound[state.begin :]

    def recognise(self, request: tuple[int, Samples]) -> tuple[HeardWord, ...]:
        self.calls += 1
        if self.fault:
            raise self.fault
        begin, sound = request
        return tuple(HeardWord(f" {w}", begin + a, begin + b) for w, a, b in words_in(sound))

    def accept(self, state: StreamState, words: tuple[HeardWord, ...]) -> TranscriptUpdate:
        old, state.words = state.committed, words
        state.committed = max(old, len(words) - 1)
        return TranscriptUpdate(words[old : state.committed], words[state.committed :])

    def finish(self, state: StreamState) -> TranscriptUpdate:
        old, state.committed = state.committed, len(state.words)
        return TranscriptUpdate(state.words[old:])


class Prompts:
    """A prompt is its turns."""

    def build(self, turns: Any, *, open_answer: bool = True) -> Any:
        return turns


class Decoder:
    """Answers "You said ...", with the words of the last turn; or with ``answer``."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []
        self.prefilled: list[Any] = []
        self.answer: str | None = None
        self.fault: Exception | None = None

    def prefill(self, turns: Any, cache: Any) -> None:
        self.prefilled.append(turns)

    def stream(self, turns: Any, options: Any, cache: Any) -> Iterator[str]:
        self.prompts.append(turns)
        if self.fault:
            raise self.fault
        asked = "".join(part for part in turns[-1].parts if isinstance(part, str))
        answer = self.answer if self.answer is not None else f"You said {asked}."
        for word in answer.split():
            yield word + " "


class Voice:
    """Each word lasts ``REPLY_WORD`` samples and comes in a chunk of its own."""

    sample_rate = RATE
    fault: Exception | None = None

    def start(self) -> Any:
        return SimpleNamespace(stream=self._stream)

    def _stream(self, clause: str) -> Iterator[SpokenChunk]:
        if self.fault:
            raise self.fault
        for number, word in enumerate(clause.split()):
            at = number * REPLY_WORD
            spoken = SpokenWord(word, at, at + REPLY_WORD)
            yield SpokenChunk(np.full(REPLY_WORD, 0.5, np.float32), at, (spoken,))


@dataclass
class Models:
    """Fake models that several sessions may share."""

    listener: Listener = field(default_factory=Listener)
    decoder: Decoder = field(default_factory=Decoder)
    voice: Voice = field(default_factory=Voice)
    look: Callable[[Any], Any] = lambda image: image
    thinker: LoopWorker = field(default_factory=LoopWorker)
    hearer: LoopWorker = field(default_factory=LoopWorker)

    def parts(self) -> Parts:
        worker: Any = LoopWorker()
        return Parts(
            activity=Activity(),
            listener=self.listener,  # type: ignore[arg-type]
            look=lambda image: self.look(image),
            decoder=self.decoder,  # type: ignore[arg-type]
            prompts=Prompts(),  # type: ignore[arg-type]
            new_cache=lambda: None,  # type: ignore[arg-type,return-value]
            new_memory=lambda: Memory(
                load_prompts(), limit_tokens=1000, count=lambda text: len(text.split())
            ),
            tongue=Tongue(self.voice, worker),  # type: ignore[arg-type]
            listening=self.hearer,  # type: ignore[arg-type]
            looking=worker,
            thinking=self.thinker,  # type: ignore[arg-type]
        )


async def settle() -> None:
    """Let every task do all it can at this moment."""
    for _ in range(100):
        await asyncio.sleep(0)


Script = Sequence[Samples | SessionInput | Callable[[], None]]


async def converse(
    models: Models, script: Script, config: SessionConfig | None = None
) -> tuple[list[tuple[int, SessionEvent]], Session]:
    """Play a script into a session; its events, each with the samples that had gone in."""
    session = Session(models.parts(), config)
    position = 0

    async def inputs() -> AsyncIterator[SessionInput]:
        nonlocal position
        for item in script:
            if isinstance(item, np.ndarray):
                for start in range(0, len(item), CHUNK):
                    chunk = item[start : start + CHUNK]
                    position += len(chunk)
                    yield AudioIn(chunk)
                    await settle()
            elif callable(item):
                item()
            else:
                yield item
                await settle()

    return [(position, event) async for event in session.run(inputs())], session


def of(events: list[tuple[int, SessionEvent]], *kinds: type) -> list[Any]:
    """The events of some kinds."""
    return [event for _, event in events if isinstance(event, kinds)]
