"""Browsers, sites and servers for tests of the page."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from assistant.server.config import ServerConfig
from assistant.server.engine import Engine
from assistant.server.state import ServerState
from tests.live import Live, running
from tests.ui.browsers import MISSING, browser_path, launch, without
from tests.ui.site import Site, serving

#: Screenshots are kept there if it is set, to be looked at.
SCREENSHOTS = "PAGE_SCREENSHOTS"
Launch = Callable[..., Browser]


# Of the package, not of the session: while the driver runs, its event loop holds the main thread.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Drives browsers; skips where there is none."""
    if browser_path() is None:
        without(MISSING)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture
def launch_browser(playwright: Playwright) -> Iterator[Launch]:
    """Launches browsers; takes the options of ``browsers.launch``."""
    with ExitStack() as stack:

        def start(**options: Any) -> Browser:
            browser = launch(playwright, **options)
            stack.callback(browser.close)
            return browser

        yield start


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """A browser that allows everything, its microphone beeping."""
    started = launch(playwright)
    yield started
    started.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    named = os.environ.get(SCREENSHOTS)
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The client's files on an origin of their own."""
    with serving() as running_site:
        yield running_site


@pytest.fixture
def serve_live(live_engine: Engine, site: Site, tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """Makes servers with the real models that ``site`` may call; takes settings by name."""
    with ExitStack() as stack:

        def make(**chosen: Any) -> Live:
            given: dict[str, Any] = {"port": 0, "allowed_origins": (site.origin,)} | chosen
            config = ServerConfig(**given, keys_file=tmp_path / "keys.json")
            return stack.enter_context(running(ServerState(config, live_engine)))

        yield make
