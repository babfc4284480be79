"""How much the server takes on at once; beyond that it refuses, and what runs stays fast."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.server.config import ServerConfig
from assistant.server.errors import ApiError


class Admission:
    """Counts sessions and requests against the server's limits.

    ``draining`` is set when the server is to stop: what runs may end, nothing new begins.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.session_limit = config.max_sessions
        self.sessions = 0
        self.requests = 0  # in the house: being worked on, waiting, or still sending their body
        self.running = 0
        self.draining = False
        self._places = asyncio.Semaphore(config.max_requests)

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return not self.sessions and not self.requests

    def fit(self, session_bytes: int) -> None:
        """Lower the limit of sessions to what fits in memory.

        Args:
            session_bytes: estimate of one session's memory at its longest.
        """
        fitting = self._config.max_session_memory_bytes // max(1, session_bytes)
        self.session_limit = min(self._config.max_sessions, fitting)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Counts a session while it runs; ApiError 503 if the server is full."""
        self._refuse_when_draining()
        if self.sessions >= self.session_limit:
            raise self._full(f"The server holds {self.session_limit} sessions, as many as it can")
        self.sessions += 1
        try:
            yield
        finally:
            self.sessions -= 1

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts a request from its first byte to its last; ApiError 503 if there are too many."""
        self._refuse_when_draining()
        limit = self._config.max_requests + self._config.max_waiting_requests
        if self.requests >= limit:
            raise self._full(f"The server has {limit} requests, as many as it can take")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits until a request may be worked on."""
        async with self._places:
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise self._unavailable("The server is shutting down", "shutting_down")

    def _full(self, what: str) -> ApiError:
        return self._unavailable(what, "server_full")

    def _unavailable(self, what: str, code: str) -> ApiError:
        return unavailable(what, code, self._config.retry_after_s)


def unavailable(what: str, code: str, retry_after_s: int) -> ApiError:
    """The refusal of a server that cannot now; a client may come back."""
    return ApiError(
        503,
        f"{what}; try again in {retry_after_s} s.",
        type="server_error",
        code=code,
        headers={"Retry-After": str(retry_after_s)},
    )


class AdmissionMiddleware:
    """Counts the requests that bring work, from before their body to the end of their response."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; raises ApiError 503 at once if there are too many."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        with self._admission.request():
            await self._app(scope, receive, send)
