"""A conversation through a device that is not there: blocks in, blocks out, nothing late."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assistant import microphone
from assistant.errors import VoxsightError
from assistant.events import (
    PictureIn,
    Played,
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    SessionClosed,
    TurnEnded,
)
from assistant.microphone import LiveTalk, SoundDevice, Speaker
from assistant.rehearsal import Clock, Cue, Moment
from assistant.session import Session
from audio.pcm import Samples, Sound
from tests.assistant.session_fakes import RATE, Models, say, settle, silence

BLOCK = 512


def part(turn: int, start: int, *levels: float) -> ReplySound:
    return ReplySound(turn, start, Sound(np.array(levels, np.float32), RATE), ())


def test_a_speaker_plays_parts_without_a_gap_and_then_silence() -> None:
    speaker = Speaker(RATE)
    assert not speaker.take(4).any()
    speaker.follow(part(1, 0, 0.1, 0.2, 0.3))
    speaker.follow(part(1, 3, 0.4, 0.5))
    assert speaker.take(2).tolist() == pytest.approx([0.1, 0.2])
    assert speaker.take(2).tolist() == pytest.approx([0.3, 0.4])
    assert speaker.take(3).tolist() == pytest.approx([0.5, 0, 0])


def test_what_was_heard_is_told_by_the_count_of_the_device() -> None:
    speaker = Speaker(RATE)
    speaker.delay = 4
    speaker.follow(part(1, 0, *[0.5] * 6))
    assert speaker.played() is None
    speaker.take(4)
    assert speaker.played() is None  # taken, but not yet heard
    speaker.take(4)
    assert speaker.played() == Played(1, 4)
    assert speaker.played() is None  # nothing new
    speaker.take(4)
    assert speaker.played() == Played(1, 6)
    speaker.take(4)
    assert speaker.played() is None


def test_an_interruption_silences_the_very_next_block() -> None:
    speaker = Speaker(RATE)
    speaker.follow(part(1, 0, *[0.5] * 100))
    assert speaker.take(10).all()
    speaker.follow(ReplyStopped(1, ""))
    assert not speaker.take(10).any()
    assert speaker.played() is None
    speaker.follow(part(2, 0, 0.7))
    assert speaker.take(2).tolist() == pytest.approx([0.7, 0])
    assert speaker.played() == Played(2, 1)


def test_a_new_reply_replaces_the_one_before() -> None:
    speaker = Speaker(RATE)
    speaker.follow(part(1, 0, *[0.5] * 100))
    speaker.follow(part(2, 0, 0.7))
    assert speaker.take(2).tolist() == pytest.approx([0.7, 0])
    with pytest.raises(VoxsightError, match="one voice"):
        speaker.follow(ReplySound(2, 1, Sound(silence(0.1), RATE // 2), ()))


class FakeDevice:
    """Two callbacks, called block by block from a thread; what was played is kept."""

    def __init__(self, script: Samples) -> None:
        self.script, self.played = script, list[Samples]()
        self.stopped = False
        self.fault: Exception | None = None

    def start(
        self, rate: int, heard: Callable[[Samples], None], wanted: Callable[[int], Samples]
    ) -> float:
        if self.fault:
            raise self.fault
        self.heard, self.wanted = heard, wanted
        return 0.0

    def stop(self) -> None:
        self.stopped = True

    def _tick(self, at: int) -> None:
        buffer = np.zeros(BLOCK, np.float32)
        chunk = self.script[at : at + BLOCK]
        buffer[: len(chunk)] = chunk
        self.heard(buffer)
        buffer[:] = np.nan  # a device writes over its buffer
        self.played.append(self.wanted(BLOCK))

    async def drive(self) -> None:
        for at in range(0, len(self.script), BLOCK):
            thread = threading.Thread(target=self._tick, args=(at,))
            thread.start()
            thread.join()
            await settle()


def converse(models: Models, *parts: Any, cues: Any = ()) -> Any:
    device = FakeDevice(np.concatenate(parts))
    moments: list[Moment] = []
    heard: list[Samples] = []
    session = Session(models.parts())
    blocks = [0]
    clock = Clock(lambda: len(device.played) * BLOCK / RATE)

    async def run() -> None:
        talk = LiveTalk(session, device, RATE, cues, moments.append, heard.append, clock)
        running = asyncio.create_task(talk.run())
        await settle()
        await device.drive()
        talk.end()
        await running
        blocks[0] = talk.lost

    asyncio.run(run())
    events = [moment.event for moment in moments]
    played = np.concatenate(device.played)
    return SimpleNamespace(
        moments=moments, events=events, played=played, heard=heard, lost=blocks[0], device=device
    )


def test_a_question_at_the_microphone_is_answered_by_the_speaker() -> None:
    script = (silence(0.3), say("what is this"), silence(3))
    result = converse(Models(), *script)
    (ended,) = [event for event in result.events if isinstance(event, TurnEnded)]
    assert ended.question == "what is this"
    assert any(isinstance(event, ReplyEnded) for event in result.events)
    assert isinstance(result.events[-1], SessionClosed)
    assert int((result.played == 0.5).sum()) == 5 * 3_200  # every word, in whole
    first = next(m.at for m in result.moments if isinstance(m.event, ReplySound))
    begun = int(np.argmax(result.played == 0.5)) / RATE
    assert first - 0.05 <= begun <= first + 0.1
    assert np.array_equal(np.concatenate(result.heard)[: len(script[0])], script[0])
    assert result.device.stopped
    assert result.lost == 0


def test_an_interruption_is_silent_at_once_and_remembers_what_was_played() -> None:
    models = Models()
    models.decoder.answer = "one two three four five six seven eight nine ten " * 3
    script = (say("what is this"), silence(2.0), say("stop tell me"), silence(0.5))
    result = converse(models, *script)
    (stopped,) = [m for m in result.moments if isinstance(m.event, ReplyStopped)]
    played = result.played == 0.5
    words = int(played.sum()) / 3_200
    assert abs(len(stopped.event.heard.split()) - words) <= 1
    assert not played[round(stopped.at * RATE) + BLOCK :].any()


def test_pictures_come_in_beside_the_sound() -> None:
    from PIL import Image

    from tests.assistant.test_session import seen

    image = Image.new("RGB", (64, 48))
    result = converse(Models(look=seen), silence(0.5), cues=[Cue(0.0, PictureIn(image))])
    assert [type(event).__name__ for event in result.events] == ["PictureKept", "SessionClosed"]


def test_a_session_that_is_too_far_behind_loses_the_newest_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(microphone, "WAITING_BLOCKS", 3)
    talk = LiveTalk(Session(Models().parts()), FakeDevice(silence(0)), RATE)
    for _ in range(5):
        talk._put(silence(0.1))
    assert talk.lost == 2
    talk.end()  # always finds room


def test_a_device_that_does_not_start_is_told() -> None:
    device = FakeDevice(silence(0))
    device.fault = VoxsightError("No microphone.")
    with pytest.raises(VoxsightError, match="No microphone"):
        asyncio.run(LiveTalk(Session(Models().parts()), device, RATE).run())


# The system's device, with a library that is not there either


class FakeStream:
    latency = 0.01
    opened: list["FakeStream"] = []  # noqa: RUF012 - cleared by the fixture

    def __init__(self, **options: Any) -> None:
        if options["samplerate"] == 12_345:
            raise ValueError("Invalid sample rate")
        self.options, self.started, self.closed = options, False, False
        FakeStream.opened.append(self)

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    FakeStream.opened.clear()
    names = {"InputStream": FakeStream, "OutputStream": FakeStream, "PortAudioError": OSError}
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(**names))
    return FakeStream.opened


def test_the_device_passes_blocks_on(library: list[FakeStream]) -> None:
    heard: list[Samples] = []
    device = SoundDevice()
    delay = device.start(22_050, heard.append, lambda count: np.full(count, 0.5, np.float32))
    assert delay == 0.01
    microphone_stream, speaker_stream = library
    assert microphone_stream.options["samplerate"] == 16_000
    assert speaker_stream.options["samplerate"] == 22_050
    assert microphone_stream.started
    assert speaker_stream.started
    block = np.zeros((4, 1), np.float32)
    speaker_stream.options["callback"](block, 4, None, None)
    assert (block == 0.5).all()
    microphone_stream.options["callback"](block, 4, None, None)
    assert heard[0].shape == (4,)
    device.stop()
    assert all(stream.closed for stream in library)


def test_a_device_that_refuses_is_one_sentence_and_nothing_stays_open(
    library: list[FakeStream],
) -> None:
    with pytest.raises(VoxsightError, match="No speaker can be opened at 12345 Hz"):
        SoundDevice().start(12_345, lambda _: None, silence)
    assert [stream.closed for stream in library] == [True]


@pytest.mark.parametrize(
    ("fault", "told"),
    [(ImportError("no"), r"voxsight\[talk\]"), (OSError("no library"), "PortAudio")],
)
def test_what_is_not_installed_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, told: str
) -> None:
    def fail(name: str) -> None:
        raise fault

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(VoxsightError, match=told):
        SoundDevice()
