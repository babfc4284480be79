"""The client against a server that plays its part by hand: talk, playback, words, interruption."""

import base64
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.ui.browsers import watched
from tests.ui.driving import Driver
from tests.ui.peer import Peer, Session, peering, tone
from tests.ui.site import Site

Open = Callable[..., tuple[Driver, Session]]


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peering() as started:
        yield started


@pytest.fixture
def talk(browser: Browser, site: Site, peer: Peer) -> Iterator[Open]:
    """Opens a page and connects it; takes the client's options."""
    with watched(browser) as page:

        def start(**options: object) -> tuple[Driver, Session]:
            driver = Driver(page, site, peer.url, **options)
            assert driver.connect() is None
            return driver, peer.session()

        yield start


def test_the_microphone_is_heard_at_24_khz(talk: Open) -> None:
    driver, session = talk()
    driver.page.wait_for_timeout(2_000)
    driver.do("client.close()")
    sound = np.frombuffer(session.sound, "<i2").astype(float)
    assert abs(len(sound) / 24_000 - 2.0) < 0.5
    assert np.abs(sound).max() > 1_000  # Chromium's fake microphone beeps
    levels = [event["rms"] for event in driver.told("level") if event["direction"] == "in"]
    assert max(levels) > 0.02 and min(levels) < 0.02
    assert driver.do("client.hasMicrophone") is False


def test_the_session_is_what_was_asked_for(talk: Open) -> None:
    detection = {"type": "semantic_vad"}
    wishes = {"instructions": "Be brief.", "audio": {"input": {"turn_detection": detection}}}
    driver, session = talk(session=wishes, key="vx-secret")
    (update,) = [event for event in session.got if event["type"] == "session.update"]
    assert update["session"]["instructions"] == "Be brief."
    assert update["session"]["audio"]["input"] == {"transcription": {}, "turn_detection": detection}
    assert "openai-insecure-api-key.vx-secret" in session.subprotocols
    assert driver.do("client.updateSession({ instructions: 'Be long.' })")["id"] == "sess_1"
    session.refuse["session.update"] = "There is no such voice."
    refused = driver.do("client.updateSession({ audio: {} }).catch((e) => [e.code, e.message])")
    assert refused == ["event_refused", "There is no such voice."]


def test_muted_the_server_hears_silence(talk: Open) -> None:
    driver, session = talk()
    driver.do("client.mute(true)")
    driver.page.wait_for_timeout(200)
    before = len(session.sound)
    driver.page.wait_for_timeout(1_500)
    after = session.sound[before:]
    assert len(after) > 24_000
    assert not any(after)


def test_words_appear_as_they_become_sure(talk: Open) -> None:
    driver, session = talk()
    kind = "conversation.item.input_audio_transcription."
    session.send("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=100)
    driver.wait("client.activity === 'hearing'")
    session.send(f"{kind}delta", item_id="item_u", content_index=0, delta="What is")
    session.send("voxsight.input_audio_transcription.tentative", item_id="item_u", text=" the cap")
    session.send("input_audio_buffer.speech_stopped", item_id="item_u", audio_end_ms=900)
    session.send(f"{kind}completed", item_id="item_u", content_index=0, transcript="What is this?")
    driver.wait_told("transcript", "e.final")
    told = [(e["text"], e["tentative"], e["final"]) for e in driver.told("transcript")]
    assert told == [
        ("What is", "", False),
        ("What is", " the cap", False),
        ("What is this?", "", True),
    ]
    assert driver.do("client.activity") == "thinking"
    assert driver.do("client.conversation.items[0].text") == "What is this?"


def test_an_answer_is_played_whole_and_acknowledged(talk: Open) -> None:
    driver, session = talk()
    driver.record()
    session.begin(text="One two three four.")
    session.say(tone(1.0))
    session.end("One two three four.")
    driver.wait_told("heard")
    driver.page.wait_for_timeout(200)
    session.until("voxsight.playback.update")
    driver.do("client.close()")
    updates = [e["audio_played_ms"] for e in session.got if e["type"] == "voxsight.playback.update"]
    assert updates == sorted(updates)
    assert updates[-1] == 1_000
    assert 3 <= len(updates) <= 14  # 8 per second, fewer on a busy machine
    words = [event["index"] for event in driver.told("word")]
    assert words[-1] == -1
    assert words[:-1] == sorted(set(words[:-1])) and set(words[:-1]) <= {0, 1, 2, 3}
    assert len(words) >= 3
    assert driver.told("heard")[0]["text"] == "One two three four."
    assert driver.do("client.conversation.items[0].heard") == "One two three four."
    states = [event["state"] for event in driver.told("playback")]
    assert (states[0], states[-1], set(states[1:-1])) == ("began", "ended", {"playing"})


def test_what_is_played_is_what_was_sent(talk: Open) -> None:
    driver, session = talk(microphone=False)
    driver.record()
    session.begin(text="Beep.")
    session.say(tone(1.0))
    session.end("Beep.")
    driver.wait_told("heard")
    driver.page.wait_for_timeout(300)
    played = driver.played()
    sound = np.frombuffer(base64.b64decode(played["pcm"]), "<i2").astype(float)
    loud = np.flatnonzero(np.abs(sound) > 200)
    assert abs((loud[-1] - loud[0]) / played["rate"] - 1.0) < 0.01  # without a gap
    middle = sound[loud[0] + 2_000 : loud[-1] - 2_000]
    assert abs(np.sqrt(np.mean(middle**2)) - 8_000 / np.sqrt(2)) < 100
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.argmax(spectrum) * played["rate"] / len(middle) - 440) < 3


