"""Bounds what a request may send: bytes are counted as they come, and they have to come."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError

#: Where films are sent, which are larger than recordings.
DUBS = "/v1/voxsight/dubs"
#: The fields beside the file of an upload, and the lines between them.
_FORM_BYTES = 256 * 2**10


class BodyLimitMiddleware:
    """Ends a request whose body is too large (413) or stops coming (408)."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch one request's body; raises ApiError when it is refused."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope.get("path", ""), headers)
        body = _Body(receive, limit, self._config.upload_idle_s)
        body.check_length(headers.get("content-length"))
        try:
            await self._app(scope, body.receive, body.sending(send))
        except Exception:
            # The framework wraps what is raised while it reads the body; ours says more.
            if body.refusal is None or body.started:
                raise
        if body.refusal is not None and not body.started:
            raise body.refusal

    def _limit(self, path: str, headers: Headers) -> int:
        if headers.get("content-type", "").lower().startswith("multipart/"):
            most = self._config.max_film_bytes if path == DUBS else self._config.max_upload_bytes
            return most + _FORM_BYTES
        return self._config.max_json_bytes


class _Body:
    def __init__(self, receive: Receive, limit: int, idle_s: float) -> None:
        self._receive, self._limit, self._idle_s = receive, limit, idle_s
        self._came, self._complete = 0, False
        self.refusal: ApiError | None = None
        self.started = False

    def check_length(self, announced: str | None) -> None:
        if announced is not None and announced.isdecimal() and int(announced) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        if self._complete:  # what comes now is that the client left, whenever it does
            return await self._receive()
        try:
            async with asyncio.timeout(self._idle_s):
                message = await self._receive()
        except TimeoutError:
            raise self._refuse(
                ApiError(
                    408,
                    f"Expected the rest of the body within {self._idle_s:g} s; send it again.",
                    code="body_timeout",
                    headers={"Connection": "close"},
                )
            ) from None
        if message["type"] == "http.request":
            self._came += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._came > self._limit:
                raise self._refuse(self._too_large())
        return message

    def sending(self, send: Send) -> Send:
        async def forward(message: Message) -> None:
            if self.refusal is not None and not self.started:
                return  # the framework's own words for our refusal
            self.started = True
            await send(message)

        return forward

    def _refuse(self, refusal: ApiError) -> ApiError:
        self.refusal = refusal
        return refusal

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"Expected a body of at most {self._limit} bytes, but it is larger; send less.",
            code="body_too_large",
            headers={"Connection": "close"},
        )
