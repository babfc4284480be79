"""``voxsight ui``: which server it starts, and that it shows the page."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from assistant.cli import ui as command
from assistant.server import lifecycle
from assistant.server.config import ServerConfig
from assistant.server.state import ServerState


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open."""
    addresses: list[str] = []
    monkeypatch.setattr(command.webbrowser, "open", addresses.append)
    return addresses


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """The settings of servers that were to run; each is ready at once."""
    configs: list[ServerConfig] = []

    def run(
        config: ServerConfig,
        load: Callable[[], Any],
        ready: Callable[[str, ServerState], None],
        make_app: Callable[[ServerState], Any],
    ) -> None:
        assert make_app is command.app_with_page
        configs.append(config)
        ready("http://127.0.0.1:8123", ServerState(config))

    monkeypatch.setattr(lifecycle, "run", run)
    return configs


def finish_opening() -> None:
    for thread in threading.enumerate():
        if thread.name == "voxsight-browser":
            thread.join()


def test_it_opens_the_page_when_the_server_is_ready(
    started: list[ServerConfig], opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command.ui(host=None, port=0, browser=True)
    finish_opening()
    assert opened == ["http://127.0.0.1:8123/ui/"]
    assert "http://127.0.0.1:8123/ui/" in capsys.readouterr().err
    assert started[0].port == 0


def test_it_opens_nothing_if_it_should_not(started: list[ServerConfig], opened: list[str]) -> None:
    command.ui(host="127.0.0.1", port=8123, browser=False)
    finish_opening()
    assert opened == []
    assert (started[0].host, started[0].port) == ("127.0.0.1", 8123)


def test_the_application_has_the_page_and_the_api() -> None:
    app = command.app_with_page(ServerState(ServerConfig()))
    paths = {getattr(route, "path", "") for route in app.routes}
    assert {"/ui", "/ui/files"} <= paths
    assert "/v1/voxsight/models" in app.openapi()["paths"]