def test_speech_stops_the_answer_and_leaves_what_was_heard(talk: Open) -> None:
    driver, session = talk()
    driver.record()
    session.begin(text="One two three four.")
    session.say(tone(3.0))
    driver.wait_told("word", "e.index === 1")
    session.send("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=100)
    session.end("One two three four.", status="cancelled")
    session.send("conversation.item.truncated", item_id="item_a", audio_end_ms=600)
    retrieve = session.until("conversation.item.retrieve")
    assert retrieve["item_id"] == "item_a"
    heard = {"id": "item_a", "type": "message", "role": "assistant"}
    heard["content"] = [{"type": "output_audio", "transcript": "One two"}]  # type: ignore[assignment]
    session.send("conversation.item.retrieved", item=heard)
    assert driver.wait_told("heard")["text"] == "One two"
    assert driver.do("client.conversation.find('item_a').text") == "One two"
    assert driver.do("client.conversation.find('item_a').status") == "incomplete"
    stopped = driver.wait_told("playback", "e.state === 'stopped'")
    assert 0 < stopped["playedMs"] < 3_000
    driver.page.wait_for_timeout(300)
    quiet = driver.do(
        "recorded.filter(({ at }) => at > x + 100).every(({ block }) => block.every((s) => !s))",
        stopped["at"],
    )
    assert quiet


def test_a_key_interrupts(talk: Open) -> None:
    driver, session = talk(microphone=False)
    session.begin(text="One two three four.")
    session.say(tone(3.0))
    driver.wait_told("playback", "e.playedMs > 300")
    driver.do("client.interrupt()")
    assert session.until("response.cancel")["response_id"] == "resp_1"
    truncate = session.until("conversation.item.truncate")
    assert (truncate["item_id"], truncate["content_index"]) == ("item_a", 0)
    assert 300 < truncate["audio_end_ms"] < 3_000
    session.say(tone(1.0))  # it was on its way
    session.end("One two three four.", status="cancelled")
    late = {"code": "late", "message": "Too late.", "event_id": truncate["event_id"]}
    session.send("error", error=late)
    driver.wait("client.activity === 'listening'")
    driver.page.wait_for_timeout(300)
    assert driver.do("told.filter((e) => e.state === 'began').length") == 1
    assert driver.problems == []


def test_writing_interrupts_and_asks(talk: Open) -> None:
    driver, session = talk(microphone=False)
    session.begin(text="One two three four.")
    session.say(tone(3.0))
    driver.wait_told("playback", "e.playedMs > 100")
    name = driver.do("client.sendText('And now?')")
    session.until("response.create")
    kinds = [event["type"] for event in session.got]
    order = ["response.cancel", "conversation.item.truncate", "conversation.item.create"]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    assert driver.do("client.conversation.find(x).text", name) == "And now?"


def test_an_answer_that_was_never_heard_is_cut_to_nothing(talk: Open) -> None:
    driver, session = talk(microphone=False)
    session.begin(text="Nobody hears this.")
    session.end("Nobody hears this.", status="cancelled")
    truncate = session.until("conversation.item.truncate")
    assert (truncate["item_id"], truncate["audio_end_ms"]) == ("item_a", 0)
    assert driver.problems == []


def test_push_to_talk(talk: Open) -> None:
    driver, session = talk(pushToTalk=True)
    driver.page.wait_for_timeout(400)
    assert session.got[0]["session"]["audio"]["input"]["turn_detection"] is None
    assert session.sound == b""
    driver.do("client.pushToTalk(true)")
    session.until("input_audio_buffer.clear")
    driver.wait("client.activity === 'hearing'")
    driver.page.wait_for_timeout(800)
    driver.do("client.pushToTalk(false)")
    session.until("input_audio_buffer.commit")
    session.until("response.create")
    assert len(session.sound) > 24_000
    driver.do("client.pushToTalk(true)")
    driver.do("client.pushToTalk(false)")
    session.until("input_audio_buffer.clear")
    driver.do("client.setPushToTalk(false)")
    detection = session.until("session.update")["session"]["audio"]["input"]["turn_detection"]
    assert detection["type"] == "server_vad"
    assert [e["type"] for e in session.got].count("input_audio_buffer.commit") == 1


def test_words_appear_while_the_key_is_held(talk: Open) -> None:
    driver, session = talk(pushToTalk=True)
    tentative = "voxsight.input_audio_transcription.tentative"
    driver.do("client.pushToTalk(true)")
    session.until("input_audio_buffer.clear")
    session.send(tentative, item_id="item_u", text="What is")
    told = driver.wait_told("transcript", "e.tentative === 'What is'")
    assert (told["text"], told["final"]) == ("", False)
    assert driver.do("client.conversation.items.map(({ id }) => id)") == ["item_u"]
    session.send("input_audio_buffer.cleared")
    assert driver.wait_told("item", "e.gone")["item"]["id"] == "item_u"
    assert driver.do("client.conversation.items") == []


def test_a_picture_is_made_small_and_asked_about(talk: Open) -> None:
    driver, session = talk(microphone=False)
    driver.do("""(async () => {
      const canvas = new OffscreenCanvas(3000, 1500);
      canvas.getContext("2d").fillRect(0, 0, 10, 10);
      await client.sendImage(await canvas.convertToBlob(), { text: "What is this?" });
    })()""")
    content = session.until("conversation.item.create")["item"]["content"]
    assert [part["type"] for part in content] == ["input_image", "input_text"]
    assert content[0]["image_url"].startswith("data:image/jpeg;base64,")
    assert session.until("response.create")
    size = driver.do(
        "(async () => { const i = new Image(); i.src = x; await i.decode(); "
        "return [i.naturalWidth, i.naturalHeight]; })()",
        content[0]["image_url"],
    )
    assert size == [1024, 512]
    assert driver.do("client.sendImage(new Blob(['no'])).catch((e) => e.code)") == (
        "picture_unreadable"
    )


def test_the_camera_shows_frames_until_it_is_off(talk: Open) -> None:
    driver, session = talk(microphone=False, camera={"everyMs": 300})
    driver.do("client.cameraOn()")
    frames = [session.until("voxsight.camera.frame") for _ in range(3)]
    assert all(frame["image"].startswith("data:image/jpeg;base64,") for frame in frames)
    assert driver.do("client.cameraStream.active")
    sightings = [{"name": "cat", "probability": 0.9}]
    session.send("voxsight.camera.frame_seen", sightings=sightings, recognised=True)
    assert driver.wait_told("seen")["sightings"] == sightings
    assert driver.do("client.cameras()")
    driver.do("client.cameraSwitch()")
    session.until("voxsight.camera.frame")
    driver.do("client.cameraOff()")
    driver.page.wait_for_timeout(200)
    count = len(session.got)
    driver.page.wait_for_timeout(700)
    assert len(session.got) == count
    assert [event["on"] for event in driver.told("camera")] == [True, True, False]


def test_a_slow_network_makes_the_buffer_longer_not_the_sound_shorter(talk: Open) -> None:
    driver, session = talk(microphone=False)
    session.begin(text="Slow.")
    for _ in range(4):
        session.say(tone(0.2))
        driver.page.wait_for_timeout(400)
    session.end("Slow.")
    driver.wait_told("heard")
    assert driver.told("playback")[-1]["playedMs"] == 800


def test_close_releases_all(talk: Open) -> None:
    driver, _ = talk()
    driver.do("client.cameraOn()")
    driver.do(
        "window.tracks = [...client.cameraStream.getTracks(), ...client._sound.stream.getTracks()]"
    )
    driver.do("client.close()")
    assert driver.do("tracks.map((track) => track.readyState)") == ["ended", "ended"]
    assert driver.do("[client.state, client.audioContext, client.cameraStream]") == [
        "closed",
        None,
        None,
    ]
    assert driver.do("client.sendText('x').catch((e) => e.code)") == "not_connected"
    assert driver.connect() is None  # and it can begin again


def test_the_key_pressed_again_at_once_goes_on_with_the_turn(talk: Open) -> None:
    driver, session = talk(pushToTalk=True)
    driver.do("client.pushToTalk(true)")
    driver.page.wait_for_timeout(500)
    driver.do("{ client.pushToTalk(false); client.pushToTalk(true); }")
    driver.page.wait_for_timeout(300)
    assert driver.do("client.activity") == "hearing"
    driver.do("client.pushToTalk(false)")
    session.until("input_audio_buffer.commit")
    assert [e["type"] for e in session.got].count("input_audio_buffer.clear") == 1


def test_the_server_may_tell_when_words_are_spoken(talk: Open) -> None:
    driver, session = talk(microphone=False)
    session.begin(text="One — two three.")  # the dash is not spoken
    times = [{"text": "One", "start_ms": 0}, {"text": "two", "start_ms": 900}]
    place = {"item_id": "item_a", "response_id": "resp_1", "content_index": 0}
    session.send("voxsight.output_audio.words", **place, words=times)
    session.say(tone(1.2))
    session.end("One — two three.")
    driver.wait_told("heard")
    marked = driver.told("word")
    assert [word["index"] for word in marked] == [0, 2, -1]
    at = [event["at"] for event in driver.told("playback") if event["playedMs"] < 850]
    assert marked[1]["at"] > max(at)


def test_items_stand_where_the_server_puts_them(talk: Open) -> None:
    driver, session = talk(microphone=False)
    session.send("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    session.begin("item_a", "resp_1", "Hello.")
    session.end("Hello.", "item_a", "resp_1", status="completed")
    item = {"id": "item_u", "type": "message", "role": "user", "status": "completed"}
    item["content"] = [{"type": "input_audio", "transcript": None}]  # type: ignore[assignment]
    session.send("conversation.item.added", item=item, previous_item_id="item_a")
    driver.wait("client.conversation.items.at(-1).id === 'item_u'")
    assert driver.do("client.conversation.items.map(({ id }) => id)") == ["item_a", "item_u"]
    session.send("conversation.item.deleted", item_id="item_a")
    driver.wait("client.conversation.items.length === 1")
    assert driver.told("item")[-1]["gone"]
    driver.do("client.clear()")
    assert session.until("conversation.item.delete")["item_id"] == "item_u"


def test_the_example_page(browser: Browser, site: Site, peer: Peer) -> None:
    with watched(browser) as page:
        page.goto(f"{site.origin}/example.html?url={peer.url}")
        page.click("#talk")
        session = peer.session()
        page.get_by_text("listening").wait_for()
        page.fill("#text", "Good day")
        page.keyboard.press("Enter")
        session.until("response.create")
        page.get_by_text("user: Good day").wait_for()
        session.begin(text="Hello there.")
        session.say(tone(0.5))
        session.end("Hello there.")
        page.get_by_text("assistant: Hello there.").wait_for()
        page.click("#camera")
        session.until("voxsight.camera.frame")
        page.wait_for_function("document.querySelector('video').videoWidth > 0")
        page.click("#talk")
        page.get_by_text("closed").wait_for()
