"""The Dub tab around a stand-in that dubs as a test says, and once in earnest."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.dubs import STAGES, Made, Step, Tell
from assistant.server.engine import Engine
from assistant.server.pages import mount_page
from assistant.server.state import ServerState
from audio.media import read_sound
from audio.pcm import Samples, to_pcm16
from audio.resample import resample
from tests.live import running
from tests.server.fakes import FakeEngine
from tests.ui.axe import axe_source, serious
from tests.ui.browsers import watched
from tests.ui.page_site import open_page, page_running, saved, shoot, show_tab

LINES = [
    (400, 2_300, "Guten Tag, schön, dass Sie da sind.", "Hello, good to have you here.", 1.02, 36),
    (
        2_700,
        5_100,
        "Heute reden wir über das Wetter.",
        "Today we talk about the weather.",
        0.97,
        -80,
    ),
    (5_400, 7_000, "Es regnet in den Bergen.", "It is raining in the mountains.", 1.21, 212),
]


def film(path: Path, seconds: float = 8.0, speech: Samples | None = None) -> Path:
    """A small film that every browser plays: a bar that moves, and a tone or speech at 48 kHz."""
    time = np.arange(int(48_000 * seconds)) / 48_000
    heard = speech if speech is not None else 0.1 * np.sin(2 * np.pi * 330 * time)
    pcm = to_pcm16(np.asarray(heard, np.float32))[None]
    with av.open(str(path), "w") as file:
        picture = file.add_stream("libvpx", rate=10)
        picture.width, picture.height, picture.pix_fmt = 320, 180, "yuv420p"
        sound = file.add_stream("libopus", rate=48_000)
        sound.layout = "mono"
        for number in range(int(seconds * 10)):
            image = np.full((180, 320, 3), 40, np.uint8)
            image[:, number * 4 % 320 : number * 4 % 320 + 20] = (108, 201, 174)
            file.mux(picture.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        file.mux(picture.encode(None))
        for at in range(0, pcm.shape[1], 960):
            frame = av.AudioFrame.from_ndarray(pcm[:, at : at + 960], "s16", "mono")
            frame.sample_rate, frame.pts = 48_000, at
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path


class Dubbing:
    """Stops before the stages that a test names, until it may go on."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.hold_at = ""
        self.held, self.go = threading.Event(), threading.Event()

    def __call__(self, engine: Engine, source: Path, out: Path, language: str, tell: Tell) -> Made:
        out.mkdir()
        for stage in STAGES:
            total = 12 if stage in ("translate", "speak") else 0
            tell(Step(stage, 5 if total else 0, total))
            if stage == self.hold_at:
                self.held.set()
                self.go.wait()
                tell(Step(stage, total, total))
            if self.fault is not None:
                raise self.fault
        return made_of(source, out)


def made_of(source: Path, out: Path) -> Made:
    """Results as a job writes them."""
    made = Made(out / "a.webm", out / "a.vtt", out / "report.json", out / "lines.png")
    made.film.write_bytes(source.read_bytes())
    made.captions.write_text("WEBVTT\n\n00:00.400 --> 00:02.300\nHello, good to have you here.\n")
    totals = {"lines": 3, "lines_in_slot": 0.667, "rate_in_range": 1.0, "silence_in_slot": 0.041}
    totals |= {"back_wer": 0.0, "loudness_delta_lu": -0.2}
    rows = [
        {"number": number, "slot_ms": [begin, end], "original": original, "wording": wording}
        | {"rate": rate, "end_error_ms": late, "in_slot": abs(late) <= 150}
        for number, (begin, end, original, wording, rate, late) in enumerate(LINES, 1)
    ]
    made.report.write_text(json.dumps({"totals": totals, "lines": rows, "kept": []}))
    picture = Image.new("RGB", (1600, 240), "white")
    draw = ImageDraw.Draw(picture)
    for begin, end, _, _, _, late in LINES:
        draw.rectangle((begin / 5, 40, end / 5, 90), fill="#c4c7c1")
        draw.rectangle((begin / 5, 130, (end + late) / 5, 180), fill="#1d6b58")
    picture.save(made.picture)
    return made


@pytest.fixture
def dubbing() -> Iterator[Dubbing]:
    stand_in = Dubbing()
    yield stand_in
    stand_in.go.set()


@pytest.fixture
def url(dubbing: Dubbing, tmp_path: Path) -> Iterator[str]:
    engine = FakeEngine.start()
    config = ServerConfig(port=0, keys_file=tmp_path / "keys.json")
    with running(ServerState(config, engine), partial(page_app, dubbing)) as live:
        yield live.base_url
    engine.close()


def page_app(dubbing: Dubbing, state: ServerState) -> FastAPI:
    app = create_app(state)
    mount_page(app, dubbing)
    return app


