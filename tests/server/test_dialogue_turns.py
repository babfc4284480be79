"""Turns: speech becomes items and answers; drafts, interruptions, manual turns, silence."""

import base64
from typing import Any

import numpy as np
import pytest

from assistant.server.errors import ApiError
from assistant.server.realtime.dialogue import DialogueLimits
from tests.assistant.session_fakes import VOCABULARY, say, silence
from tests.server.dialogue_fakes import (
    Client,
    World,
    Writer,
    kinds,
    of,
    pcm,
    picture,
    run,
    settle,
    text_of,
    upsampled,
)

TOLD: dict[str, Any] = {"audio": {"input": {"transcription": {}}}}
SEMANTIC: dict[str, Any] = {
    "audio": {"input": {"transcription": {}, "turn_detection": {"type": "semantic_vad"}}}
}
MANUAL: dict[str, Any] = {"audio": {"input": {"transcription": {}, "turn_detection": None}}}
LONG = " ".join(VOCABULARY) + "."  # 30 words, 6 s


def test_a_turn_becomes_an_item_and_is_answered() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.update(**TOLD)
        events = await client.hear(silence(0.5), say("what is this"), silence(2))
        assert [kind for kind in kinds(events) if not kind.endswith("delta")][:8] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.completed",
            "response.created",
            "response.output_item.added",
        ]
        started, stopped, committed, added = (
            client.of(f"{kind}")[0]
            for kind in (
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
            )
        )
        assert started.item_id == stopped.item_id == committed.item_id == added.item.id
        assert abs(started.audio_start_ms - 200) < 40  # 300 ms before the speech
        assert abs(stopped.audio_end_ms - (500 + 930 + 500)) < 100  # and 500 ms of silence
        assert committed.previous_item_id is None
        deltas = of(events, "conversation.item.input_audio_transcription.delta")
        (completed,) = of(events, "conversation.item.input_audio_transcription.completed")
        assert len(deltas) > 1
        assert "".join(e.delta for e in deltas) == completed.transcript == "what is this"
        assert completed.usage.seconds == pytest.approx(1.8, abs=0.15)
        question, answer = client.items
        assert question.content[0].transcript == "what is this"
        assert answer.content[0].transcript == "You said what is this. "
        (retrieved,) = await client.send("conversation.item.retrieve", item_id=question.id)
        sound = base64.b64decode(retrieved.item.content[0].audio)
        assert len(sound) / 48_000 == pytest.approx(completed.usage.seconds, abs=0.01)

    run(script, world)
    assert world.caller.spent["audio_s"] == pytest.approx(3.43, abs=0.05)
    assert world.writer.prefilled
    assert len(world.writer.asked) == 1  # what was prepared was let out


def test_words_are_not_told_unless_asked_for() -> None:
    async def script(client: Client) -> None:
        events = await client.hear(say("what is this"), silence(2))
        assert not [e for e in events if "transcription" in e.type]
        assert client.items[0].content[0].transcript == "what is this"
        await client.update(include=["item.input_audio_transcription.logprobs"], **TOLD)
        events = await client.hear(say("tell me"), silence(2))
        (completed,) = of(events, "conversation.item.input_audio_transcription.completed")
        assert [entry.token for entry in completed.logprobs] == [" tell", " me"]

    run(script)


def test_the_answer_is_ready_before_the_turn_is_over_but_held_back() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.hear(say("what is this"), silence(0.35))
        assert len(world.writer.asked) == 1
        assert not client.of("response.created", "input_audio_buffer.speech_stopped")
        await client.hear(say("tell me"), silence(2))
        (done,) = client.of("response.done")
        assert done.response.output[0].content[0].transcript == "You said what is this tell me. "
        assert len(client.of("input_audio_buffer.speech_started")) == 1

    run(script, world)
    assert len(world.writer.asked) == 2


