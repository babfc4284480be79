"""The page behind a real port, with what a person would say to it and show it."""

import asyncio
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from assistant.cli.ui import app_with_page
from assistant.server.engine import Engine
from assistant.server.lifecycle import Server, address_of, open_socket
from assistant.server.state import ServerState
from audio.pcm import to_pcm16
from audio.resample import resample

#: What Chromium's fake microphone takes best.
RATE = 48_000


@contextmanager
def page_running(state: ServerState) -> Iterator[str]:
    """A server with the page, on a free port; its address."""
    listener = open_socket(state.config)
    url = address_of(state.config, listener)
    server = Server(app_with_page(state), state, listener)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.run_until_stopped()), name="test-page"
    )
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield url
    finally:
        server.stop()
        server.stop()
        thread.join()


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
