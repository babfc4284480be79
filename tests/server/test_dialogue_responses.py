"""Responses: the order of their events, overrides, functions, cancelling, faults."""

import asyncio
import base64
import threading
from typing import Any

import pytest

from assistant.server.errors import ApiError
from assistant.server.realtime.dialogue import DialogueLimits
from assistant.server.realtime.events_in import parse
from assistant.workers import Worker
from tests.assistant.session_fakes import VOCABULARY
from tests.server.dialogue_fakes import (
    WORD_BYTES,
    Client,
    Listener,
    World,
    Writer,
    kinds,
    run,
    settle,
    text_of,
)

SPOKEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
WRITTEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
TOOL = {"type": "function", "name": "light", "parameters": {"type": "object", "properties": {}}}


def test_a_session_begins_with_its_settings() -> None:
    async def script(client: Client) -> None:
        assert kinds(client.events) == ["session.created", "conversation.created"]
        (updated,) = await client.update(instructions="Be kind.")
        assert updated.session.instructions == "Be kind."

    run(script)


def test_a_spoken_answer() -> None:
    async def script(client: Client) -> None:
        await client.say("one two")
        events = await client.send("response.create")
        assert kinds(events) == SPOKEN
        text = "".join(e.delta for e in client.of("response.output_audio_transcript.delta"))
        (done,) = client.of("response.output_audio_transcript.done")
        assert text == done.transcript == "You said one two. "
        sound = b"".join(
            base64.b64decode(e.delta) for e in client.of("response.output_audio.delta")
        )
        assert len(sound) == 4 * WORD_BYTES
        (response,) = client.of("response.done")
        assert response.response.status == "completed"
        assert response.response.conversation_id == client.events[1].conversation.id
        assert response.response.usage.output_tokens == 4
        question, answer = client.items
        assert (question.role, answer.role) == ("user", "assistant")
        added = client.of("conversation.item.added")[-1]
        assert added.previous_item_id == question.id
        assert added.item.status == "in_progress"
        assert added.item.content == ()
        assert response.response.output == (answer,)

    run(script)


def test_a_written_answer_and_what_holds_for_one_response_only() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("hello")
        override = {
            "output_modalities": ["text"],
            "instructions": "Shout.",
            "metadata": {"purpose": "test"},
            "max_output_tokens": 50,
        }
        events = await client.send("response.create", response=override)
        assert kinds(events) == WRITTEN
        created, done = events[0].response, events[-1].response  # type: ignore[union-attr]
        assert created.metadata == done.metadata == {"purpose": "test"}
        assert created.status == "in_progress"
        assert done.max_output_tokens == 50
        assert done.output[0].content[0].text == "You said hello. "
        await client.send("response.create")

    run(script, world)
    first, second = world.writer.asked
    assert text_of(first[0]) == "Shout."
    assert text_of(second[0]) == "Be brief."
    assert world.writer.options[0].max_tokens == 50


@pytest.mark.parametrize(("kind", "per_ms"), [("audio/pcmu", 8), ("audio/pcma", 8)])
def test_telephone_sound(kind: str, per_ms: int) -> None:
    async def script(client: Client) -> None:
        await client.update(audio={"output": {"format": {"type": kind}}})
        await client.say("one")
        await client.send("response.create")
        sound = b"".join(
            base64.b64decode(e.delta) for e in client.of("response.output_audio.delta")
        )
        assert len(sound) == 3 * 200 * per_ms

    run(script)


def test_the_limit_of_tokens_makes_an_answer_incomplete() -> None:
    async def script(client: Client) -> None:
        await client.say("one two three")
        await client.send("response.create", response={"max_output_tokens": 2})
        (done,) = client.of("response.done")
        assert done.response.status == "incomplete"
        assert done.response.status_details.reason == "max_output_tokens"
        assert done.response.output[0].status == "incomplete"
        assert client.items[-1].content[0].transcript == "You said "

    run(script)