def test_changed_instructions_make_what_was_prepared_useless() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.hear(say("what is this"), silence(0.35))
        await client.update(instructions="Other.")
        await client.hear(silence(2))
        assert len(client.of("response.done")) == 1

    run(script, world)
    assert [text_of(asked[0]) for asked in world.writer.asked] == ["Be brief.", "Other."]


@pytest.mark.parametrize("reports", [False, True])
def test_speech_interrupts_at_once(reports: bool) -> None:
    world = World(writer=Writer(answer=LONG))

    async def script(client: Client) -> None:
        await client.hear(say("what is this"), silence(1))
        (done,) = client.of("response.done")  # sound is made faster than it is played
        assert done.response.status == "completed"
        item = done.response.output[0]
        if reports:
            fields = {"item_id": item.id, "audio_played_ms": 1010}
            assert not await client.send("voxsight.playback.update", **fields)
        world.writer.answer = None
        events = await client.hear(say("stop tell me"), silence(1))
        cut = of(events, "conversation.item.truncated")
        assert [(e.item_id, e.audio_end_ms) for e in cut] == [(item.id, 1010)] * reports
        heard = " ".join(VOCABULARY[:5]) if reports else LONG + " "
        assert client.items[1].content[0].transcript == heard
        assert text_of(world.writer.asked[-1][2]).rstrip("… ") == heard.strip()

    run(script, world)


def test_a_response_that_is_being_given_is_cancelled_by_speech() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("hello")
        world.models.thinker.held = True
        await client.send("response.create")
        events = await client.hear(say("wait"))
        (done,) = of(events, "response.done")
        assert done.response.status == "cancelled"
        assert done.response.status_details.reason == "turn_detected"
        world.models.thinker.held = False
        events = await client.hear(silence(1))
        assert of(events, "response.done")[0].response.status == "completed"

    run(script, world)


def test_speech_need_not_interrupt_and_turns_need_not_be_answered() -> None:
    world = World()

    async def script(client: Client) -> None:
        vad = {"type": "server_vad", "interrupt_response": False}
        await client.update(audio={"input": {"turn_detection": vad}})
        await client.say("hello")
        world.models.thinker.held = True
        await client.send("response.create")
        events = await client.hear(say("wait"), silence(1))
        assert not of(events, "response.done")
        (error,) = of(events, "error")
        assert error.error.code == "conversation_already_has_active_response"
        world.models.thinker.held = False
        await settle()
        assert client.of("response.done")[0].response.status == "completed"
        vad["create_response"] = False  # type: ignore[assignment]
        await client.update(audio={"input": {"turn_detection": vad}})
        await client.hear(say("what"), silence(1))
        assert len(client.of("response.created")) == 1
        assert len(client.of("input_audio_buffer.committed")) == 2

    run(script, world)


def test_a_backchannel_leaves_no_trace() -> None:
    world = World(writer=Writer(answer=LONG))

    async def script(client: Client) -> None:
        await client.update(**SEMANTIC)
        await client.hear(say("what is this"), silence(2))
        count = len(client.events)
        await client.hear(say("yeah"), silence(1))
        assert len(client.events) == count
        events = await client.hear(say("stop tell me about cats"), silence(3))
        assert "input_audio_buffer.speech_started" in kinds(events)
        assert client.items[-2].content[0].transcript == "stop tell me about cats"

    run(script, world)


def test_semantic_turns_wait_where_more_must_come() -> None:
    async def script(client: Client) -> None:
        await client.update(**SEMANTIC)
        await client.hear(say("tell me because"), silence(0.9))
        assert not client.of("input_audio_buffer.speech_stopped")
        await client.hear(silence(0.6))
        assert client.of("input_audio_buffer.speech_stopped")

    run(script)


