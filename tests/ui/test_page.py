"""The page in Chromium, before a server with the real models."""

import io
import json
import re
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from assistant.server.config import ServerConfig
from assistant.server.engine import Engine
from assistant.server.state import ServerState
from tests.ui.axe import axe_source, serious
from tests.ui.browsers import browser_path, watched
from tests.ui.conftest import Launch
from tests.ui.page_site import SIZES, open_page, page_running, saved, shoot, show_tab, speak_to
from tests.ui.voices import hold_microphone, pause, said, speak, wav

pytestmark = pytest.mark.models

TABS = ("Talk", "Transcribe", "Speak", "Dub", "Models")
QUESTION = "Tell me about the weather in the mountains."


@pytest.fixture
def serve_page(live_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes servers with the page, and gives their addresses; takes settings by name."""
    with ExitStack() as stack:

        def make(**chosen: object) -> str:
            common = {"port": 0, "keys_file": tmp_path / "keys.json"}
            config = ServerConfig(**common | chosen)  # type: ignore[arg-type]
            return stack.enter_context(page_running(ServerState(config, live_engine)))

        yield make


@pytest.fixture(scope="module")
def page_url(live_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the page, for tests that change nothing about it."""
    config = ServerConfig(port=0, keys_file=tmp_path_factory.mktemp("page") / "keys.json")
    with page_running(ServerState(config, live_engine)) as url:
        yield url


@pytest.fixture
def talking(launch_browser: Launch, live_engine: Engine, tmp_path: Path) -> Callable[..., Browser]:
    """A browser whose microphone says something; takes texts and pauses in s."""

    def launch(*parts: str | float, **options: object) -> Browser:
        return launch_browser(sound=speak_to(tmp_path / "mic.wav", live_engine, parts), **options)

    return launch


def connect(page: Page) -> None:
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("button", name="Mute")).to_be_visible(timeout=0)


def test_a_question_is_heard_and_answered(
    page_url: str,
    talking: Callable[..., Browser],
    shots: Path,
    record_property: Callable[[str, object], None],
) -> None:
    browser = talking(1.5, QUESTION, 60.0)
    with watched(browser, accept_downloads=True) as page:
        open_page(page, page_url)
        connect(page)
        page.wait_for_selector(".vs-user .vs-maybe")
        page.screenshot(path=shots / "hearing.png")
        page.wait_for_selector(".vs-user .vs-line:text-matches('weather', 'i')")
        page.wait_for_selector(".vs-assistant .vs-line mark")
        shoot(page, shots, "talk")
        page.wait_for_selector(".vs-waterfall td.vs-ms")
        page.wait_for_selector(".vs-plot rect")
        waited = re.match(r"(\d+) ms after you stopped", page.inner_text("[data-last]"))
        assert waited is not None
        record_property("end of speech to first sample played, ms", int(waited[1]))
        page.wait_for_selector(".vs-stage[data-state=listening]")
        check_saves(page)
        page.get_by_role("button", name="End", exact=True).click()
        page.wait_for_selector(".vs-stage[data-state=closed]")


def check_saves(page: Page) -> None:
    """The conversation as text, JSON and sound."""
    words = saved(page, "Transcript").decode()
    assert words.startswith("You: ") and "\nVoxsight: " in words
    told = json.loads(saved(page, "JSON"))
    assert [item["role"] for item in told["items"]][:2] == ["user", "assistant"]
    assert "firstPlayed" in told["turns"][0]["marks"]
    with wave.open(io.BytesIO(saved(page, "Sound"))) as sound:
        assert sound.getframerate() == 24_000
        assert sound.getnframes() > 24_000


def test_a_written_question_is_answered_and_can_be_stopped(page_url: str, browser: Browser) -> None:
    with watched(browser) as page:
        open_page(page, page_url)
        connect(page)
        page.get_by_role("button", name="Mute").click()
        expect(page.get_by_role("status").filter(has_text="You are muted.")).to_be_visible(
            timeout=0
        )
        page.fill("#vs-text", "Count from one to thirty in words.")
        page.keyboard.press("Enter")
        page.wait_for_selector(".vs-assistant .vs-line mark")
        page.keyboard.press("Escape")
        page.wait_for_selector(".vs-assistant .vs-cut")
        assert page.input_value("#vs-text") == ""