def test_a_function_is_called_and_what_it_gave_is_answered() -> None:
    world = World(writer=Writer(calls=[("light", '{"on": true}')]))

    async def script(client: Client) -> None:
        await client.update(tools=[TOOL], tool_choice="required")
        await client.say("light please")
        events = await client.send("response.create")
        assert kinds(events) == [
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        (done,) = client.of("response.function_call_arguments.done")
        deltas = client.of("response.function_call_arguments.delta")
        assert "".join(e.delta for e in deltas) == done.arguments == '{"on": true}'
        assert done.name == "light"
        output = {"type": "function_call_output", "call_id": done.call_id, "output": "it is on"}
        await client.send("conversation.item.create", item=output)
        await client.send("response.create", response={"tool_choice": "none"})

    run(script, world)
    system, user, call, output = world.writer.asked[-1]
    assert [m.role for m in (system, user, call, output)] == ["system", "user", "assistant", "tool"]
    assert call.calls[0].name == "light"
    assert output.call_id == call.calls[0].id
    assert text_of(output) == "it is on"
    assert world.writer.options[0].tools[0].name == "light"
    assert [o.tool_choice for o in world.writer.options] == ["required", "none"]


def test_words_then_calls_are_two_items_and_one_message_of_the_model() -> None:
    world = World(writer=Writer(answer="One moment.", calls=[("light", "{}"), ("light", "{}")]))

    async def script(client: Client) -> None:
        await client.update(tools=[TOOL])
        await client.say("light")
        events = await client.send("response.create")
        assert [e.output_index for e in events if e.type == "response.output_item.added"] == [
            0,
            1,
            2,
        ]
        last_sound = max(i for i, e in enumerate(events) if e.type == "response.output_audio.delta")
        assert kinds(events[last_sound + 1 :])[:5] == [
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
        ]
        assert [item.type for item in client.items] == [
            "message",
            "message",
            *["function_call"] * 2,
        ]
        world.writer.answer, world.writer.calls = None, []
        await client.send("response.create")

    run(script, world)
    (_, _, assistant) = world.writer.asked[-1]
    assert text_of(assistant).strip() == "One moment."
    assert len(assistant.calls) == 2


def test_a_second_response_is_refused_and_others_run_beside() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("hello")
        world.models.thinker.held = True
        await client.send("response.create")
        (error,) = await client.send("response.create", event_id="mine")
        assert error.error.code == "conversation_already_has_active_response"
        assert error.error.event_id == "mine"
        item = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "two"}],
        }
        beside = {"conversation": "none", "input": [item], "metadata": {"n": "1"}}
        (created,) = await client.send("response.create", response=beside)
        assert created.response.conversation_id is None
        world.models.thinker.held = False
        await settle()
        done = client.of("response.done")
        assert {e.response.status for e in done} == {"completed"}
        side = next(e.response for e in done if e.response.metadata)
        assert side.output[0].content[0].transcript == "You said two. "
        assert len(client.items) == 2
        assert not [
            e for e in client.of("conversation.item.added") if e.item.id == side.output[0].id
        ]

    run(script, world)
    in_conversation, beside = world.writer.caches
    assert in_conversation is not None
    assert beside is None


def test_input_of_a_response_may_name_items_and_bring_its_own() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("one", id="item_one")
        await client.say("two")
        given = [
            {"type": "item_reference", "id": "item_one"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "six"}]},
        ]
        await client.send("response.create", response={"conversation": "none", "input": given})
        given[0]["id"] = "item_unknown"
        (error,) = await client.send("response.create", response={"input": given})
        assert error.error.code == "item_reference_invalid_item_id"
        await client.send("response.create", response={"input": []})

    client = run(script, world)
    assert [text_of(m) for m in world.writer.asked[0]] == ["Be brief.", "one", "six"]
    assert [text_of(m) for m in world.writer.asked[1]] == ["Be brief."]
    assert len(client.items) == 3


