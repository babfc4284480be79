"""A client of the realtime API in the same event loop, without a network between."""

import asyncio
import json
from types import TracebackType
from typing import Any

Event = dict[str, Any]


class ClosedError(Exception):
    """The server closed the WebSocket, or refused it with an HTTP status."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Peer:
    """Speaks ASGI with an application; ``async with`` opens the WebSocket and waits for its end.

    While ``taking`` is cleared, the connection takes nothing from the server.
    """

    def __init__(self, app: Any, query: str = "model=gpt-realtime", **headers: str) -> None:
        self._app = app
        named = {"host": "testserver"} | headers
        self._scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "ws",
            "server": ("testserver", 80),
            "client": ("test", 1),
            "path": "/v1/realtime",
            "raw_path": b"/v1/realtime",
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in named.items()],
            "subprotocols": [
                each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")
            ],
            "extensions": {"websocket.http.response": {}},
        }
        self._in: asyncio.Queue[Event] = asyncio.Queue()
        self._out: asyncio.Queue[Event] = asyncio.Queue()
        self.taking = asyncio.Event()
        self.taking.set()
        self.accepted: Event | None = None
        self.broken = False

    async def __aenter__(self) -> "Peer":
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(self._app(self._scope, self._in.get, self._take))
        message = await self._out.get()
        if message["type"] != "websocket.accept":
            await self.task
            raise ClosedError(message.get("status") or message["code"], message.get("reason") or "")
        self.accepted = message
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.leave()
        self.taking.set()
        await self.task

    async def _take(self, message: Event) -> None:
        await self.taking.wait()
        if self.broken:
            raise OSError("connection reset")
        self._out.put_nowait(message)

    def leave(self, code: int = 1001) -> None:
        """The client is gone."""
        self._in.put_nowait({"type": "websocket.disconnect", "code": code})

    def send(self, event: Event | str | bytes) -> None:
        """An event, or a frame of whatever text or bytes."""
        if isinstance(event, bytes):
            self._in.put_nowait({"type": "websocket.receive", "bytes": event})
            return
        text = event if isinstance(event, str) else json.dumps(event)
        self._in.put_nowait({"type": "websocket.receive", "text": text})

    async def event(self) -> Event:
        """The next event from the server; ClosedError if it closed."""
        message = await self._out.get()
        if message["type"] == "websocket.close":
            raise ClosedError(message["code"], message.get("reason") or "")
        parsed: Event = json.loads(message["text"])
        return parsed

    async def until(self, kind: str) -> list[Event]:
        """All events up to the next of a type."""
        events = []
        while True:
            events.append(await self.event())
            if events[-1]["type"] == kind:
                return events

    async def closed(self) -> tuple[list[Event], ClosedError]:
        """The rest of the events, and how the server closed."""
        events = []
        try:
            while True:
                events.append(await self.event())
        except ClosedError as end:
            return events, end

    def rest(self) -> list[Event]:
        """All messages that came and were not read, after the end."""
        return [self._out.get_nowait() for _ in range(self._out.qsize())]
