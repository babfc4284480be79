"""Responses that are sent while they are being made."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar, cast

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from assistant.server.errors import as_api_error
from assistant.server.http.wire import Reply
from assistant.server.metrics import Metrics
from assistant.server.state import ServerState
from assistant.workers import Worker

T = TypeVar("T")
#: The last line of OpenAI's event streams.
DONE = b"data: [DONE]\n\n"


class PacedResponse(StreamingResponse):
    """Sends a generator's items; a client that reads nothing for too long is let go.

    The generator is closed when the client is gone, and with it the work behind it.
    """

    def __init__(
        self, items: AsyncGenerator[bytes], state: ServerState, media_type: str, **others: Any
    ) -> None:
        super().__init__(items, media_type=media_type, **others)
        self._items = items
        self._patience_s = state.config.slow_reader_s

    async def stream_response(self, send: Send) -> None:
        """Send all there is; ClientDisconnect if the client does not take it."""

        async def paced(message: Message) -> None:
            try:
                async with asyncio.timeout(self._patience_s):
                    await send(message)
            except TimeoutError:
                raise ClientDisconnect from None

        async with aclosing(self._items):
            await super().stream_response(paced)


def steps(worker: Worker, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T]:
    """The items of `make()`, each computed in the worker's thread; to be closed by its user."""
    return cast(AsyncGenerator[T], worker.iterate(make))


async def begun(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same items, once the first is there: what fails before it still gets a status."""
    try:
        first = await anext(items)
    except BaseException:
        await items.aclose()
        raise

    async def all_of_them() -> AsyncGenerator[T]:
        async with aclosing(items):
            yield first
            async for item in items:
                yield item

    return all_of_them()


async def event_stream(items: AsyncGenerator[Reply], metrics: Metrics) -> AsyncGenerator[bytes]:
    """Server-sent events, one for each item; an error is the last of them."""
    async with aclosing(items):
        try:
            async for item in items:
                yield sse(item.json_text())
        except Exception as error:  # noqa: BLE001 - the border of a response that has begun
            told = as_api_error(error)
            metrics.error(told.type)
            yield sse(json.dumps(told.body()))
    yield DONE


def sse(data: str) -> bytes:
    """One server-sent event."""
    return f"data: {data}\n\n".encode()
