"""What waits to be sent to one client: bounded in bytes, and given up when nobody takes it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocketDisconnect

#: On top of its patience a slow reader gets the time that what is on its way takes at this rate.
_SLOW_LINK_BYTES_PER_S = 32_000


class ClientGoneError(Exception):
    """The client left, or takes nothing any more: nothing can be sent to it."""


class SlowReaderError(ClientGoneError):
    """The client took nothing for too long, or less than the session wrote."""


class Outbox:
    """Frames between those who make them, who never wait, and the connection.

    Args:
        limit_bytes: with so much waiting, the next ``put`` gives the client up; what waits is thus
            at most this and one frame.
        patience_s: a frame that is not taken within this time, and what the frame before it needs
            on a slow link, gives the client up.
        count: told of bytes that come (positive) and go (negative).
    """

    def __init__(self, limit_bytes: int, patience_s: float, count: Callable[[int], None]) -> None:
        self._limit, self._patience_s, self._count = limit_bytes, patience_s, count
        self._frames: deque[tuple[str, int]] = deque()
        self._waiting = 0
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._fault: ClientGoneError | None = None
        self._closed = False

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait, those on their way to the network not counted."""
        return self._waiting

    @property
    def fault(self) -> ClientGoneError | None:
        """Why the client was given up, if it was."""
        return self._fault

    def put(self, text: str) -> None:
        """Send a frame when its turn comes. ClientGoneError if that will never be."""
        if self._fault is None and not self._closed and self._waiting >= self._limit:
            self._give_up(SlowReaderError(f"{self._waiting} bytes wait for the client"))
        if self._fault is not None:
            raise self._fault
        if self._closed:
            raise ClientGoneError("the session has ended")
        size = len(text) if text.isascii() else len(text.encode())
        self._frames.append((text, size))
        self._add(size)
        self._wake.set()

    async def room(self) -> None:
        """Wait until less than half of the limit waits, or the client is given up."""
        await self._room.wait()

    def close(self) -> None:
        """Take no more; ``deliver`` ends when what waits is sent."""
        self._closed = True
        self._wake.set()

    async def deliver(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send frame after frame until closed, or until the client is given up: see ``fault``.

        Args:
            send: returns when the connection has taken a frame; OSError if it is broken.
        """
        before = 0
        try:
            while (frame := await self._next()) is not None:
                text, size = frame
                async with asyncio.timeout(self._patience_s + before / _SLOW_LINK_BYTES_PER_S):
                    await send(text)
                before = size
        except TimeoutError:
            self._give_up(SlowReaderError("the client takes nothing"))
        except (OSError, WebSocketDisconnect, RuntimeError) as error:
            # The last is how the server says that it has closed the connection meanwhile.
            self._give_up(ClientGoneError(f"the connection broke: {error!r}"))
        finally:
            self._closed = True
            self._drop()

    async def _next(self) -> tuple[str, int] | None:
        while not self._frames:
            if self._closed or self._fault is not None:
                return None
            self._wake.clear()
            await self._wake.wait()
        text, size = self._frames.popleft()
        self._add(-size)
        return text, size

    def _give_up(self, fault: ClientGoneError) -> None:
        self._fault = self._fault or fault
        self._drop()
        self._wake.set()

    def _drop(self) -> None:
        self._frames.clear()
        self._add(-self._waiting)

    def _add(self, size: int) -> None:
        if size:
            self._waiting += size
            self._count(size)
        if self._waiting * 2 >= self._limit:
            self._room.clear()
        else:
            self._room.set()