def test_talking_over_an_answer_stops_it(
    page_url: str, browser: Browser, live_engine: Engine
) -> None:
    stop = wav(said(live_engine.models.voice, "Please stop now and tell me about cats."))
    with watched(browser, accept_downloads=True) as page:
        hold_microphone(page)
        open_page(page, page_url)
        page.get_by_label("Instructions").fill("You tell long stories of very many sentences.")
        connect(page)
        page.fill("#vs-text", "Tell me a very long story about a king and a dragon.")
        page.keyboard.press("Enter")
        page.wait_for_selector(".vs-assistant .vs-line mark")
        speak(page, stop)
        page.wait_for_selector(".vs-assistant .vs-cut")
        page.wait_for_selector(".vs-user .vs-line:text-matches('cats', 'i')")
        page.wait_for_selector(".vs-said:last-child.vs-assistant .vs-line mark")
        told = json.loads(saved(page, "JSON"))
        cut = next(item for item in told["items"] if item["role"] == "assistant")
        assert cut["status"] == "incomplete"
        assert cut["heard"] == page.locator(".vs-assistant .vs-line").first.inner_text()
        assert [turn["source"] for turn in told["turns"]] == ["text", "speech"]


def test_two_pages_at_once_and_a_third_is_told_that_the_server_is_full(
    serve_page: Callable[..., str], browser: Browser
) -> None:
    url = serve_page(max_sessions=2)
    with watched(browser) as first, watched(browser) as second, watched(browser) as third:
        for page, word in ((first, "mountains"), (second, "rivers")):
            open_page(page, url)
            connect(page)
            page.get_by_role("button", name="Mute").click()
            page.fill("#vs-text", f"Say something about {word}.")
            page.keyboard.press("Enter")
        for page, word in ((first, "mountains"), (second, "rivers")):
            page.wait_for_selector(".vs-assistant .vs-line mark")
            said = page.locator(".vs-user .vs-line").all_inner_texts()
            assert said == [f"Say something about {word}."]
        open_page(third, url)
        third.get_by_role("button", name="Connect").click()
        problem = third.locator(".vs-stage .vs-problem")
        expect(problem).to_contain_text("2 sessions, as many as it can", timeout=0)


def test_what_the_camera_shows_is_seen(page_url: str, browser: Browser, shots: Path) -> None:
    with watched(browser) as page:
        open_page(page, page_url)
        connect(page)
        page.get_by_role("button", name="Camera", exact=True).click()
        page.wait_for_selector(".vs-preview", state="visible")
        page.wait_for_selector(".vs-seen", state="visible")
        shoot(page, shots, "camera")
        page.get_by_role("button", name="Camera off").click()
        page.wait_for_selector(".vs-preview", state="hidden")


def test_a_picture_is_shown_and_asked_about(
    page_url: str, browser: Browser, model_folder: Callable[[str], Path]
) -> None:
    photo = model_folder("sample-photos") / "chelsea.png"
    with watched(browser) as page:
        open_page(page, page_url)
        connect(page)
        page.get_by_role("button", name="Mute").click()
        page.set_input_files("[data-picture]", photo)
        page.wait_for_selector(".vs-shown", state="visible")
        page.wait_for_selector(".vs-user img")
        page.fill("#vs-text", "What animal is this?")
        page.keyboard.press("Enter")
        page.wait_for_selector(
            ".vs-assistant .vs-line:text-matches('cat|lion|tiger|lynx|tabby', 'i')"
        )


def test_without_https_it_says_so_at_once(
    serve_page: Callable[..., str], playwright: Playwright
) -> None:
    # A name that is not localhost: the browser trusts it only over https.
    flags = ["--no-sandbox", "--host-resolver-rules=MAP page.test 127.0.0.1"]
    url = serve_page(allowed_hosts=("page.test",)).replace("127.0.0.1", "page.test")
    with playwright.chromium.launch(executable_path=browser_path(), args=flags) as browser:
        page = browser.new_page()
        page.goto(f"{url}/ui/")
        page.wait_for_selector(".vs-stage .vs-problem", state="visible")
        assert "https" in page.inner_text(".vs-stage .vs-problem")


def test_a_refused_microphone_is_told_in_words(page_url: str, launch_browser: Launch) -> None:
    browser = launch_browser(allowed=False)
    with watched(browser, permissions=["camera"]) as page:
        open_page(page, page_url)
        page.get_by_role("button", name="Connect").click()
        page.wait_for_selector(".vs-stage .vs-problem", state="visible")
        assert "microphone" in page.inner_text(".vs-stage .vs-problem")


