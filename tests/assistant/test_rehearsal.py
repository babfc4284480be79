"""A recording played into a session: causal, complete, and on whatever clock is given."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assistant.errors import VoxsightError
from assistant.events import (
    Backchannelled,
    Partial,
    PictureKept,
    Played,
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    SessionClosed,
    SpeechBegan,
    TextIn,
    TurnEnded,
)
from assistant.rehearsal import (
    CHUNK,
    Clock,
    Cue,
    Expectation,
    Listener,
    Moment,
    Rehearsal,
    hurried,
    pictures,
    skipping_clock,
)
from assistant.session import Session
from audio.pcm import Sound
from tests.assistant.session_fakes import RATE, Models, say, silence
from tests.assistant.test_session import seen


def simulated() -> Clock:
    return skipping_clock(lambda: False)


def rehearse(models: Models, *parts: Any, **options: Any) -> list[Moment]:
    sound = Sound(np.concatenate(parts))
    options = {"clock": simulated()} | options
    return asyncio.run(Rehearsal(Session(models.parts()), sound, **options).run())


class Recorder:
    """A session that writes down what comes in and when."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.came = clock, list[tuple[float, Any]]()

    async def run(self, inputs: Any) -> Any:
        async for item in inputs:
            self.came.append((self.clock.now(), item))
        yield SessionClosed()


def record(sound: Any, **options: Any) -> list[tuple[float, Any]]:
    clock = simulated()
    recorder: Any = Recorder(clock)
    asyncio.run(Rehearsal(recorder, Sound(sound), clock=clock, **options).run())
    return list(recorder.came)


def test_no_sample_comes_before_it_was_spoken() -> None:
    sound = np.arange(1, 5_001, dtype=np.float32) / 5_001
    came = record(sound, rest_s=0.2)
    position = 0
    for at, item in came:
        position += len(item.samples)
        assert at == pytest.approx(position / RATE)
    whole = np.concatenate([item.samples for _, item in came])
    assert np.array_equal(whole[: len(sound)], sound)
    assert not whole[len(sound) :].any()
    assert len(whole) / RATE >= len(sound) / RATE + 0.2 - CHUNK / RATE


def test_cues_come_in_their_order_at_their_time() -> None:
    cues = [Cue(0.5, TextIn("second")), Cue(0.0, TextIn("first")), Cue(9.0, lambda: TextIn("late"))]
    came = record(silence(1.0), cues=cues, patience_s=20)
    texts = [(at, item.text) for at, item in came if isinstance(item, TextIn)]
    assert [text for _, text in texts] == ["first", "second", "late"]
    for (at, _), wanted in zip(texts, (0.0, 0.5, 9.0), strict=True):
        assert wanted <= at <= wanted + CHUNK / RATE


def test_an_answer_is_heard_to_its_end() -> None:
    moments = rehearse(Models(), silence(0.3), say("what is this"))
    kinds = [type(moment.event) for moment in moments]
    assert kinds[-1] is SessionClosed
    assert kinds.count(TurnEnded) == kinds.count(ReplyEnded) == 1
    first = next(m.at for m in moments if isinstance(m.event, ReplySound))
    assert moments[-1].at >= first + 5 * 0.2  # five words
    assert [m.at for m in moments] == sorted(m.at for m in moments)


def test_an_interrupted_reply_is_followed_by_the_answer_to_the_interruption() -> None:
    models = Models()
    models.decoder.answer = "one two three four five six seven eight nine ten " * 2
    script = (say("what is this"), silence(2), say("stop tell me about cats"))
    moments = rehearse(models, *script)
    events = [moment.event for moment in moments]
    stopped = [event for event in events if isinstance(event, ReplyStopped)]
    # Everything had been sent when it was interrupted: the second reply must still be awaited.
    assert [type(e) for e in events].count(ReplyEnded) == 2
    assert len(stopped) == 1
    assert moments[-1].at >= 8.0


def test_patience_has_an_end() -> None:
    models = Models()
    models.decoder.answer = "one " * 500  # 100 s
    sound = say("what is this")
    moments = rehearse(models, sound, patience_s=5.0)
    assert len(sound) / RATE + 5 <= moments[-1].at <= len(sound) / RATE + 5 + 2 * CHUNK / RATE


def test_noise_is_not_waited_for() -> None:
    hum = np.resize(np.array([0.2, 0.21], np.float32), RATE)
    moments = rehearse(Models(), hum)
    assert any(isinstance(moment.event, SpeechBegan) for moment in moments)
    assert moments[-1].at < 1 + 1.5 + 2 * CHUNK / RATE


