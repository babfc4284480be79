"""What a dialogue sees: pictures in messages, and what the camera shows."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from assistant.server.media import MediaRules, read_picture
from assistant.server.realtime.bounds import DialogueLimits
from assistant.server.realtime.events_in import CameraFrame
from assistant.server.realtime.events_out import ServerEvent
from assistant.server.realtime.extensions import FrameSeen
from assistant.server.realtime.faults import error_event
from assistant.server.realtime.payloads import Sighting
from assistant.session import Parts
from audio.media import MediaLimits
from fusion.adapter import SoftTokens
from vision.frames import FrameSelector, FrameState

Start = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Seeing:
    """Opens pictures, and has them looked at in their model's thread.

    Of camera frames one is worked on at a time, and only the newest waits: a camera that is
    faster than the encoder costs nothing but the frames between.

    Args:
        parts: the models.
        limits: how large a picture may be.
        emit: sends an event.
        start: starts a task of the dialogue.
        now: where the sound that comes in is, in samples at 16 kHz.
    """

    def __init__(
        self,
        parts: Parts,
        limits: DialogueLimits,
        emit: Callable[[ServerEvent], None],
        start: Start,
        now: Callable[[], int],
    ) -> None:
        self._parts, self._emit, self._start, self._now = parts, emit, start, now
        self._rules = MediaRules(limits.images, MediaLimits(), limits.images.max_bytes)
        self._selector, self._state = FrameSelector(), FrameState()
        self._waiting: CameraFrame | None = None
        self._work: asyncio.Task[None] | None = None
        #: What the camera showed last, if no question has had it yet.
        self.newest: SoftTokens | None = None

    async def open(self, url: str, param: str) -> Any:
        """The picture of a data URL (PIL, RGB); ApiError 400 for anything else."""
        return await read_picture(url, self._rules, param)

    async def look(self, image: Any) -> SoftTokens:
        """A picture as the language model sees it."""
        return await self._parts.looking.run(lambda: self._parts.look(image))

    def show(self, frame: CameraFrame) -> None:
        """The camera's next frame."""
        self._waiting = frame
        if self._work is None or self._work.done():
            self._work = self._start(self._follow())

    def take(self) -> SoftTokens | None:
        """What the camera shows, for a question; it is shown once."""
        newest, self.newest = self.newest, None
        return newest

    async def settled(self) -> None:
        """Wait for the frames that came until now."""
        if self._work is not None:
            await asyncio.wait([self._work])

    async def _follow(self) -> None:
        while self._waiting is not None:
            frame, self._waiting = self._waiting, None
            try:
                await self._see(frame)
            except Exception as fault:  # noqa: BLE001 - the border of one event
                self._emit(error_event(fault, frame.event_id))

    async def _see(self, frame: CameraFrame) -> None:
        image = await self.open(frame.image, "image")
        kept = self._selector.see(self._state, image, self._now())
        if kept is None:
            return
        seen = await self.look(kept.image)
        self._state.kept.clear()  # its tokens are all that is needed
        self.newest = seen
        sightings = tuple(
            Sighting(name=guess.name, probability=guess.probability) for guess in seen.guesses
        )
        self._emit(
            FrameSeen(
                frame_event_id=frame.event_id, sightings=sightings, recognised=seen.recognised
            )
        )
