"""A server's life: it listens, loads its models, serves, and on a signal ends what it began."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from assistant.errors import ConfigError
from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.door import check_exposure
from assistant.server.engine import Engine
from assistant.server.logs import logging_to
from assistant.server.metrics import resident_bytes
from assistant.server.realtime.keepalive import PatientWebSocket
from assistant.server.state import ServerState
from assistant.server.tidying import bound_memory, set_models_aside

_log = logging.getLogger(__name__)
#: After the time to drain: for handlers to take note that they were cut off.
_CUT_OFF_S = 2
#: Longest wait for a model call that runs on when everything else has ended.
_LAST_CALL_S = 2.0


def open_socket(config: ServerConfig) -> socket.socket:
    """Take the address that the server is to listen on; ConfigError if that cannot be.

    It is taken before the models are loaded, so that a wrong address is told at once.
    """
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _end_dead_connections(listener, config.ping_interval_s + config.ping_timeout_s)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {config.host} port {config.port}: {error.strerror}; choose another "
            "with --host or --port."
        ) from None
    return listener


def _end_dead_connections(listener: socket.socket, seconds: float) -> None:
    """Drop connections whose other end takes nothing for so long, answers included.

    Connections inherit it. Without it, one that is closed while its reader stands still is kept
    open by the system until everything was delivered, which may be never.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def address_of(config: ServerConfig, listener: socket.socket) -> str:
    """The base URL to show, with the port that was really taken."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{listener.getsockname()[1]}"


class Server(uvicorn.Server):
    """Uvicorn, but a signal first lets what runs come to its end.

    Until nothing runs, or the time for that is over, it goes on listening and tells newcomers that
    it is shutting down. Then uvicorn closes WebSockets with 1012 and breaks off streams. A second
    signal skips the waiting.
    """

    def __init__(
        self,
        app: ASGIApp,
        state: ServerState,
        listener: socket.socket,
        now: Callable[[], float] = time.monotonic,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(_uvicorn_config(app, state.config))
        self._stopping = stopping
        self._state, self._listener, self._now = state, listener, now
        self._drain_until: float | None = None

    async def run_until_stopped(self) -> None:
        """Serve until ``stop`` or a signal, and end in good order."""
        with contextlib.closing(self._listener), self._state.leaving:
            await self.serve([self._listener])

    def stop(self) -> None:
        """Begin to shut down; the second time, without waiting for what runs."""
        if self._drain_until is not None:
            self.should_exit = True
            return
        self._state.admission.draining = True
        self._drain_until = self._now() + self._state.config.drain_s
        self._stopping()
        _log.info("shutting down")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Called by a signal. Uvicorn would raise it again at the end; ours end with status 0."""
        self.stop()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether to stop serving now."""
        until = self._drain_until
        if until is not None and (self._state.admission.idle or self._now() >= until):
            self.should_exit = True
        return await super().on_tick(counter)


def _uvicorn_config(app: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        # Uvicorn's newer one: it stops reading from a client whose messages are not taken yet.
        ws=PatientWebSocket,
        ws_max_size=config.max_message_bytes,
        ws_ping_interval=config.ping_interval_s,
        ws_ping_timeout=config.ping_timeout_s,
        # Sound hardly gets smaller, and what is not unpacked cannot be a bomb.
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,  # it would hold query strings
        server_header=False,
        proxy_headers=False,
        limit_concurrency=config.max_connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_CUT_OFF_S,
    )


def run(
    config: ServerConfig,
    load: Callable[[], Engine],
    ready: Callable[[str, ServerState], None],
    make_app: Callable[[ServerState], ASGIApp] = create_app,
) -> None:
    """Serve until a signal; returns when all is ended, at the latest 30 s after the signal.

    The server listens at once and says that it is not ready; ``load`` runs in a thread of its own.

    Args:
        config: the settings.
        load: gives the models; what it raises ends the server and is raised here.
        ready: called with the server's base URL when the models are there.
        make_app: gives the application.

    Raises:
        ConfigError: it may not, or cannot, listen there.
    """
    bound_memory()
    state = ServerState(config)
    check_exposure(config, state.keys)
    listener = open_socket(config)
    url = address_of(config, listener)
    # Whatever hangs by then, such as a model call that never returns: it is not waited for.
    deadline = threading.Timer(config.drain_s + _CUT_OFF_S + _LAST_CALL_S, leave, [0])
    deadline.daemon = True
    server = Server(make_app(state), state, listener, stopping=deadline.start)
    try:
        with logging_to(log_text=config.log_text):
            _log.info("listening", extra={"address": url})
            loaded = asyncio.run(_serve(server, state, load, lambda: ready(url, state)))
            _log.info("ended")
        if not loaded:
            leave(0)  # the models are still being loaded, and nobody needs them
        state.engine.close()
    finally:
        deadline.cancel()
        if deadline.is_alive():
            deadline.join()


async def _serve(
    server: Server, state: ServerState, load: Callable[[], Engine], ready: Callable[[], None]
) -> bool:
    """Whether the models were loaded before the end."""
    serving = asyncio.create_task(server.run_until_stopped())
    loading = _in_thread(load)
    before = resident_bytes()
    waiting: list[asyncio.Future[Any]] = [serving, loading]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if loading.done() and loading.exception() is None:
        state.engine = loading.result()
        set_models_aside()
        state.metrics.models_loaded(max(0, resident_bytes() - before))
        _log.info("ready")
        ready()
    else:
        server.stop()
    await serving
    return loading.done() and loading.result() is not None


def _in_thread(call: Callable[[], Engine]) -> "asyncio.Future[Engine]":
    """The result of ``call()``; unlike a pool's, its thread does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Engine] = loop.create_future()

    def settle(result: Engine | None, fault: BaseException | None) -> None:
        if future.done():
            return
        if fault is not None:
            future.set_exception(fault)
        elif result is not None:
            future.set_result(result)

    def run() -> None:
        result, fault = None, None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - handed over to whoever waits
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=run, name="voxsight-load", daemon=True).start()
    return future


def leave(status: int) -> None:
    """End the process at once, with what was printed and without waiting for any thread."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
