"""Items: order, errors, pictures and sound in them, truncation, what is kept."""

import base64
from typing import Any

import pytest

from assistant.server.realtime.dialogue import DialogueLimits
from tests.assistant.session_fakes import VOCABULARY, say, silence
from tests.server.dialogue_fakes import (
    WORD_BYTES,
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


def user(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(content)} | fields


def test_items_are_put_in_order() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("one", id="item_1")
        await client.say("two", id="item_2")
        events = await client.send(
            "conversation.item.create",
            previous_item_id="item_1",
            item=user({"type": "input_text", "text": "three"}, id="item_3"),
        )
        assert kinds(events) == ["conversation.item.added", "conversation.item.done"]
        assert [e.previous_item_id for e in events] == ["item_1", "item_1"]  # type: ignore[union-attr]
        (first, _) = await client.send(
            "conversation.item.create",
            previous_item_id="root",
            item={
                "type": "message",
                "role": "system",
                "content": [{"type": "input_text", "text": "Rhyme."}],
                "id": "item_0",
            },
        )
        assert first.previous_item_id is None  # type: ignore[union-attr]
        assert [item.id for item in client.items] == ["item_0", "item_1", "item_3", "item_2"]
        (deleted,) = await client.send("conversation.item.delete", item_id="item_3")
        assert (deleted.type, deleted.item_id) == ("conversation.item.deleted", "item_3")  # type: ignore[union-attr]
        await client.send("response.create")

    run(script, world)
    texts = [(m.role, text_of(m)) for m in world.writer.asked[0]]
    assert texts == [
        ("system", "Be brief."),
        ("system", "Rhyme."),
        ("user", "one"),
        ("user", "two"),
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("conversation.item.delete", {"item_id": "x"}, "item_delete_invalid_item_id"),
        ("conversation.item.retrieve", {"item_id": "x"}, "item_retrieve_invalid_item_id"),
        (
            "conversation.item.truncate",
            {"item_id": "x", "content_index": 0, "audio_end_ms": 0},
            "item_truncate_invalid_item_id",
        ),
        (
            "conversation.item.truncate",
            {"item_id": "item_1", "content_index": 0, "audio_end_ms": 0},
            "unsupported_content_type",
        ),
        (
            "voxsight.playback.update",
            {"item_id": "x", "audio_played_ms": 0},
            "item_playback_invalid_item_id",
        ),
        (
            "voxsight.playback.update",
            {"item_id": "item_1", "audio_played_ms": 0},
            "unsupported_content_type",
        ),
        (
            "conversation.item.create",
            {"item": user(), "previous_item_id": "x"},
            "item_create_invalid_previous_item_id",
        ),
        ("conversation.item.create", {"item": user(id="item_1")}, "item_create_duplicate_item_id"),
        (
            "conversation.item.create",
            {"item": {"type": "function_call_output", "call_id": "x", "output": ""}},
            "invalid_tool_call_id",
        ),
        (
            "conversation.item.create",
            {"item": user({"type": "input_text", "text": "x" * 101})},
            "string_above_max_length",
        ),
        (
            "conversation.item.create",
            {"item": user({"type": "input_image", "image_url": "data:image/png;base64,AAAA"})},
            "invalid_media",
        ),
        (
            "conversation.item.create",
            {"item": user({"type": "input_audio", "audio": "?"})},
            "invalid_audio",
        ),
        ("response.cancel", {"response_id": "x"}, "response_cancel_not_active"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    kind: str, fields: dict[str, Any], code: str
) -> None:
    async def script(client: Client) -> None:
        await client.say("one", id="item_1")
        (error,) = await client.send(kind, event_id="mine", **fields)
        assert error.type == "error"
        assert (error.error.code, error.error.event_id) == (code, "mine")
        assert len(client.items) == 1
        assert await client.say("two")

    run(script, limits=DialogueLimits(max_item_chars=100))


def test_a_picture_in_a_message() -> None:
    world = World()

    async def script(client: Client) -> None:
        url = picture("blue")
        events = await client.send(
            "conversation.item.create",
            item=user(
                {"type": "input_text", "text": "what is this"},
                {"type": "input_image", "image_url": url},
                {"type": "input_image", "image_url": picture("red")},
            ),
        )
        assert events[0].item.content[1].image_url == url  # type: ignore[union-attr]
        await client.send("response.create")
        (done,) = client.of("response.done")
        assert done.response.usage.input_token_details.image_tokens == 4

    run(script, world)
    parts = world.writer.asked[0][1].parts
    assert [type(part).__name__ for part in parts] == [
        "str",
        "Tensor",
        "str",
        "str",
        "Tensor",
        "str",
    ]
    assert str(parts[-1]).endswith("what is this")


def test_an_encoder_that_fails_costs_one_item_its_picture() -> None:
    world = World()

    def broken(_: Any) -> Any:
        raise RuntimeError("secret")

    async def script(client: Client) -> None:
        world.models.look = broken
        part = {"type": "input_image", "image_url": picture("blue")}
        await client.send("conversation.item.create", item=user(part))
        await client.send("response.create")
        assert client.of("response.done")[-1].response.status == "failed"
        await client.say("hello")
        await client.send("response.create")
        assert client.of("response.done")[-1].response.status == "completed"

    run(script, world)


def test_sound_in_a_message() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.update(audio={"input": {"transcription": {}}})
        sound = pcm(upsampled(say("tell me more")))
        events = await client.send(
            "conversation.item.create", item=user({"type": "input_audio", "audio": sound}, id="i")
        )
        assert events[0].item.content[0].audio is None  # type: ignore[union-attr]
        (completed,) = of(events, "conversation.item.input_audio_transcription.completed")
        assert completed.transcript == "tell me more"
        (retrieved,) = await client.send("conversation.item.retrieve", item_id="i")
        assert retrieved.item.content[0].audio == sound  # type: ignore[union-attr]
        assert retrieved.item.content[0].transcript == "tell me more"  # type: ignore[union-attr]
        count = len(client.events)
        beside = {"conversation": "none", "input": [user({"type": "input_audio", "audio": sound})]}
        await client.send("response.create", response=beside)
        assert not [e for e in client.events[count:] if "transcription" in e.type]
        (error,) = await client.send(
            "conversation.item.create",
            item=user({"type": "input_audio", "audio": pcm(upsampled(silence(11)))}),
        )
        assert error.error.code == "invalid_audio"  # type: ignore[union-attr]
        known = user({"type": "input_audio", "audio": sound, "transcript": "six"})
        await client.send("conversation.item.create", item=known)
        assert client.items[-1].content[0].transcript == "six"

    run(script, world, limits=DialogueLimits(max_buffer_s=10))
    assert text_of(world.writer.asked[0][1]) == "tell me more"


def test_history_may_be_written_by_the_client() -> None:
    world = World()

    async def script(client: Client) -> None:
        await client.say("one")
        for item in (
            {"role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
            {"role": "user", "content": [{"type": "input_audio", "transcript": "three"}]},
        ):
            await client.send("conversation.item.create", item={"type": "message"} | item)
        await client.send("response.create")

    run(script, world)
    assert [text_of(m) for m in world.writer.asked[0]][1:] == ["one", "two", "three"]


@pytest.mark.parametrize("words", [0, 1, 5, 30])
def test_truncation_keeps_the_words_that_were_heard(words: int) -> None:
    world = World(writer=Writer(answer=" ".join(VOCABULARY) + "."))

    async def script(client: Client) -> None:
        await client.say("go")
        await client.send("response.create")
        item = client.items[-1]
        end = words * 200
        fields = {"item_id": item.id, "content_index": 0}
        (error,) = await client.send("conversation.item.truncate", audio_end_ms=99_999, **fields)
        assert error.error.message == "Audio content of 6000ms is already shorter than 99999ms."
        (cut,) = await client.send("conversation.item.truncate", audio_end_ms=end, **fields)
        assert (cut.item_id, cut.audio_end_ms) == (item.id, end)
        (retrieved,) = await client.send("conversation.item.retrieve", item_id=item.id)
        part = retrieved.item.content[0]
        heard = " ".join((" ".join(VOCABULARY) + ".").split()[:words])
        assert part.transcript == heard
        assert len(base64.b64decode(part.audio or "")) == words * WORD_BYTES
        (error,) = await client.send("conversation.item.truncate", audio_end_ms=end + 1, **fields)
        assert error.type == "error"
        world.writer.answer = None
        await client.say("and now")
        await client.send("response.create")

    run(script, world)
    texts = [text_of(m) for m in world.writer.asked[-1]]
    assert len(texts) == (4 if words else 3)  # what nobody heard was never said
    if words:
        assert texts[2].rstrip("….") == " ".join(VOCABULARY[:words])


@pytest.mark.parametrize("deed", ["truncate", "delete"])
def test_an_item_that_is_being_given_is_ended_first(deed: str) -> None:
    world = World(writer=Writer(answer="One two. Three four five six seven eight nine ten."))

    async def script(client: Client) -> None:
        await client.say("go")
        receive, written = client._receive, 0

        def hold(event: Any) -> None:
            nonlocal written
            receive(event)
            written += event.type.endswith("transcript.delta")
            world.models.thinker.held = written >= 6

        client.dialogue._send = hold
        await client.send("response.create")
        item = client.items[-1]
        more = {"content_index": 0, "audio_end_ms": 200} if deed == "truncate" else {}
        events = await client.send(f"conversation.item.{deed}", item_id=item.id, **more)
        assert kinds(events)[-2:] == ["response.done", f"conversation.item.{deed}d"]
        world.models.thinker.held = False
        await settle()
        assert client.events[-1].type == f"conversation.item.{deed}d"

    run(script, world)


def test_the_oldest_sound_is_forgotten_first() -> None:
    async def script(client: Client) -> None:
        for word in ("one", "two", "three"):
            await client.hear(say(word), silence(1))
        users = [item.id for item in client.items if item.role == "user"]
        kept = []
        for item_id in users:
            (retrieved,) = await client.send("conversation.item.retrieve", item_id=item_id)
            kept.append(retrieved.item.content[0].audio is not None)
        assert kept == [False, False, True]
        spoken = [item.id for item in client.items if item.role == "assistant"]
        fields = {"item_id": spoken[0], "content_index": 0, "audio_end_ms": 200}
        (cut,) = await client.send("conversation.item.truncate", **fields)
        assert cut.type == "conversation.item.truncated"

    run(script, limits=DialogueLimits(max_kept_sound_bytes=120_000))


def test_a_conversation_is_bounded() -> None:
    async def script(client: Client) -> None:
        await client.say("one")
        await client.say("two")
        await client.say("three")
        (error,) = await client.say("four")
        assert error.error.code == "conversation_full"  # type: ignore[union-attr]
        events = await client.send("response.create")  # what we add pushes the oldest out
        assert of(events, "conversation.item.deleted")
        assert len(client.items) == 3

    run(script, limits=DialogueLimits(max_items=3))


def test_settings_that_cannot_be_are_told() -> None:
    async def script(client: Client) -> None:
        (error,) = await client.update(audio={"output": {"voice": "nobody"}})
        assert error.type == "error"
        await client.say("one")
        await client.send("response.create")
        (error,) = await client.send("session.update", session={"type": "transcription"})
        assert error.type == "error"
        (error,) = await client.send(
            "response.create", response={"tool_choice": {"type": "function", "name": "x"}}
        )
        assert error.type == "error"

    run(script)
