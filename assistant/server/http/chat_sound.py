"""A written answer, spoken clause by clause while it is being written."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from assistant.reply import Tongue
from assistant.writing import TextDelta, WritingEnded, Written
from audio.encode import SoundFormat, sound_encoder
from audio.pcm import Sound
from audio.spoken_words import SpokenWord

#: Parts that may wait for a slow client; beyond this many the models wait.
_WAITING = 32


@dataclass(frozen=True)
class SoundPiece:
    """More of the encoded sound."""

    data: bytes


Part = Written | SoundPiece


async def spoken_parts(
    written: AsyncGenerator[Written], tongue: Tongue, form: SoundFormat
) -> AsyncGenerator[Part]:
    """What is written, and its sound as it is spoken; ``WritingEnded`` comes after both."""
    queue: asyncio.Queue[Part | None] = asyncio.Queue(_WAITING)
    task = asyncio.create_task(_Speaking(written, tongue, form, queue).run())
    # Whoever leaves early does not ask how it ended.
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    try:
        while (part := await _next(queue, task)) is not None:
            yield part
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _next(queue: "asyncio.Queue[Part | None]", task: "asyncio.Task[None]") -> Part | None:
    """What comes next; None when there is no more, or the task has failed."""
    getting = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait([getting, task], return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        return None if queue.empty() else queue.get_nowait()
    finally:
        getting.cancel()


class _Speaking:
    """One answer between the language model and the voice."""

    def __init__(
        self,
        written: AsyncGenerator[Written],
        tongue: Tongue,
        form: SoundFormat,
        queue: "asyncio.Queue[Part | None]",
    ) -> None:
        self._written, self._tongue, self._queue = written, tongue, queue
        self._encoder = sound_encoder(form, tongue.voice.sample_rate)
        self._ended: WritingEnded | None = None
        self._sounded = False

    async def run(self) -> None:
        """Puts all parts into the queue, and then None."""
        try:
            await self._tongue.speak(self._text(), self._tell, self._sound)
        except ExceptionGroup as group:  # one side failed and the other was cancelled
            raise group.exceptions[0] from None
        if self._sounded:
            rest = await self._tongue.worker.run(self._encoder.finish)
            await self._send(rest)
        if self._ended is not None:
            await self._queue.put(self._ended)
        await self._queue.put(None)

    async def _text(self) -> AsyncIterator[str]:
        async with aclosing(self._written):
            async for event in self._written:
                match event:
                    case TextDelta():
                        yield event.text
                    case WritingEnded():
                        self._ended = event
                    case _:
                        await self._queue.put(event)

    async def _tell(self, text: str) -> None:
        await self._queue.put(TextDelta(text))

    async def _sound(self, _start: int, sound: Sound, _words: tuple[SpokenWord, ...]) -> None:
        self._sounded = True
        await self._send(await self._tongue.worker.run(lambda: self._encoder.push(sound.samples)))

    async def _send(self, data: bytes) -> None:
        if data:
            await self._queue.put(SoundPiece(data))
