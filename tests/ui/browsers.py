"""Chromium with a microphone and a camera that play files, and a watch over what pages do."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "No Chromium was found; install it (Debian: apt-get install chromium) to test in a browser."
)
_FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    # What a browser does by itself in the background.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


#: Where this is set, as by the checks of every change, nothing is skipped for want of a browser.
REQUIRED = "REQUIRE_BROWSER"


def without(missing: str) -> NoReturn:
    """Skip a test for want of a tool, or fail it where the tools must be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(missing)
    pytest.skip(missing)


def browser_path() -> str | None:
    """The system's Chromium; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def launch(
    playwright: Playwright,
    *,
    sound: Path | None = None,
    pictures: Path | None = None,
    allowed: bool = True,
) -> Browser:
    """A browser whose microphone plays ``sound`` (WAV) once and whose camera shows ``pictures``.

    ``pictures`` is .mjpeg or .y4m. Without ``allowed`` it asks for permissions, and nobody answers
    but the test.
    """
    path = browser_path()
    assert path is not None
    flags = [*_FLAGS]
    if allowed:
        flags.append("--use-fake-ui-for-media-stream")
    if sound is not None:
        flags.append(f"--use-file-for-fake-audio-capture={sound}%noloop")
    if pictures is not None:
        flags.append(f"--use-file-for-fake-video-capture={pictures}")
    return playwright.chromium.launch(executable_path=path, args=flags, headless=True)


_ABROAD = ("http", "https", "ws", "wss")
_HERE = ("localhost", "127.0.0.1")
#: No machine is so busy; what takes longer will never come.
_HANGS_MS = 120_000


@dataclass
class Watch:
    """What a page did that it should not: errors it wrote, and hosts that it called."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    #: Words of errors that a test provokes.
    expected: tuple[str, ...] = ()

    def over(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)
        page.on("websocket", lambda socket: self._visit(socket.url))

    def _console(self, message: ConsoleMessage) -> None:
        told = f"{message.text} ({message.location.get('url')})"
        if message.type == "error" and not any(word in told for word in self.expected):
            self.errors.append(told)

    def _request(self, request: Request) -> None:
        self._visit(request.url)

    def _visit(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in _ABROAD and parts.hostname not in _HERE:
            self.foreign.append(url)

    def check(self) -> None:
        assert not self.errors, self.errors
        assert not self.foreign, self.foreign


@contextmanager
def watched(browser: Browser, *expected: str, **context: Any) -> Iterator[Page]:
    """A page of its own context; afterwards it must have been without a fault."""
    opened: BrowserContext = browser.new_context(**context)
    watch = Watch(expected=expected)
    opened.on("page", watch.over)
    page = opened.new_page()
    page.set_default_timeout(_HANGS_MS)
    try:
        yield page
        watch.check()
    except Exception as failure:
        failure.add_note(f"The page wrote: {watch.errors}; it called: {watch.foreign}")
        raise
    finally:
        opened.close()
