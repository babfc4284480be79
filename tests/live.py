"""Servers behind real ports, for tests."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from assistant.server.app import create_app
from assistant.server.lifecycle import Server, address_of, open_socket
from assistant.server.state import ServerState


@dataclass(frozen=True)
class Live:
    """A server behind a real port."""

    base_url: str  # http://127.0.0.1:PORT
    state: ServerState
    loop: asyncio.AbstractEventLoop

    @property
    def ws_url(self) -> str:
        return self.base_url.replace("http://", "ws://")

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2])


@contextmanager
def running(
    state: ServerState, make_app: Callable[[ServerState], FastAPI] = create_app
) -> Iterator[Live]:
    """A server in a thread; on a free port if ``state.config.port`` is 0."""
    listener = open_socket(state.config)
    url = address_of(state.config, listener)
    server = Server(make_app(state), state, listener)
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await server.run_until_stopped()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="test-server")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield Live(url, state, loops[0])
    finally:
        server.stop()
        server.stop()
        thread.join()