def test_manual_turns() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.update(**MANUAL)
        (error,) = await client.send("input_audio_buffer.commit", event_id="early")
        assert error.error.code == "input_audio_buffer_commit_empty"
        assert error.error.event_id == "early"
        assert not await client.hear(say("one two three"), silence(2))
        events = await client.send("input_audio_buffer.commit")
        assert kinds(events) == [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
        ]
        await client.hear(say("four"))
        (cleared,) = await client.send("input_audio_buffer.clear")
        assert cleared.type == "input_audio_buffer.cleared"
        (error,) = await client.send("input_audio_buffer.commit")
        assert error.error.code == "input_audio_buffer_commit_empty"
        await client.hear(say("five six"))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        spoken = [item.content[0].transcript for item in client.items]
        assert spoken == ["one two three", "five six", "You said five six. "]
        await client.hear(silence(0.5))
        await client.send("input_audio_buffer.commit")  # nobody spoke: an item without words
        assert client.items[-1].content[0].transcript == ""

    run(script, world)


def test_a_commit_and_a_response_at_once() -> None:
    """The response waits for the words of the turn before it."""

    async def script(client: Client) -> None:
        await client.update(**MANUAL)
        await client.hear(say("one two"))
        client.world.models.hearer.held = True
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        client.world.models.hearer.held = False
        await settle()
        assert client.items[-1].content[0].transcript == "You said one two. "

    run(script)


def test_a_client_may_commit_though_turns_are_detected() -> None:
    async def script(client: Client) -> None:
        await client.update(**TOLD)
        await client.hear(say("one two three"))
        (started,) = client.of("input_audio_buffer.speech_started")
        events = await client.send("input_audio_buffer.commit")
        assert events[0].type == "input_audio_buffer.committed"
        assert events[0].item_id == started.item_id
        assert not of(await client.hear(silence(1)), "response.created")
        events = await client.hear(say("four"), silence(1))
        assert of(events, "response.done")
        assert [i.content[0].transcript for i in client.items if i.role == "user"] == [
            "one two three",
            "four",
        ]

    run(script)


def test_sound_that_comes_at_once_is_followed_as_if_it_came_in_time() -> None:
    async def script(client: Client) -> None:
        await client.update(**TOLD)
        parts = [part for word in VOCABULARY[:12] for part in (say(word), silence(1))]
        whole = np.concatenate([*parts, *(say(w) for w in VOCABULARY * 2), silence(1)])
        await client.send("input_audio_buffer.append", audio=pcm(upsampled(whole)))
        for _ in range(20):
            await settle()
        completed = client.of("conversation.item.input_audio_transcription.completed")
        assert [e.transcript for e in completed] == [
            *VOCABULARY[:12],
            " ".join(VOCABULARY * 2),
        ]
        created, done = client.of("response.created"), client.of("response.done")
        assert [e.response.id for e in created] == [e.response.id for e in done]

    run(script)


def test_a_recogniser_that_fails_costs_one_item_its_words() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.update(**TOLD)
        world.models.listener.fault = RuntimeError("secret")
        events = await client.hear(say("one two three"), silence(1))
        (failed,) = of(events, "conversation.item.input_audio_transcription.failed")
        assert failed.item_id == client.items[0].id
        assert failed.error.type == "server_error"
        (done,) = of(events, "response.done")
        assert done.response.status == "failed"
        assert "secret" not in done.model_dump_json() + failed.model_dump_json()
        world.models.listener.fault = None
        await client.hear(say("four"), silence(1))
        assert client.of("response.done")[-1].response.status == "completed"

    run(script, world)


def test_noise_without_words_is_an_item_and_no_question() -> None:
    async def script(client: Client) -> None:
        await client.update(**TOLD)
        noise = np.full(1_600, 0.2, np.float32)  # too short for a word
        events = await client.hear(noise, silence(1))
        (completed,) = of(events, "conversation.item.input_audio_transcription.completed")
        assert completed.transcript == ""
        assert not of(events, "response.created")

    run(script)