def open_dub(page: Page, url: str) -> None:
    open_page(page, url)
    show_tab(page, "Dub")


def test_a_film_goes_in_and_a_dubbed_one_comes_out(
    url: str, browser: Browser, dubbing: Dubbing, tmp_path: Path, shots: Path
) -> None:
    source = axe_source()
    dubbing.hold_at = "speak"
    with watched(browser, accept_downloads=True) as page:
        open_dub(page, url)
        page.set_input_files("#vs-dub [data-file]", film(tmp_path / "film.webm"))
        running_row = page.locator(".vs-stages [data-state=running]")
        expect(running_row).to_contain_text("5 of 12")
        expect(running_row).to_contain_text("Speaking")
        expect(page.locator(".vs-stages [data-state=done]")).to_have_count(5)
        shoot(page, shots, "dub-running")
        assert serious(page, source) == []
        page.reload()  # it goes on without the page, which finds it again
        show_tab(page, "Dub")
        expect(page.locator(".vs-stages [data-state=running]")).to_contain_text("Speaking")
        dubbing.go.set()
        page.wait_for_selector(".vs-film", state="visible")
        page.wait_for_function("document.querySelector('.vs-film').videoWidth === 320")
        page.wait_for_function("document.querySelector('.vs-time-line').naturalWidth > 0")
        expect(page.locator(".vs-lines tbody tr")).to_have_count(3)
        expect(page.locator(".vs-unfit")).to_have_text("212 ms late, misses its slot")
        expect(page.locator(".vs-figures")).to_contain_text("67 %")
        shoot(page, shots, "dub")
        assert serious(page, source) == []
        page.get_by_role("button", name="Play from 0:02.7").click()
        page.wait_for_function("document.querySelector('.vs-film').currentTime >= 2.7")
        assert saved(page, "Subtitles").startswith(b"WEBVTT")
        assert json.loads(saved(page, "Report"))["totals"]["lines"] == 3
        assert saved(page, "Film")[:4] == b"\x1aE\xdf\xa3"


def test_it_can_be_cancelled_and_begun_again(
    url: str, browser: Browser, dubbing: Dubbing, tmp_path: Path
) -> None:
    dubbing.hold_at = "transcribe"
    with watched(browser) as page:
        open_dub(page, url)
        page.set_input_files("#vs-dub [data-file]", film(tmp_path / "film.webm", 1.0))
        expect(page.locator(".vs-stages [data-state=running]")).to_contain_text("Writing down")
        page.get_by_role("button", name="Cancel").click()
        page.wait_for_selector("#vs-dub .vs-work", state="hidden")
        dubbing.hold_at = ""
        dubbing.go.set()
        page.set_input_files("#vs-dub [data-file]", film(tmp_path / "film.webm", 1.0))
        page.wait_for_selector(".vs-film", state="visible")


def test_what_fails_is_told_in_words(
    url: str, browser: Browser, dubbing: Dubbing, tmp_path: Path
) -> None:
    dubbing.fault = RuntimeError("inner detail")
    with watched(browser, "400") as page:
        open_dub(page, url)
        page.set_input_files("#vs-dub [data-file]", film(tmp_path / "film.webm", 1.0))
        problem = page.locator("#vs-dub .vs-problem")
        expect(problem).to_contain_text("The server failed to do this")
        silent = tmp_path / "notes.txt"
        silent.write_text("no film")
        page.set_input_files("#vs-dub [data-file]", silent)
        expect(problem).to_contain_text("it cannot be read as either")


@pytest.mark.models
def test_a_film_is_dubbed_in_earnest(
    live_engine: Engine,
    model_folder: Callable[[str], Path],
    browser: Browser,
    tmp_path: Path,
    shots: Path,
) -> None:
    spoken = model_folder("sample-speech") / "es" / "conteo.wav"
    speech = resample(read_sound(spoken).samples, 16_000, 48_000)
    source = film(tmp_path / "film.webm", len(speech) / 48_000, speech)
    config = ServerConfig(port=0, keys_file=tmp_path / "keys.json")
    with page_running(ServerState(config, live_engine)) as url, watched(browser) as page:
        open_dub(page, url)
        page.set_input_files("#vs-dub [data-file]", source)
        over = page.locator("#vs-dub .vs-film, #vs-dub .vs-problem").locator("visible=true")
        expect(over).to_have_count(1, timeout=0)
        assert page.locator("#vs-dub .vs-problem").inner_text() == ""
        page.wait_for_function("document.querySelector('.vs-film').videoWidth === 320")
        page.wait_for_function("document.querySelector('.vs-time-line').naturalWidth > 0")
        rows = page.locator(".vs-lines tbody tr")
        assert rows.count() >= 1
        assert len(rows.first.locator("td").nth(2).inner_text().split()) > 1
        page.screenshot(path=shots / "dub-in-earnest.png", full_page=True)
