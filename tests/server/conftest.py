"""Servers for all tests: with fake models in the process, and with the real ones behind a port."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.config import load_settings
from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.engine import Engine
from assistant.server.lifecycle import Server, address_of, open_socket
from assistant.server.state import ServerState
from tests.server.fakes import FakeEngine

MakeClient = Callable[..., TestClient]


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    """An engine of fake models, its threads ended after the test."""
    engine = FakeEngine.start()
    yield engine
    engine.close()


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., ServerConfig]:
    """Makes settings of a server on a loopback address, with a keys file of its own."""

    def make(**chosen: Any) -> ServerConfig:
        # The test client calls every server by this name.
        defaults = {"keys_file": tmp_path / "keys.json", "allowed_hosts": ("testserver",)}
        return ServerConfig(**(defaults | chosen))

    return make


@pytest.fixture
def make_state(
    fake_engine: FakeEngine, make_config: Callable[..., ServerConfig]
) -> Callable[..., ServerState]:
    """Makes a server's state around the fake engine; takes settings by name."""

    def make(engine: Engine | None = fake_engine, **chosen: Any) -> ServerState:
        return ServerState(make_config(**chosen), engine)

    return make


@pytest.fixture
def make_client(make_state: Callable[..., ServerState]) -> Iterator[MakeClient]:
    """Makes a client of a server with fake models; takes settings, or a ``state``.

    The server's state is ``client.app.state.server``.
    """
    with ExitStack() as stack:

        def make(state: ServerState | None = None, **chosen: Any) -> TestClient:
            return stack.enter_context(TestClient(create_app(state or make_state(**chosen))))

        yield make


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
def running(state: ServerState) -> Iterator[Live]:
    """A server in a thread, on a free port; ``state.config.port`` should be 0."""
    listener = open_socket(state.config)
    url = address_of(state.config, listener)
    server = Server(create_app(state), state, listener)
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


@pytest.fixture
def fake_server(make_state: Callable[..., ServerState]) -> Iterator[Callable[..., Live]]:
    """Makes servers with fake models behind real ports; takes settings by name."""
    with ExitStack() as stack:

        def make(**chosen: Any) -> Live:
            return stack.enter_context(running(make_state(**({"port": 0} | chosen))))

        yield make


@pytest.fixture(scope="session")
def live_engine(model_folder: Callable[[str], Path]) -> Iterator[Engine]:
    """The real models, loaded once for all tests; use it with the mark ``models``."""
    engine = Engine.load(load_settings())
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def live_server(live_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with the real models behind a real port; use it with the mark ``models``."""
    config = ServerConfig(port=0, keys_file=tmp_path_factory.mktemp("server") / "keys.json")
    with running(ServerState(config, live_engine)) as live:
        yield live
