"""A session's logic on a simulated clock: turns, drafts, interruptions, memory, faults."""

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assistant.errors import VoxsightError
from assistant.events import (
    AudioIn,
    Backchannelled,
    Partial,
    PictureIn,
    PictureKept,
    Played,
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    ReplyText,
    SessionClosed,
    SessionEvent,
    SessionFailed,
    SessionInput,
    SpeechBegan,
    StopReply,
    TextIn,
    TurnEnded,
)
from assistant.session import Session, SessionConfig
from tests.assistant.session_fakes import (
    CHUNK,
    RATE,
    REPLY_WORD,
    VOCABULARY,
    Models,
    converse,
    of,
    say,
    settle,
    silence,
)


def talk(models: Models, *script: Any, config: SessionConfig | None = None) -> Any:
    events, session = asyncio.run(converse(models, script, config))
    return SimpleNamespace(events=events, session=session, memory=session._memory)


def history(result: Any) -> list[tuple[str, str]]:
    return [(turn.role, "".join(map(str, turn.parts))) for turn in result.memory.history]


def test_a_question_is_answered_when_the_turn_is_over() -> None:
    heard = talk(Models(), silence(0.5), say("what is this"), silence(3))
    (ended,) = of(heard.events, TurnEnded)
    assert ended.question == "what is this"
    assert abs(ended.end - len(silence(0.5)) - len(say("what is this"))) < 1_500
    assert "".join(e.text for e in of(heard.events, ReplyText)).strip() == "You said what is this."
    sounds = of(heard.events, ReplySound)
    assert [sound.start for sound in sounds] == [REPLY_WORD * i for i in range(5)]
    assert [word.text for s in sounds for word in s.words] == str.split("You said what is this.")
    assert of(heard.events, ReplyEnded) == [ReplyEnded(1, "You said what is this.")]
    assert isinstance(heard.events[-1][1], SessionClosed)
    assert history(heard) == [("user", "what is this"), ("assistant", "You said what is this.")]
    order = [type(event) for _, event in heard.events]
    assert order.index(SpeechBegan) < order.index(Partial) < order.index(TurnEnded)
    assert order.index(TurnEnded) < order.index(ReplyText) < order.index(ReplySound)


def test_the_answer_is_ready_before_the_turn_is_over_but_held_back() -> None:
    models, seen = Models(), []
    pause = silence(0.4)  # longer than "maybe done", shorter than "done"
    script = (say("what is this"), pause, lambda: seen.append(len(models.decoder.prompts)))
    heard = talk(models, *script, silence(1))
    assert seen == [1]
    (turn_at,) = [at for at, event in heard.events if isinstance(event, TurnEnded)]
    (first, *_) = [at for at, event in heard.events if isinstance(event, ReplySound)]
    assert turn_at == first > len(say("what is this")) + len(pause)
    assert len(models.decoder.prompts) == 1


def test_more_speech_drops_the_prepared_answer_without_a_trace() -> None:
    models = Models()
    heard = talk(models, say("tell me"), silence(0.4), say("about cats"), silence(3))
    assert len(models.decoder.prompts) == 2  # one of them for nothing
    assert [e.question for e in of(heard.events, TurnEnded)] == ["tell me about cats"]
    text = "".join(event.text for event in of(heard.events, ReplyText))
    assert text.strip() == "You said tell me about cats."
    assert len(history(heard)) == 2


def test_words_are_sure_once_and_for_all() -> None:
    heard = talk(Models(), say("one two three four five six seven eight"), silence(2))
    partials = of(heard.events, Partial)
    assert len(partials) >= 4
    for before, after in pairwise(partials):
        assert after.committed.startswith(before.committed)


def test_sure_words_are_prefilled_while_the_person_speaks() -> None:
    models = Models()
    talk(models, say("one two three four five six"), silence(2))
    texts = ["".join(turns[-1].parts) for turns in models.decoder.prefilled]
    assert texts
    assert all("one two three four five six".startswith(text) for text in texts)


def long_reply(models: Models) -> Models:
    models.decoder.answer = " ".join(VOCABULARY) + "."  # 26 words, 5.2 s
    return models


