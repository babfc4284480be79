"""The client against a server with the real models: hear, see, answer, be interrupted."""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from assistant.server.config import ServerConfig
from assistant.server.engine import Engine
from assistant.server.state import ServerState
from audio.pcm import Sound
from tests.live import Live, running
from tests.ui.browsers import watched
from tests.ui.driving import Driver
from tests.ui.site import Site
from tests.ui.straight import waits_without_a_browser
from tests.ui.voices import hold_microphone, mjpeg, pause, said, sound_of, speak, wav

pytestmark = pytest.mark.models

BRIEF = {"instructions": "Answer in one short sentence."}
QUESTIONS = ("What is the capital of France?", "What colour is the sky?")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


@pytest.fixture
def live(serve_live: Callable[..., Live]) -> Live:
    return serve_live()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with watched(browser) as opened:
        yield opened


def url_of(live: Live) -> str:
    return f"ws://localhost:{live.port}/v1/realtime"


def played(driver: Driver, until: float | None = None) -> Sound:
    told = driver.played(until)
    return sound_of(base64.b64decode(told["pcm"]), told["rate"])


def test_a_spoken_question_is_answered_aloud(
    launch_browser: Callable[..., Browser],
    live_engine: Engine,
    live: Live,
    site: Site,
    tmp_path: Path,
) -> None:
    question = said(live_engine.models.voice, "What is the capital of France?")
    file = tmp_path / "microphone.wav"
    file.write_bytes(wav(pause(2.0), question, pause(60.0)))
    with watched(launch_browser(sound=file)) as page:
        driver = Driver(page, site, url_of(live), session=BRIEF)
        assert driver.connect() is None
        driver.record()
        driver.wait_told("heard")
        driver.page.wait_for_timeout(300)
        partial = [event["text"] for event in driver.told("transcript") if not event["final"]]
        (final,) = [event["text"] for event in driver.told("transcript") if event["final"]]
        assert partial
        assert any(event["tentative"] for event in driver.told("transcript"))
        assert "capital of france" in final.lower()
        answer = driver.told("heard")[0]["text"]
        assert "paris" in answer.lower()
        heard = live_engine.models.recogniser.transcribe(played(driver)).text
        marked = [event["index"] for event in driver.told("word")]
        assert marked == [*range(len(answer.split())), -1]  # by the server's own word times
        right = sum(word in words(heard) for word in words(answer))
        assert right >= 0.6 * len(words(answer)), heard
        assert driver.problems == []


def test_speech_interrupts_and_the_history_holds_what_was_heard(
    page: Page, live_engine: Engine, live: Live, site: Site, record_property: Callable[..., None]
) -> None:
    voice = live_engine.models.voice
    asked = wav(said(voice, "Please tell me a long story about a king."))
    stop = wav(said(voice, "Stop it now, that is enough."))
    hold_microphone(page)
    driver = Driver(page, site, url_of(live), session={"instructions": "Tell long stories."})
    assert driver.connect() is None
    driver.record()
    speak(page, asked)
    driver.wait_told("playback", "e.playedMs > 2500")
    spoken = speak(page, stop)
    driver.wait_told("heard", "e.interrupted")
    driver.page.wait_for_timeout(500)
    last_sound = driver.do(
        "Math.max(...recorded.filter(({ at, block }) => at < x + 3000 && "
        "block.some((s) => Math.abs(s) > 1e-3)).map(({ at }) => at))",
        spoken["begun"],
    )
    told = driver.wait_told(
        "event", f"e.type === 'input_audio_buffer.speech_started' && e.at > {spoken['begun']}"
    )
    stopped = driver.wait_told("playback", "e.state === 'stopped'")
    level = driver.do(
        "told.find((e) => e.direction === 'in' && e.rms > 0.01 && e.at > x).at", spoken["begun"]
    )
    figures = {
        "speech_to_level_ms": round(level - spoken["begun"]),
        "speech_to_stopped_ms": round(stopped["at"] - spoken["begun"]),
        "speech_to_silence_ms": round(last_sound - spoken["begun"]),
        "speech_to_server_told_ms": round(told["at"] - spoken["begun"]),
    }
    truncated = driver.wait_told("event", "e.type === 'conversation.item.truncated'")
    figures["heard_but_not_kept_ms"] = stopped["playedMs"] - truncated["audio_end_ms"]
    print(figures)
    for name, value in figures.items():
        record_property(name, value)
    (item,) = [i for i in driver.do("client.conversation.items") if i["status"] == "incomplete"]
    whole = driver.do("client.retrieve(x)", item["id"])
    assert whole["content"][0]["transcript"] == item["text"]
    # What is said after that is the answer to the interruption.
    before = played(driver, stopped["at"] + 100)
    recognised = words(live_engine.models.recogniser.transcribe(before).text)
    kept = words(item["text"])
    assert len(kept) >= 3
    assert sum(word in recognised for word in kept) >= 0.7 * len(kept), recognised
    # Nothing is kept that was not played, but for half a word.
    assert figures["heard_but_not_kept_ms"] > -200


