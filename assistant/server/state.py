"""What the parts of a running server share, and how a route finds it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

from starlette.requests import HTTPConnection

from assistant.server.admission import Admission, unavailable
from assistant.server.config import ServerConfig
from assistant.server.door import Door
from assistant.server.engine import Engine
from assistant.server.keys import KeyFile
from assistant.server.metrics import Metrics
from assistant.server.tokens import Tokens


class ServerState:
    """One server: its settings, its models, who may come in and what is counted.

    Args:
        config: the settings.
        engine: the models, if they are loaded already.
        now: seconds of a clock that only goes forward.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        config: ServerConfig,
        engine: Engine | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.metrics = Metrics(now)
        self.admission = Admission(config)
        self.keys = KeyFile(config.keys_file)
        self.tokens = Tokens(config, wall)
        self.door = Door(config, self.keys, self.tokens, self.admission, now)
        #: What is to be done when the server has ended.
        self.leaving = ExitStack()
        self._engine: Engine | None = None
        self._watch()
        if engine is not None:
            self.engine = engine

    @property
    def loaded(self) -> bool:
        """Whether the models are there."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The models; ApiError 503 while they are being loaded."""
        if self._engine is None:
            raise unavailable("The models are being loaded", "loading", self.config.retry_after_s)
        return self._engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        from assistant.server.memory import session_bytes

        self.admission.fit(session_bytes(engine, self.config))
        self._engine = engine

    @property
    def ready(self) -> bool:
        """Whether work is taken on."""
        return self.loaded and not self.admission.draining

    def _watch(self) -> None:
        admission, metrics = self.admission, self.metrics
        for name, about, value in (
            ("requests_running", "Requests being worked on.", lambda: admission.running),
            ("requests", "Requests running, waiting or arriving.", lambda: admission.requests),
            ("running_sessions", "Sessions of all kinds.", lambda: admission.sessions),
            ("session_limit", "Sessions that fit.", lambda: admission.session_limit),
            ("async_tasks", "Tasks of the server's loop.", _tasks),
        ):
            metrics.watch(name, about, value)


def _tasks() -> int:
    """Tasks of the loop that asks, which for the route of the figures is the server's."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # asked from outside of any loop
        return 0


def state_of(connection: HTTPConnection) -> ServerState:
    """The server that a request or WebSocket belongs to."""
    state: ServerState = connection.app.state.server
    return state
