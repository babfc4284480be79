"""Runs the language model and the voice for one response."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar, cast

from assistant.reply import Tongue
from assistant.server.realtime.response import Piece, Voiced
from assistant.workers import Worker
from assistant.writing import Message, TextDelta, WriteOptions, Writer, WritingEnded, Written
from audio.pcm import Sound
from audio.spoken_words import SpokenWord
from audio.tts import Speaking, SpeakOptions, Voice
from fusion.decoder import KVCache

T = TypeVar("T")
_END: Any = object()


class Taker(Protocol):
    """Who takes the pieces of an answer; see `ResponseRun`."""

    @property
    def wanted(self) -> bool:
        """Whether it still takes any."""
        ...

    def take(self, piece: Piece) -> None:
        """The next piece."""
        ...


async def steps(
    worker: Worker, make: Callable[[], Iterator[T]], wanted: Callable[[], bool]
) -> AsyncGenerator[T, None]:
    """The items of `make()`, each computed in the worker's thread when it is asked for.

    No step begins once nobody has `wanted` it. Unlike `Worker.iterate` this never waits for the
    thread after a cancellation: a call that hangs keeps its thread, which nothing can end, but not
    the dialogue that made it.
    """

    def step() -> T:
        # Asked for before the cancellation, perhaps, but its turn came after it: by then another
        # answer may use the same cache.
        return next(iterator, _END) if wanted() else _END

    iterator = await worker.run(make)
    while (item := await worker.run(step)) is not _END:
        yield item


class _Leaving:
    """A worker that is left at once when nobody wants its next item any more."""

    def __init__(self, worker: Worker, wanted: Callable[[], bool]) -> None:
        self._worker, self._wanted = worker, wanted

    def iterate(self, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        return steps(self._worker, make, self._wanted)


class _Paced:
    """A voice at another pace than its own."""

    def __init__(self, voice: Voice, speed: float) -> None:
        self._voice, self._speed = voice, speed
        self.sample_rate = voice.sample_rate

    def start(self) -> Speaking:
        return self._voice.start(SpeakOptions(rate=self._speed))


class Answering:
    """Writes answers and speaks them, clause by clause, while they are being written."""

    def __init__(self, writer: Writer, thinking: Worker, tongue: Tongue) -> None:
        self._writer, self._thinking = writer, thinking
        self._voice, self._speaking = tongue.voice, tongue.worker

    @property
    def voice_rate(self) -> int:
        """Samples per second of what is spoken."""
        return self._voice.sample_rate

    async def write(
        self,
        messages: Sequence[Message],
        options: WriteOptions,
        cache: KVCache | None,
        taker: Taker,
    ) -> None:
        """Hand every piece of a written answer to `taker`."""
        async with aclosing(self._written(messages, options, cache, taker)) as written:
            async for piece in written:
                taker.take(piece)

    async def speak(
        self,
        messages: Sequence[Message],
        options: WriteOptions,
        cache: KVCache | None,
        taker: Taker,
        speed: float = 1.0,
    ) -> None:
        """Hand every piece of a spoken answer to `taker`: words when written, then their sound.

        Calls of tools that follow words come when all of the words were spoken.
        """
        later: list[Written] = []

        async def wrote(text: str) -> None:
            taker.take(TextDelta(text))

        async def spoke(start: int, sound: Sound, words: tuple[SpokenWord, ...]) -> None:
            taker.take(Voiced(start, sound, words))

        async def words() -> AsyncGenerator[str, None]:
            spoken = False
            async with aclosing(self._written(messages, options, cache, taker)) as written:
                async for piece in written:
                    if isinstance(piece, TextDelta):
                        spoken = spoken or bool(piece.text.strip())
                        yield piece.text
                    elif spoken or isinstance(piece, WritingEnded):
                        later.append(piece)
                    else:
                        taker.take(piece)

        voice = self._voice if speed == 1.0 else cast(Voice, _Paced(self._voice, speed))
        worker = cast(Worker, _Leaving(self._speaking, lambda: taker.wanted))
        try:
            async with aclosing(words()) as pieces:
                await Tongue(voice, worker).speak(pieces, wrote, spoke)
        except ExceptionGroup as faults:  # one stage failed and the other was cancelled
            raise faults.exceptions[0] from None
        for piece in later:
            taker.take(piece)

    async def prefill(
        self, messages: Sequence[Message], cache: KVCache, options: WriteOptions
    ) -> None:
        """Run what is sure of a prompt through the model before the rest is known."""
        shown = options.tools if options.tool_choice != "none" else ()  # as `Writer.stream` does
        await self._thinking.run(lambda: self._writer.prefill(messages, cache, shown))

    def _written(
        self,
        messages: Sequence[Message],
        options: WriteOptions,
        cache: KVCache | None,
        taker: Taker,
    ) -> AsyncGenerator[Written, None]:
        return steps(
            self._thinking,
            lambda: self._writer.stream(messages, options, cache),
            lambda: taker.wanted,
        )