def test_push_to_talk_by_the_space_key(
    page_url: str, browser: Browser, live_engine: Engine
) -> None:
    with watched(browser) as page:
        hold_microphone(page)
        open_page(page, page_url)
        page.get_by_label("Push to talk").check()
        connect(page)
        page.locator("h2", has_text="Conversation").click()  # out of the field
        page.keyboard.down(" ")
        page.wait_for_selector("[data-do=hold][aria-pressed=true]")
        speak(page, wav(said(live_engine.models.voice, QUESTION), pause(1.0)))
        # Words appear while the key is held, though none is sure before it is let go.
        page.wait_for_selector(".vs-user .vs-maybe:text-matches('mountains', 'i')")
        page.keyboard.up(" ")
        page.wait_for_selector(
            ".vs-user .vs-line:text-matches('weather', 'i'):not(:has(.vs-maybe))"
        )
        page.wait_for_selector(".vs-assistant .vs-line mark")


def test_a_file_is_written_down(
    page_url: str, browser: Browser, live_engine: Engine, tmp_path: Path, shots: Path
) -> None:
    recording = speak_to(
        tmp_path / "talk.wav", live_engine, [0.5, QUESTION, 1.0, "It rains there often.", 0.5]
    )
    with watched(browser, accept_downloads=True) as page:
        open_page(page, page_url)
        show_tab(page, "Transcribe")
        page.set_input_files("[data-file]", recording)
        button = page.locator("#vs-transcribe [data-save=srt]")
        expect(button).to_be_enabled(timeout=0)
        assert "weather" in page.inner_text(".vs-words").lower()
        page.locator(".vs-words button").nth(2).click()
        page.wait_for_function("document.querySelector('.vs-player').currentTime > 0.4")
        shoot(page, shots, "transcribe")
        subtitles = saved(page, "SRT").decode()
        assert "-->" in subtitles and "mountains" in subtitles.lower()
        assert saved(page, "VTT").startswith(b"WEBVTT")


def test_what_is_no_recording_is_refused_in_words(
    page_url: str, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "notes.wav"
    file.write_text("no sound")
    with watched(browser, "400") as page:
        open_page(page, page_url)
        show_tab(page, "Transcribe")
        page.set_input_files("[data-file]", file)
        page.wait_for_selector("#vs-transcribe .vs-problem", state="visible")
        assert len(page.inner_text("#vs-transcribe .vs-problem")) > 20


def test_a_text_is_spoken(page_url: str, browser: Browser, shots: Path) -> None:
    with watched(browser, accept_downloads=True) as page:
        open_page(page, page_url)
        show_tab(page, "Speak")
        page.get_by_role("button", name="Speak", exact=True).click()
        page.wait_for_selector(".vs-spoken", state="visible")
        shoot(page, shots, "speak")
        note = page.locator("#vs-speak [data-note]", has_text="Spoken:")
        expect(note).to_be_visible(timeout=0)
        with wave.open(io.BytesIO(saved(page, "Save as WAV"))) as sound:
            assert 3 < sound.getnframes() / sound.getframerate() < 12


def test_models_are_exchanged(
    serve_page: Callable[..., str], browser: Browser, shots: Path
) -> None:
    with watched(browser) as page:
        open_page(page, serve_page())
        show_tab(page, "Models")
        page.wait_for_selector(".vs-role")
        shoot(page, shots, "models")
        page.get_by_role("button", name="Load whisper-base").click()
        page.wait_for_selector("#vs-models .vs-work", state="visible")
        page.wait_for_selector(".vs-role-loaded strong:text-is('whisper-base')")
        show_tab(page, "Talk")
        assert "whisper-base" in page.locator("[data-model=recogniser]").input_value()
        assert page.locator("[data-set=language] option").count() > 50


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("phone", "dark")])
def test_nothing_serious_keeps_anybody_out(
    page_url: str, browser: Browser, size: str, scheme: str
) -> None:
    source = axe_source()
    width, height = SIZES[size]
    with watched(browser, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        open_page(page, page_url)
        for tab in TABS:
            show_tab(page, tab)
            assert serious(page, source) == [], tab
            overflow = "document.documentElement.scrollWidth - innerWidth"
            assert page.evaluate(overflow) <= 0, f"{tab} is wider than the screen"


def test_all_can_be_reached_by_keyboard(page_url: str, browser: Browser) -> None:
    with watched(browser) as page:
        open_page(page, page_url)
        page.get_by_role("tab", name="Talk").focus()
        for tab in (*TABS[1:], TABS[0]):
            page.keyboard.press("ArrowRight")
            expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.innerText.trim().split('\\n')[0]"))
        assert {"Connect", "Camera", "Picture …", "Send"} <= reached