def test_from_the_end_of_speech_to_the_first_sample(
    page: Page, live_engine: Engine, live: Live, site: Site, record_property: Callable[..., None]
) -> None:
    """What the browser adds to the server's own figure is reported; the bar is 500 ms."""
    hold_microphone(page)
    driver = Driver(page, site, url_of(live), session=BRIEF)
    assert driver.connect() is None
    driver.record()
    recordings = [said(live_engine.models.voice, text) for text in QUESTIONS]
    heard = []
    for number, recording in enumerate(recordings, 1):
        driver.page.wait_for_timeout(1_000)
        spoken = speak(page, wav(recording))
        driver.wait(f"told.filter((e) => e.kind === 'heard').length === {number}")
        first = driver.do(
            "recorded.find(({ at, block }) => at > x && block.some((s) => s !== 0)).at",
            spoken["end"],
        )
        heard.append(round(first - spoken["end"]))
        (turn,) = driver.do("client.turns.slice(-1)")
        assert set(turn["marks"]) >= {"turnEnded", "transcribed", "firstSound", "firstPlayed"}
        # The client's own figure, which the page shows, is that of whoever listens.
        assert abs(turn["marks"]["firstPlayed"] - heard[-1]) < 250
        print({"heard_ms": heard[-1]} | turn["marks"])
    driver.do("client.close()")
    own = waits_without_a_browser(live, recordings, BRIEF)
    figures = {
        "browser_ms": median(heard),
        "server_ms": median(own),
        "added_ms": median(heard) - median(own),
    }
    print(figures)
    for name, value in figures.items():
        record_property(name, value)


def test_what_the_camera_shows_is_seen(
    launch_browser: Callable[..., Browser],
    model_folder: Callable[[str], Path],
    live: Live,
    site: Site,
    tmp_path: Path,
) -> None:
    photo = Image.open(model_folder("sample-photos") / "coffee.png")
    film = mjpeg(tmp_path / "camera.mjpeg", [photo] * 5)
    with watched(launch_browser(pictures=film)) as page:
        driver = Driver(page, site, url_of(live), session=BRIEF, microphone=False)
        assert driver.connect() is None
        driver.do("client.cameraOn()")
        seen = driver.wait_told("seen")
        assert any(
            "cup" in each["name"] or "espresso" in each["name"] for each in seen["sightings"]
        )
        driver.do("client.sendText('What do you see?')")
        answer = driver.wait_told("heard")["text"].lower()
        assert any(word in answer for word in ("cup", "espresso", "coffee"))


def test_a_restart_during_talk(
    browser: Browser, live_engine: Engine, site: Site, tmp_path: Path
) -> None:
    def start(port: int) -> AbstractContextManager[Live]:
        chosen: dict[str, Any] = {"port": port, "allowed_origins": (site.origin,)}
        config = ServerConfig(**chosen, keys_file=tmp_path / "keys.json")
        return running(ServerState(config, live_engine))

    # While it is away, the browser itself writes down that nobody answers.
    with watched(browser, "net::ERR_CONNECTION") as page:
        talk_over_a_restart(page, site, start)


def talk_over_a_restart(
    page: Page, site: Site, start: Callable[[int], AbstractContextManager[Live]]
) -> None:
    with start(0) as first:
        port = first.port
        driver = Driver(page, site, url_of(first), session=BRIEF, microphone=False)
        assert driver.connect() is None
        driver.do("client.sendText('My name is Ada. Say hello.')")
        driver.wait_told("heard")
    driver.wait("client.state === 'reconnecting'")
    with start(port):
        driver.wait("client.state === 'live'")
        driver.do("client.sendText('What is my name?')")
        driver.wait("told.filter((e) => e.kind === 'heard').length === 2")
        assert "ada" in driver.told("heard")[1]["text"].lower()
        assert len(driver.do("client.conversation.items")) == 4
        driver.do("client.close()")


def test_a_key_of_the_server(browser: Browser, serve_live: Callable[..., Live], site: Site) -> None:
    live = serve_live(max_sessions=1)
    _, secret = live.state.keys.create("ada")
    with watched(browser, "WebSocket connection to", "Failed to load") as page:
        driver = Driver(page, site, url_of(live), microphone=False, key=secret[:-4] + "xxxx")
        assert driver.connect() == "key_refused"
        driver = Driver(page, site, url_of(live), microphone=False, key=secret)
        assert driver.connect() is None
        with watched(browser) as second:
            other = Driver(second, site, url_of(live), microphone=False, key=secret)
            assert other.connect() == "server_full"
            assert "try again" in other.told("problem")[0]["message"]
        driver.do("client.close()")