def test_a_transcription_session_only_listens() -> None:
    async def script(client: Client) -> None:
        assert kinds(client.events) == ["session.created"]
        events = await client.hear(say("one two"), silence(1))
        assert of(events, "conversation.item.input_audio_transcription.completed")
        assert not of(events, "response.created")
        (error,) = await client.send("response.create")
        assert error.error.code == "invalid_session_type"
        (error,) = await client.send("voxsight.camera.frame", image=picture("red"))
        assert error.error.code == "invalid_session_type"

    run(script, kind="transcription")


def test_silence_makes_the_assistant_speak() -> None:
    world = World()

    async def script(client: Client) -> None:
        vad = {"type": "server_vad", "idle_timeout_ms": 2000}
        await client.update(audio={"input": {"turn_detection": vad}})
        await client.hear(silence(4))  # nothing was said yet
        assert not client.of("input_audio_buffer.timeout_triggered")
        await client.hear(say("what"), silence(1))
        events = await client.hear(silence(4))
        assert kinds(events)[:5] == [
            "input_audio_buffer.timeout_triggered",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ]
        timeout = events[0]
        assert timeout.audio_end_ms - timeout.audio_start_ms == pytest.approx(2000, abs=100)
        await client.hear(silence(2))
        assert len(client.of("input_audio_buffer.timeout_triggered")) == 2

    run(script, world)


def test_what_the_camera_shows_belongs_to_the_next_question() -> None:
    world = World()

    async def script(client: Client) -> None:
        (seen,) = await client.send("voxsight.camera.frame", event_id="f", image=picture("red"))
        assert (seen.frame_event_id, seen.sightings[0].name) == ("f", "red")
        await client.hear(silence(0.5))
        assert not await client.send("voxsight.camera.frame", image=picture("red"))
        await client.hear(say("what is this"), silence(1))
        await client.say("and now")
        await client.send("response.create")
        (error,) = await client.send(
            "voxsight.camera.frame", event_id="g", image="data:image/png;base64,AAAA"
        )
        assert error.error.event_id == "g"

    run(script, world)
    first, second = world.writer.asked
    assert [type(part).__name__ for part in first[1].parts] == ["str", "Tensor", "str"]
    assert second[1].parts[1] is first[1].parts[1]
    assert second[3].parts == ("and now",)


def test_speech_that_other_turn_detection_ends_is_told_and_may_be_committed() -> None:
    async def script(client: Client) -> None:
        await client.update(**TOLD)
        sound = (silence(0.5), say("what is this"))
        await client.hear(*sound)
        (started,) = client.of("input_audio_buffer.speech_started")
        events = await client.update(**MANUAL)
        (stopped,) = of(events, "input_audio_buffer.speech_stopped")
        assert stopped.item_id == started.item_id
        assert stopped.audio_end_ms == pytest.approx(sum(map(len, sound)) / 16, abs=10)
        await client.send("input_audio_buffer.commit")
        (done,) = client.of("conversation.item.input_audio_transcription.completed")
        assert done.transcript == "what is this"

    run(script)


def test_bounds_of_sound() -> None:
    limits = DialogueLimits(max_buffer_s=2)

    async def script(client: Client) -> None:
        await client.update(**MANUAL)
        events = await client.hear(silence(3))
        assert {e.error.code for e in of(events, "error")} == {"input_audio_buffer_full"}
        await client.send("input_audio_buffer.clear")
        await client.update(audio={"input": {"turn_detection": {"type": "server_vad"}}})
        events = await client.hear(say("one two three four five six seven"), silence(1))
        assert len(of(events, "input_audio_buffer.committed")) == 2

    run(script, limits=limits)


def test_who_used_up_his_sound_is_refused() -> None:
    world = World()
    world.caller.refuse["audio_s"] = ApiError(429, "Too much.", code="rate_limit_exceeded")

    async def script(client: Client) -> None:
        events = await client.hear(say("one"))
        assert {e.error.code for e in of(events, "error")} == {"rate_limit_exceeded"}
        (error,) = await client.send("input_audio_buffer.append", audio="!")
        assert error.error.code == "invalid_audio"

    run(script, world)