def test_too_many_responses_beside() -> None:
    world = World()

    async def script(client: Client) -> None:
        world.models.thinker.held = True
        beside = {"conversation": "none", "input": []}
        await client.send("response.create", response=beside)
        (error,) = await client.send("response.create", response=beside)
        assert error.error.code == "too_many_responses"
        (created,) = client.of("response.created")
        (done,) = await client.send("response.cancel", response_id=created.response.id)
        assert done.response.status_details.reason == "client_cancelled"
        world.models.thinker.held = False
        assert kinds(await client.send("response.create", response=beside))[-1] == "response.done"

    run(script, world, limits=DialogueLimits(max_side_responses=1))


def test_cancel_ends_everything_that_was_begun() -> None:
    world = World(writer=Writer(answer=" ".join(VOCABULARY) + "."))

    async def script(client: Client) -> None:
        (error,) = await client.send("response.cancel", event_id="x")
        assert error.error.code == "response_cancel_not_active"
        await client.say("go")
        stop_after(world, client, 3)
        await client.send("response.create")
        await client.send("response.cancel")
        assert kinds(client.events)[-6:] == SPOKEN[6:]
        (done,) = client.of("response.done")
        assert done.response.status == "cancelled"
        assert done.response.status_details.reason == "client_cancelled"
        assert done.response.output[0].status == "incomplete"
        assert done.response.usage.output_tokens > 0
        count = len(client.events)
        world.models.thinker.held = False
        await settle()
        assert len(client.events) == count

    run(script, world)


def stop_after(world: World, client: Client, pieces: int) -> None:
    """Hold the language model once so many pieces were written."""
    receive = client._receive
    seen = 0

    def counting(event: Any) -> None:
        nonlocal seen
        receive(event)
        if event.type.endswith(("transcript.delta", "output_text.delta")):
            seen += 1
            world.models.thinker.held = seen >= pieces

    client.dialogue._send = counting


def test_what_was_cut_off_was_not_said() -> None:
    world = World(writer=Writer(answer="One two. Three four five six seven eight nine ten eleven."))

    async def script(client: Client) -> None:
        await client.say("go")
        stop_after(world, client, 7)
        await client.send("response.create")
        await client.send("response.cancel")
        world.models.thinker.held = False
        world.writer.answer = "Fine."
        await client.say("and now")
        await client.send("response.create")

    run(script, world)
    assert text_of(world.writer.asked[-1][2]) == "One two."


def test_a_model_that_fails_ends_one_response() -> None:
    world = World(writer=Writer(fault=RuntimeError("secret detail")))

    async def script(client: Client) -> None:
        await client.say("hello")
        await client.send("response.create")
        (done,) = client.of("response.done")
        assert done.response.status == "failed"
        assert done.response.status_details.error.type == "server_error"
        assert "secret" not in done.model_dump_json()
        world.writer.fault = None
        events = await client.send("response.create")
        assert kinds(events) == SPOKEN

    run(script, world)


def test_a_voice_that_fails_ends_one_response() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("hello")
        world.models.voice.fault = RuntimeError("broken")
        await client.send("response.create")
        (done,) = client.of("response.done")
        assert done.response.status == "failed"
        world.models.voice.fault = None
        assert kinds(await client.send("response.create")) == SPOKEN

    run(script, world)


def test_a_model_that_hangs_can_be_cancelled_and_the_dialogue_ends() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("hello")
        world.models.thinker.held = True
        await client.send("response.create")
        (done,) = await client.send("response.cancel")
        assert done.response.status == "cancelled"
        await client.send("response.create")

    client = run(script, world)
    assert [e.response.status for e in client.of("response.done")] == ["cancelled"] * 2


def test_who_used_up_a_limit_is_refused() -> None:
    world = World()
    refusal = ApiError(429, "Too many.", type="rate_limit_error", code="rate_limit_exceeded")
    world.caller.refuse["requests"] = refusal

    async def script(client: Client) -> None:
        await client.say("hello")
        (error,) = await client.send("response.create", event_id="e1")
        assert error.error.type == "rate_limit_error"
        assert error.error.code == "rate_limit_exceeded"
        assert error.error.event_id == "e1"
        world.caller.refuse.clear()
        await client.send("response.create")

    run(script, world)
    assert world.caller.spent["requests"] == 1
    assert world.caller.spent["tokens"] == 3 + 3


