"""Servers for all tests: with fake models in the process, and with the real ones behind a port."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.engine import Engine
from assistant.server.state import ServerState
from tests.live import Live, running
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


@pytest.fixture
def fake_server(make_state: Callable[..., ServerState]) -> Iterator[Callable[..., Live]]:
    """Makes servers with fake models behind real ports; takes settings by name."""
    with ExitStack() as stack:

        def make(**chosen: Any) -> Live:
            return stack.enter_context(running(make_state(**({"port": 0} | chosen))))

        yield make


@pytest.fixture(scope="session")
def live_server(live_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with the real models behind a real port; use it with the mark ``models``."""
    config = ServerConfig(port=0, keys_file=tmp_path_factory.mktemp("server") / "keys.json")
    with running(ServerState(config, live_engine)) as live:
        yield live