def test_every_event_is_told_as_it_comes() -> None:
    told: list[Moment] = []
    moments = rehearse(Models(), say("what is this"), on_event=told.append)
    assert told == moments


def test_a_recording_must_have_the_rate_of_the_session() -> None:
    with pytest.raises(VoxsightError, match="16000 Hz, got 8000 Hz"):
        Rehearsal(Session(Models().parts()), Sound(silence(1), 8_000))


def test_camera_frames_settle() -> None:
    images = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (10, 250)]
    cues = pictures(images)
    shown: list[Any] = [cue.item for cue in cues]
    assert [cue.at for cue in cues] == [0.0, 0.5, 1.0]
    assert [item.image for item in shown] == [images[0], images[1], images[1]]
    assert pictures([]) == []
    moments = rehearse(Models(look=seen), silence(2.0), cues=cues)
    assert [m.event.number for m in moments if isinstance(m.event, PictureKept)] == [1, 2]


# What the listener hears


def sound_part(turn: int, start: int, seconds: float) -> ReplySound:
    return ReplySound(turn, start, Sound(silence(seconds)), ())


def test_a_listener_hears_at_the_speed_of_sound() -> None:
    listener = Listener()
    assert listener.played(0.0) is None
    listener.follow(sound_part(1, 0, 1.0), 2.0)
    assert listener.played(2.25) == Played(1, RATE // 4)
    assert listener.played(9.0) == Played(1, RATE)  # the second part is late ...
    listener.follow(sound_part(1, RATE, 1.0), 10.0)
    assert listener.played(10.5) == Played(1, RATE * 3 // 2)  # ... and so is heard late
    listener.follow(ReplyEnded(1, ""), 10.6)
    assert listener.played(12.0) == Played(1, 2 * RATE)
    assert listener.played(12.1) is None


def test_a_listener_hears_nothing_of_a_reply_that_was_stopped() -> None:
    listener = Listener()
    listener.follow(sound_part(2, 0, 1.0), 0.0)
    listener.follow(ReplyStopped(1, ""), 0.1)  # another one
    assert listener.played(0.5) == Played(2, RATE // 2)
    listener.follow(ReplyStopped(2, ""), 0.5)
    assert listener.played(0.6) is None


def test_what_is_expected_of_a_conversation() -> None:
    expected = Expectation()

    def follow(*events: Any) -> bool:
        for event in events:
            expected.follow(event)
        return expected.open

    assert not follow(SpeechBegan(0))
    assert follow(Partial("", "yeah"))
    assert not follow(Backchannelled())
    assert follow(SpeechBegan(0), Partial("what", "is"), TurnEnded(1, "what is", 9))
    assert follow(SpeechBegan(0), Partial("", "stop"))
    assert follow(TurnEnded(2, "stop", 9), ReplyEnded(1, ""), ReplyStopped(1, ""))
    assert not follow(ReplyEnded(2, ""))
    assert not follow(Partial("what is", ""))  # of a pass that came too late


# As fast as the models go


def test_time_stands_still_while_models_work() -> None:
    workers, clock = hurried()
    done = threading.Event()

    def work() -> None:
        time.sleep(0.05)
        done.set()

    async def run() -> None:
        working = asyncio.create_task(workers.listen.run(work))
        await asyncio.sleep(0)
        assert clock.now() == 0
        await clock.sleep(1.5)
        assert done.is_set()
        await working
        assert clock.now() == 1.5
        await clock.sleep(-3)
        assert clock.now() == 1.5

    asyncio.run(run())
    workers.close()


def test_a_call_that_fails_does_not_stop_the_clock_for_good() -> None:
    workers, clock = hurried()

    def fail() -> None:
        raise ValueError("broken")

    async def run() -> None:
        with pytest.raises(ValueError, match="broken"):
            await workers.think.run(fail)
        await clock.sleep(1)

    asyncio.run(run())
    assert clock.now() == 1
    workers.close()


def test_without_a_clock_it_plays_at_the_speed_of_speech() -> None:
    sound = silence(0.2)
    begin = time.perf_counter()
    rehearsal = Rehearsal(Session(Models().parts()), Sound(sound), rest_s=0.1)
    moments = asyncio.run(rehearsal.run())
    assert time.perf_counter() - begin >= 0.3
    assert moments[-1].at >= 0.3
