"""The border of a request or session: its id, its log line, and what becomes of a fault."""

import logging
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from assistant.server.errors import answer_error, as_api_error, kind_of_error
from assistant.server.logs import current_id
from assistant.server.metrics import Metrics

_log = logging.getLogger(__name__)
_LEFT = 499  # as web servers write it when the client did not wait for the answer


class BorderMiddleware:
    """Gives every connection an id, counts and logs it, and answers what nobody caught."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._metrics, self._now = app, metrics, now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        crossing = _Crossing(scope, receive, send)
        token = current_id.set(crossing.id)
        began = self._now()
        try:
            with self._metrics.tracing.span(crossing.kind, current=True, id=crossing.id):
                await self._serve(crossing)
        finally:
            self._tell(crossing, self._now() - began)
            current_id.reset(token)

    async def _serve(self, crossing: "_Crossing") -> None:
        try:
            await self._app(crossing.scope, crossing.receive, crossing.send)
        except (ClientDisconnect, WebSocketDisconnect):
            crossing.status = crossing.status or _LEFT
        except Exception as error:  # noqa: BLE001 - the border: whatever broke ends one request only
            told = as_api_error(error)
            await crossing.answer(told)

    def _tell(self, crossing: "_Crossing", seconds: float) -> None:
        route = getattr(crossing.scope.get("route"), "path", "other")
        if (kind := kind_of_error(crossing.scope)) is not None:
            self._metrics.error(kind)
        if crossing.kind == "request":
            self._metrics.request(route, crossing.status, seconds)
        extra = {"route": route, "status": crossing.status, "ms": round(seconds * 1000, 1)}
        _log.info(crossing.kind, extra=extra)


class _Crossing:
    """One connection on its way through: what it has been answered so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = scope["type"] == "http"
        self.kind = "request" if http else "session"
        self.id = f"{'req' if http else 'ws'}_{uuid4().hex[:20]}"
        self.scope, self.receive, self._send = scope, receive, send
        self.status = 0
        self._closed = False

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                name = (b"x-request-id", self.id.encode())
                message = {**message, "headers": [*message.get("headers", ()), name]}
            case "websocket.accept":
                self.status = 101
            case "websocket.close":
                self.status, self._closed = message.get("code", 1000), True
        await self._send(message)

    async def answer(self, error: Exception) -> None:
        """Tell the client of a fault, as far as it can still be told."""
        if self.scope["type"] == "http":
            if self.status:
                # Half an answer is out. Only a broken connection tells that it is not whole.
                raise error
            response = await answer_error(Request(self.scope), error)
            if response is not None:
                await response(self.scope, self.receive, self.send)
        elif not self._closed:
            websocket = WebSocket(self.scope, self.receive, self.send)
            if self.status:
                websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
            else:
                await websocket.receive()  # websocket.connect
            await answer_error(websocket, error)
