"""Whatever clients do, and in whatever order: what every dialogue keeps to."""

import asyncio
import base64
from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.server.realtime.dialogue import DialogueLimits
from tests.assistant.session_fakes import VOCABULARY, say, silence
from tests.server.dialogue_fakes import Client, World, Writer, settle, text_of

TOOL = {"type": "function", "name": "light"}
LIMITS = DialogueLimits(max_turns_waiting=1000, max_items=12, context_tokens=60)

_words = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=4).map(" ".join)
_detection = st.sampled_from(
    [None, {"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "high"}]
) | st.builds(
    lambda create, interrupt: {
        "type": "server_vad",
        "create_response": create,
        "interrupt_response": interrupt,
    },
    st.booleans(),
    st.booleans(),
)
_response = st.fixed_dictionaries(
    {},
    optional={
        "output_modalities": st.sampled_from([["text"], ["audio"]]),
        "conversation": st.sampled_from(["none", "auto"]),
        "max_output_tokens": st.integers(1, 4),
        "tools": st.sampled_from([[], [TOOL]]),
    },
)
_actions = st.one_of(
    st.tuples(st.just("say"), _words),
    st.tuples(st.just("hear"), _words),
    st.tuples(st.just("silence"), st.sampled_from([0.2, 0.4, 0.7, 1.5])),
    st.tuples(st.just("respond"), _response),
    st.tuples(st.sampled_from(["commit", "clear", "cancel", "think", "listen"]), st.none()),
    st.tuples(
        st.sampled_from(["delete", "truncate", "retrieve", "played"]),
        st.tuples(st.integers(0, 11), st.integers(0, 1500)),
    ),
    st.tuples(st.just("detect"), _detection),
)


async def act(client: Client, name: str, value: Any) -> None:
    match name:
        case "say":
            await client.say(value)
        case "hear":
            await client.hear(say(value))
        case "silence":
            await client.hear(silence(value))
        case "respond":
            await client.send("response.create", response=value)
        case "commit" | "clear":
            await client.send(f"input_audio_buffer.{name}")
        case "cancel":
            await client.send("response.cancel")
        case "think" | "listen":  # the model's thread is busy, or free again
            models = client.world.models
            worker = models.thinker if name == "think" else models.hearer
            worker.held = not worker.held
            await settle()
        case "detect":
            await client.update(audio={"input": {"turn_detection": value, "transcription": {}}})
        case _:
            await touch(client, name, *value)


async def touch(client: Client, name: str, place: int, ms: int) -> None:
    """Do something with an item, if there are so many."""
    ids = [item.id for item in client.items]
    if place >= len(ids):
        return
    if name == "played":
        await client.send("voxsight.playback.update", item_id=ids[place], audio_played_ms=ms)
        return
    more = {"content_index": 0, "audio_end_ms": ms} if name == "truncate" else {}
    await client.send(f"conversation.item.{name}", item_id=ids[place], **more)


def items_as_told(events: list[Any]) -> list[str]:
    """The conversation as a client knows it."""
    ids: list[str] = []
    for event in events:
        if event.type == "conversation.item.added":
            before = event.previous_item_id
            ids.insert(0 if before is None else ids.index(before) + 1, event.item.id)
        elif event.type == "conversation.item.deleted":
            ids.remove(event.item_id)
    return ids


def check_responses(events: list[Any]) -> None:
    running: set[str] = set()
    ended: set[str] = set()
    within: set[str] = set()
    for event in events:
        if event.type == "response.created":
            identity = event.response.id
            assert identity not in running | ended
            if event.response.conversation_id is not None:
                assert not within & running  # one at a time
                within.add(identity)
            running.add(identity)
        elif event.type == "response.done":
            running.remove(event.response.id)
            ended.add(event.response.id)
            assert event.response.usage is not None
            assert event.response.status != "in_progress"
        elif event.type.startswith("response."):
            assert event.response_id in running
    assert not running


_PARTS = {
    "response.output_text": "text",
    "response.output_audio_transcript": "transcript",
    "response.function_call_arguments": "arguments",
    "response.output_audio": None,
}


def check_parts(events: list[Any]) -> None:
    """Every item and part that is begun is ended once, and holds what was sent of it."""
    texts: dict[tuple[str, str], str] = defaultdict(str)
    open_items: dict[str, list[str]] = {}
    for event in events:
        family, _, kind = event.type.rpartition(".")
        if event.type == "response.output_item.added":
            open_items[event.item.id] = []
        elif event.type == "response.output_item.done":
            del open_items[event.item.id]
            for part in getattr(event.item, "content", ()):
                shown = getattr(part, "text", None) or getattr(part, "transcript", "")
                whole = texts["response.output_text", event.item.id]
                assert shown == whole + texts["response.output_audio_transcript", event.item.id]
        elif family in _PARTS and kind == "delta":
            assert event.item_id in open_items
            texts[family, event.item_id] += event.delta if _PARTS[family] else "x"
        elif family in _PARTS and kind == "done":
            assert event.type not in open_items[event.item_id]
            open_items[event.item_id].append(event.type)
            if field := _PARTS[family]:
                assert getattr(event, field) == texts[family, event.item_id]
    assert not open_items


def check_transcripts(events: list[Any]) -> None:
    told: dict[str, str] = defaultdict(str)
    final: set[str] = set()
    for event in events:
        if event.type.endswith("transcription.delta"):
            assert event.item_id not in final
            told[event.item_id] += event.delta
        elif event.type.endswith("transcription.completed"):
            assert event.item_id not in final
            final.add(event.item_id)
            # What was said before words were asked for was never told.
            assert event.transcript.endswith(told[event.item_id])


def check_items(client: Client) -> None:
    events = client.events
    assert items_as_told(events) == [item.id for item in client.items]
    added = [e.item.id for e in events if e.type == "conversation.item.added"]
    done = [e.item.id for e in events if e.type == "conversation.item.done"]
    deleted = {e.item_id for e in events if e.type == "conversation.item.deleted"}
    assert len(set(added)) == len(added)
    assert len(set(done)) == len(done)
    assert set(added) - deleted == set(done) - deleted
    for entry in client.dialogue._conversation:
        for speech in entry.speech.values():
            assert not speech.data or len(speech.data) // speech.bytes_per_ms == speech.ms


def check_sound(client: Client) -> None:
    """An item that was not cut holds exactly the sound that was sent."""
    sent: dict[str, bytes] = defaultdict(bytes)
    for event in client.of("response.output_audio.delta"):
        sent[event.item_id] += base64.b64decode(event.delta)
    cut = {event.item_id for event in client.of("conversation.item.truncated")}
    for entry in client.dialogue._conversation:
        if entry.id in sent and entry.id not in cut:
            assert entry.speech[0].data == sent[entry.id]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(actions=st.lists(_actions, max_size=14), reply=st.none() | _words)
def test_whatever_a_client_does(actions: list[tuple[str, Any]], reply: str | None) -> None:
    async def play() -> Client:
        world = World(writer=Writer(answer=reply, calls=[("light", '{"on": 1}')]))
        async with Client(world, LIMITS) as client:
            await client.update(audio={"input": {"transcription": {}}})
            for name, value in actions:
                await act(client, name, value)
            world.models.thinker.held = world.models.hearer.held = False
            for _ in range(5):
                await settle()
            assert not client.dialogue._floor._settling
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return client

    client = asyncio.run(play())
    check_responses(client.events)
    check_parts(client.events)
    check_transcripts(client.events)
    check_items(client)
    check_sound(client)
    for event in client.of("error"):
        assert event.error.type != "server_error"


@settings(max_examples=10, deadline=None, database=None)
@given(order=st.lists(st.booleans(), min_size=30, max_size=60))
def test_two_dialogues_never_hear_of_each_other(order: list[bool]) -> None:
    async def play() -> None:
        world = World()
        words = (VOCABULARY[:13], VOCABULARY[15:28])
        async with Client(world) as first, Client(world) as second:
            for client in (first, second):
                await client.update(audio={"input": {"transcription": {}}})
            at = [0, 0]
            for choice in order:
                client, place = (first, second)[choice], at[choice]
                at[choice] += 1
                if place % 3 == 2:
                    await client.hear(silence(0.4))
                else:
                    await client.hear(say(words[choice][place % 13]))
            for client in (first, second):
                await client.hear(silence(2))
        for choice, client in enumerate((first, second)):
            others = set(words[not choice]) - {"said", "you"}
            said = [
                event.transcript
                for event in client.events
                if event.type.endswith(("transcription.completed", "transcript.done"))
            ]
            assert said or at[choice] == 0
            assert not others & set(" ".join(said).replace(".", "").split())
        for asked in world.writer.asked:
            text = set(" ".join(map(text_of, asked)).replace(".", "").split())
            assert not (text & set(words[0]) and text & (set(words[1]) - {"you"}))

    asyncio.run(play())