def test_a_backchannel_does_not_stop_the_reply() -> None:
    script = (say("what is this"), silence(2), say("yeah"), silence(5))
    heard = talk(long_reply(Models()), *script)
    assert len(of(heard.events, Backchannelled)) == 1
    assert not of(heard.events, ReplyStopped)
    assert len(of(heard.events, TurnEnded)) == 1
    assert history(heard)[1][1] == " ".join(VOCABULARY) + "."


def test_an_interruption_stops_the_reply_and_becomes_the_next_question() -> None:
    script = (say("what is this"), silence(2), say("stop tell me about cats"), silence(4))
    heard = talk(long_reply(Models()), *script)
    (stopped,) = of(heard.events, ReplyStopped)
    assert stopped.turn == 1
    at = next(i for i, (_, e) in enumerate(heard.events) if isinstance(e, ReplyStopped))
    late = of(heard.events[at:], ReplySound, ReplyText)
    assert {event.turn for event in late} == {2}
    questions = [event.question for event in of(heard.events, TurnEnded)]
    assert questions == ["what is this", "stop tell me about cats"]
    assert history(heard)[1] == ("assistant", f"{stopped.heard}…")


@pytest.mark.parametrize("cut", range(0, 52, 3))  # hundreds of ms after the reply began
def test_history_holds_the_words_that_were_heard(cut: int) -> None:
    models = long_reply(Models())
    played = cut * RATE // 10
    script = (say("what is this"), silence(1.5), Played(1, played), StopReply())
    heard = talk(models, *script)
    (stopped,) = of(heard.events, ReplyStopped)
    words = stopped.heard.split()
    assert words == list(VOCABULARY)[: len(words)]
    assert abs(len(words) - played / REPLY_WORD) <= 1


def test_without_reports_what_was_heard_is_guessed_from_the_time_that_passed() -> None:
    models = long_reply(Models())
    heard = talk(models, say("what is this"), silence(2), StopReply())
    first = next(at for at, event in heard.events if isinstance(event, ReplySound))
    now = len(say("what is this")) + len(silence(2))
    (stopped,) = of(heard.events, ReplyStopped)
    assert abs(len(stopped.heard.split()) - (now - first) / REPLY_WORD) <= 1


def test_who_goes_on_before_the_answer_can_be_heard_is_answered_together() -> None:
    models = Models()
    models.decoder.answer = ""  # nothing to hear
    script = [say("what is this"), silence(1.0), say("tell me more"), silence(2)]
    models.voice._stream = lambda clause: iter(())  # type: ignore[method-assign]
    models.decoder.answer = "Well."
    heard = talk(models, *script)
    asked = "".join(part for part in models.decoder.prompts[-1][-1].parts)
    assert asked == "what is this\ntell me more" or "tell me more" in asked
    assert [e.question for e in of(heard.events, TurnEnded)] == ["what is this", "tell me more"]


def test_no_words_are_lost_when_the_person_goes_on_while_they_are_recognised() -> None:
    models = Models()
    hold = lambda: setattr(models.hearer, "held", True)  # noqa: E731
    release = lambda: setattr(models.hearer, "held", False)  # noqa: E731
    script = (say("tell me more"), silence(0.3), hold, say("about cats"), silence(1.0))
    script += (say("dogs"), release, silence(3))
    heard = talk(models, *script)
    first, second = of(heard.events, TurnEnded)
    assert first.question.split()[:2] == ["tell", "me"]
    assert second.question == "dogs"
    assert "tell me" in "".join(models.decoder.prompts[-1][-1].parts)
    assert [event.turn for event in of(heard.events, ReplyStopped)] == [first.turn]


def test_who_only_types_is_taken_to_have_read_every_reply() -> None:
    heard = talk(Models(), TextIn("who are you"), TextIn("how are you"), silence(5))
    assert [turn.text for turn in of(heard.events, ReplyEnded)] == [
        "You said who are you.",
        "You said how are you.",
    ]
    assert of(heard.events, ReplyStopped) == []
    assert [said for _, said in history(heard)] == [
        *("who are you", "You said who are you.", "how are you", "You said how are you.")
    ]