def test_a_conversation_that_is_too_long_loses_its_oldest_items() -> None:
    world = World()

    async def script(client: Client) -> None:
        for word in ("one", "two", "three", "four"):
            await client.say(" ".join([word] * 10))
        await client.send("response.create")
        await client.send("response.create")
        await client.update(truncation="disabled")
        for word in ("five", "six"):
            await client.say(" ".join([word] * 10))
        await client.send("response.create")
        (*_, done) = client.of("response.done")
        assert done.response.status == "failed"
        assert done.response.status_details.error.code == "context_length_exceeded"
        assert len(client.items) == 8  # they are only not shown

    run(script, world, limits=DialogueLimits(context_tokens=50))
    first, second = ([text_of(m).split()[0] for m in asked] for asked in world.writer.asked)
    assert first == ["Be", "four"]
    assert second == ["Be", "four", "You"]


def test_the_client_goes_away() -> None:
    async def play() -> None:
        world = World()
        client = Client(world)
        async with client:
            pass
        client = Client(world)
        await client.__aenter__()
        client.gone = ConnectionError("gone")
        await client.say("hello")
        with pytest.raises(ConnectionError, match="gone"):
            await client._run
        assert not client.dialogue._tasks

    asyncio.run(play())


def test_nothing_is_left_behind() -> None:
    async def play() -> None:
        world = World()
        before = asyncio.all_tasks()
        async with Client(world) as client:
            await client.say("hello")
            world.models.thinker.held = True
            await client.send("response.create")
        assert asyncio.all_tasks() == before
        assert isinstance(world.models.listener, Listener)

    asyncio.run(play())


def test_a_thread_that_hangs_does_not_hold_the_dialogue() -> None:
    freed, begun = threading.Event(), threading.Event()

    class Hanging(Writer):
        def stream(self, *_: Any, **__: Any) -> Any:
            begun.set()
            freed.wait()
            return iter(())

    async def play(world: World) -> None:
        before = asyncio.all_tasks()
        async with Client(world) as client:
            await client.say("hello")
            await client.send("response.create")
            while not begun.is_set():
                await asyncio.sleep(0.001)
            (done,) = await client.send("response.cancel")
            assert done.response.status == "cancelled"  # type: ignore[union-attr]
            await client.send("response.create")
        assert asyncio.all_tasks() == before
        assert not freed.is_set()

    worker = Worker("think")
    try:
        world = World(writer=Hanging())
        world.models.thinker = worker  # type: ignore[assignment]
        asyncio.run(play(world))
    finally:
        freed.set()
        worker.close()


def test_answers_in_a_thread_of_their_own_do_not_mix_in_the_cache() -> None:
    """A step that was asked for before an answer was cancelled is not made after it."""
    world = World(writer=Writer(answer="one two three four five six seven eight nine ten"))
    worker = Worker("think")
    world.models.thinker = worker  # type: ignore[assignment]
    writer, steps = world.writer, []
    stream = writer._stream

    def counted(messages: Any, options: Any) -> Any:
        number = len(writer.asked)
        for piece in stream(messages, options):
            steps.append(number)
            yield piece

    writer._stream = counted  # type: ignore[method-assign]

    async def play() -> None:
        async with Client(world) as client:
            await client.say("hello")
            for _ in range(20):
                client._queue.put_nowait(parse('{"type": "response.create"}'))
                await asyncio.sleep(0.001)
                client._queue.put_nowait(parse('{"type": "response.cancel"}'))
            await client.send("response.create")
            while len(client.of("response.created")) > len(client.of("response.done")):
                await asyncio.sleep(0.001)

    asyncio.run(play())
    worker.close()
    assert steps == sorted(steps)
