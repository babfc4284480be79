"""The page behind a real port, with what a person would say to it and show it."""

import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from assistant.cli.ui import app_with_page
from assistant.server.engine import Engine
from assistant.server.state import ServerState
from audio.pcm import to_pcm16
from audio.resample import resample
from tests.live import running

#: What Chromium's fake microphone takes best.
RATE = 48_000
#: Screens that the page is looked at on.
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@contextmanager
def page_running(state: ServerState) -> Iterator[str]:
    """A server with the page; its address."""
    with running(state, app_with_page) as live:
        yield live.base_url


def speak_to(path: Path, engine: Engine, parts: Sequence[str | float]) -> Path:
    """A recording of texts, spoken by the voice, and of silences in s."""
    voice = engine.models.voice
    pieces = []
    for part in parts:
        if isinstance(part, str):
            spoken = np.concatenate([chunk.samples for chunk in voice.start().stream(part)])
            pieces.append(resample(spoken, voice.sample_rate, RATE))
        else:
            pieces.append(np.zeros(round(part * RATE), np.float32))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(to_pcm16(np.concatenate(pieces)).tobytes())
    return path


def open_page(page: Page, url: str) -> None:
    """Go to the page and wait until it lives and has heard of the server."""
    page.goto(f"{url}/ui/")
    page.wait_for_selector("html[data-voxsight=ready]")
    page.wait_for_selector(".vs-server[data-state=ready]")


def show_tab(page: Page, name: str) -> None:
    """Choose a tab."""
    page.get_by_role("tab", name=name).click()
    page.wait_for_selector(f"#vs-{name.lower()} .vs-content", state="visible")


def shoot(page: Page, folder: Path, name: str) -> None:
    """The page as it is, wide and on a phone, in light and dark."""
    before = page.viewport_size
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    assert before is not None
    page.set_viewport_size(before)


def saved(page: Page, name: str) -> bytes:
    with page.expect_download(timeout=0) as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes()