def test_who_types_but_reports_what_was_played_has_heard_only_that() -> None:
    played = Played(1, 2 * REPLY_WORD)
    heard = talk(Models(), TextIn("who are you"), played, TextIn("how are you"), silence(5))
    assert [stop.heard for stop in of(heard.events, ReplyStopped)] == ["You said"]


def test_a_question_in_writing_stops_what_is_being_said() -> None:
    models = long_reply(Models())
    heard = talk(models, say("what is this"), silence(2), TextIn("how are you"), silence(7))
    assert len(of(heard.events, ReplyStopped)) == 1
    assert [e.question for e in of(heard.events, TurnEnded)] == ["what is this", "how are you"]
    assert [turn for turn, _ in history(heard)] == ["user", "assistant"] * 2
    with pytest.raises(VoxsightError, match="empty"):
        TextIn("  ")


def test_noise_without_words_is_no_turn() -> None:
    hum = np.resize(np.array([0.2, 0.21], np.float32), RATE)  # no burst of one level
    heard = talk(Models(), silence(0.2), hum, silence(2))
    assert of(heard.events, SpeechBegan)
    assert not of(heard.events, TurnEnded, ReplyText, ReplySound)


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (64, 48), (shade, 255 - shade, shade // 2))


def seen(image: Image.Image) -> Any:
    shade = float(image.getpixel((0, 0))[0])  # type: ignore[index]
    guess = SimpleNamespace(name=f"shade {shade:.0f}", probability=0.5)
    return SimpleNamespace(embeddings=torch.full((2, 4), shade), guesses=(guess,), recognised=True)


def test_the_newest_picture_is_what_a_question_is_about() -> None:
    models = Models(look=seen)
    script = (PictureIn(picture(10)), silence(1), PictureIn(picture(10)), silence(1))
    script += (PictureIn(picture(200)), silence(1), PictureIn(picture(200)), silence(0.5))
    heard = talk(models, *script, say("what is this"), silence(3))
    kept = of(heard.events, PictureKept)
    assert [picture.number for picture in kept] == [1, 2]
    assert [picture.seen.sightings[0].name for picture in kept] == ["shade 10", "shade 200"]
    shown = [part for part in models.decoder.prompts[0][-1].parts if isinstance(part, torch.Tensor)]
    assert [float(part[0, 0]) for part in shown] == [200.0]


# Faults


async def no_tasks_left() -> bool:
    await settle()
    return asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("where", ["listener", "decoder", "voice", "look"])
@pytest.mark.parametrize("fault", [RuntimeError("out of luck"), VoxsightError("Out of luck.")])
def test_a_model_that_raises_ends_the_session_with_one_event(where: str, fault: Exception) -> None:
    async def run() -> list[tuple[int, SessionEvent]]:
        models = Models(look=seen)
        if where == "look":

            def look(image: Any) -> Any:
                raise fault

            models.look = look
        else:
            getattr(models, where).fault = fault
        script = (PictureIn(picture(1)), say("what is this"), silence(3))
        events, _ = await converse(models, script)
        assert await no_tasks_left()
        return events

    events = asyncio.run(run())
    (failed,) = of(events, SessionFailed)
    assert events[-1][1] is failed
    assert "ut of luck" in failed.message
    assert "\n" not in failed.message
    assert not of(events, SessionClosed)


def test_bad_sound_ends_the_session_with_one_sentence() -> None:
    for bad in (np.full(10, np.nan, np.float32), np.zeros((2, 10), np.float32)):
        heard = talk(Models(), AudioIn(bad), silence(1))
        assert "expected" in of(heard.events, SessionFailed)[0].message
    heard = talk(Models(), AudioIn(silence(11)))
    assert "at most 10 s, got 11.0 s" in of(heard.events, SessionFailed)[0].message


def test_sound_that_stops_mid_word_closes_the_session() -> None:
    async def run() -> Any:
        events, _ = await converse(Models(), (say("what is")[:-3_000],))
        assert await no_tasks_left()
        return events

    assert isinstance(asyncio.run(run())[-1][1], SessionClosed)


def test_input_that_ends_in_the_middle_of_a_reply_leaves_nothing_behind() -> None:
    async def run() -> Any:
        events, _ = await converse(long_reply(Models()), (say("what is this"), silence(0.7)))
        assert await no_tasks_left()
        return events

    assert isinstance(asyncio.run(run())[-1][1], SessionClosed)


def test_a_client_that_leaves_ends_everything() -> None:
    async def run() -> bool:
        async def inputs() -> AsyncIterator[SessionInput]:
            for start in range(0, 3 * RATE, CHUNK):
                sound = np.concatenate((say("what is this"), silence(3)))
                yield AudioIn(sound[start : start + CHUNK])
                await settle()
            await asyncio.Event().wait()

        events = Session(Models().parts()).run(inputs())
        async for event in events:
            if isinstance(event, ReplySound):
                break
        await events.aclose()  # type: ignore[attr-defined]
        return await no_tasks_left()

    assert asyncio.run(run())


def test_a_client_that_never_reads_ends_its_session() -> None:
    async def run() -> tuple[list[SessionEvent], bool]:
        async def inputs() -> AsyncIterator[SessionInput]:
            sound = np.concatenate((say("tell me more about cats"), silence(2)))
            for start in range(0, len(sound), CHUNK):
                yield AudioIn(sound[start : start + CHUNK])
                await settle()
            await asyncio.Event().wait()

        events = Session(Models().parts(), SessionConfig(waiting_events=3)).run(inputs())
        first = await anext(events)
        for _ in range(200):  # not reading
            await settle()
        rest = [event async for event in events]
        return [first, *rest], await no_tasks_left()

    events, clean = asyncio.run(run())
    assert len(events) == 1 + 3 + 1
    assert "has not read 3 events" in events[-1].message  # type: ignore[union-attr]
    assert clean


@pytest.mark.parametrize("victim", ["session", "_answer"])
def test_a_task_that_is_killed_ends_the_session_with_one_event(victim: str) -> None:
    async def run() -> Any:
        def kill() -> None:
            (task,) = [
                task
                for task in asyncio.all_tasks()
                if victim in (task.get_name(), getattr(task.get_coro(), "__name__", ""))
            ]
            task.cancel()

        models = Models()
        models.thinker.held = True
        script = (say("what is this"), silence(0.3), kill, silence(3))
        events, _ = await converse(models, script)
        assert await no_tasks_left()
        return events

    events = asyncio.run(run())
    assert len(of(events, SessionFailed, SessionClosed)) == 1
    assert "from outside" in events[-1][1].message


def test_limits_are_checked() -> None:
    with pytest.raises(VoxsightError, match="waiting_events above 0"):
        SessionConfig(waiting_events=0)


FIRST, SECOND = VOCABULARY[:8], VOCABULARY[16:]
scripts = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(scripts, scripts, st.integers(0, 1_000_000))
@settings(max_examples=15, deadline=None)
def test_two_sessions_never_see_each_others_words(
    first: list[int], second: list[int], seed: int
) -> None:
    """Random interleavings of two conversations over the same models."""
    draw = random.Random(seed)

    async def one(models: Models, vocabulary: tuple[str, ...], lengths: list[int]) -> list[str]:
        words = iter(vocabulary * 3)
        sound = np.concatenate(
            [
                part
                for length in lengths
                for part in (say(" ".join(next(words) for _ in range(length))), silence(3.0))
            ]
        )

        async def inputs() -> AsyncIterator[SessionInput]:
            for start in range(0, len(sound), CHUNK):
                yield AudioIn(sound[start : start + CHUNK])
                for _ in range(draw.randrange(20)):
                    await asyncio.sleep(0)
            await settle()

        texts = []
        async for event in Session(models.parts()).run(inputs()):
            match event:
                case TurnEnded(_, question):
                    texts.append(question)
                case ReplyText(_, text):
                    texts.append(text)
                case Partial(committed, tentative):
                    texts += [committed, tentative]
        return texts

    async def both() -> list[list[str]]:
        models = Models()
        return await asyncio.gather(one(models, FIRST, first), one(models, SECOND, second))

    mine, other = (
        {w.strip(".") for t in texts for w in t.split()} for texts in asyncio.run(both())
    )
    assert mine & set(FIRST)
    assert other & set(SECOND)
    assert not mine & set(SECOND)
    assert not other & set(FIRST)
