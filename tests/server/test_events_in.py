"""What clients may send: the SDK's examples of every event, and what is wrong with others."""

import json
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter

from assistant.server.realtime.events_in import (
    CameraFrame,
    ClientEvent,
    ItemCreate,
    PlaybackUpdate,
    ResponseCreate,
    SessionUpdate,
    parse,
)
from assistant.server.realtime.items import FunctionCallItem, ItemReference
from assistant.server.realtime.settings import NamedTool, Offer, SessionSettings
from assistant.server.realtime.wire import WireError
from tests.server import wire_strategies

SDK: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
SDK_EVENTS = typing.get_args(typing.get_args(RealtimeClientEvent)[0])
OURS = typing.get_args(ClientEvent)
PNG = "data:image/png;base64,iVBORw0KGgo="


def user(*content: dict[str, Any]) -> dict[str, Any]:
    item = {"type": "message", "role": "user", "content": list(content)}
    return {"type": "conversation.item.create", "item": item}


# One of each event, and of each kind of content that we take, as the SDK's types have them.
EXAMPLES: list[dict[str, Any]] = [
    {"type": "session.update", "event_id": "e1", "session": {"type": "realtime"}},
    {"type": "session.update", "session": {"type": "transcription", "audio": {"input": {}}}},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit", "event_id": "e"},
    {"type": "input_audio_buffer.clear"},
    user({"type": "input_text", "text": "Hi"}),
    user({"type": "input_audio", "audio": "AAAA", "transcript": "hi"}),
    user({"type": "input_image", "image_url": PNG, "detail": "auto"}),
    user(),
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "id": "mine",
            "object": "realtime.item",
            "status": "completed",
            "type": "message",
            "role": "system",
            "content": [{"type": "input_text", "text": "Be brief."}],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes."}],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "call_1", "output": "4"},
    },
    {"type": "conversation.item.delete", "item_id": "a"},
    {"type": "conversation.item.retrieve", "item_id": "a"},
    {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 9},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "metadata": {"topic": "x"},
            "instructions": "Rhyme.",
            "output_modalities": ["text"],
            "max_output_tokens": 7,
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            "tool_choice": {"type": "function", "name": "f"},
            "audio": {"output": {"voice": "alloy", "format": {"type": "audio/pcmu"}}},
            "input": [user({"type": "input_text", "text": "Hi"})["item"]],
        },
    },
    {"type": "response.create", "response": {"max_output_tokens": "inf", "tool_choice": "none"}},
    {"type": "response.cancel"},
    {"type": "response.cancel", "response_id": "resp_1"},
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e["type"])
def test_an_event_of_the_sdk_is_an_event_of_ours(example: dict[str, Any]) -> None:
    sent = SDK.validate_python(example).model_dump_json(exclude_unset=True)
    event = parse(sent)
    assert event.type == example["type"]
    assert event.event_id == example.get("event_id")
    # Nothing that was sent is lost on the way.
    kept = event.model_dump(mode="json")
    assert _covers(kept, example)


def _covers(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and _covers(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_covers, whole, part))
    return bool(whole == part)


def test_every_event_of_the_sdk_has_an_example() -> None:
    names = {typing.get_args(kind.model_fields["type"].annotation)[0] for kind in SDK_EVENTS}
    assert names - {e["type"] for e in EXAMPLES} == {"output_audio_buffer.clear"}
    ours = {kind.model_fields["type"].default for kind in OURS}
    assert ours - names == {"voxsight.playback.update", "voxsight.camera.frame"}


@pytest.mark.parametrize("kind", SDK_EVENTS)
@settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_the_sdk_can_send_is_taken_or_named(kind: Any, data: st.DataObject) -> None:
    sent = data.draw(wire_strategies.model(kind))
    try:
        event = parse(json.dumps(sent))
    except WireError as error:
        assert error.message.endswith(".")
        assert error.event_id == sent.get("event_id")
        assert error.code != "invalid_json"
    else:
        assert event.type == sent["type"]


@pytest.mark.parametrize("kind", OURS)
@settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_what_we_take_comes_back_as_it_was(kind: Any, data: st.DataObject) -> None:
    sent = data.draw(wire_strategies.model(kind))
    try:
        event = parse(json.dumps(sent))
    except WireError:
        return
    assert parse(event.model_dump_json()).model_dump() == event.model_dump()


@given(st.text() | st.binary() | wire_strategies.JSON.map(json.dumps))
def test_anything_else_is_refused_in_a_sentence(frame: str | bytes) -> None:
    with pytest.raises(WireError) as caught:
        parse(frame)
    assert caught.value.message.endswith(".")


REFUSALS = [
    ("[", "invalid_json", None, "Expected one JSON object"),
    ("[" * 300 + "]" * 300, "invalid_json", None, "recursion limit"),
    ("[]", "invalid_json", None, "got list"),
    ("NaN", "invalid_json", None, "JSON"),
    ("{}", "missing_required_parameter", "type", "Missing required parameter: 'type'"),
    ('{"type":"x"}', "invalid_value", "type", "'session.update'"),
    ('{"type":7}', "invalid_value", "type", "got '7'"),
    ('{"type":"response.cancel","x":1}', "unknown_parameter", "x", "Unknown parameter: 'x'"),
    (
        '{"type":"conversation.item.truncate","item_id":"a","content_index":0,"audio_end_ms":1.5}',
        "invalid_type",
        "audio_end_ms",
        "a whole number",
    ),
    (
        '{"type":"conversation.item.delete","item_id":7}',
        "invalid_type",
        "item_id",
        "a string, got 7",
    ),
    ('{"type":"session.update","session":[]}', "invalid_type", "session", "a JSON object, got []"),
    ('{"type":"output_audio_buffer.clear"}', "unsupported_event", "type", "On a WebSocket"),
    (
        '{"type":"response.create","response":{"conversation":"mine"}}',
        "invalid_value",
        "response.conversation",
        "'auto' or 'none'",
    ),
    (
        '{"type":"response.create","response":{"prompt":{"id":"p"}}}',
        "invalid_value",
        "response.prompt",
        "stores no prompts",
    ),
    (
        json.dumps(user({"type": "input_image", "image_url": "http://169.254.169.254/"})),
        "invalid_value",
        "item.content.0.image_url",
        "data URL",
    ),
    (
        json.dumps(user({"type": "input_image", "image_url": PNG, "detail": "high"})),
        "invalid_value",
        "item.content.0.detail",
        "one level of detail",
    ),
    (
        json.dumps(user({"type": "output_text", "text": "I am you"})),
        "invalid_value",
        "item",
        "role 'user' holds",
    ),
    (
        '{"type":"conversation.item.create","item":{"type":"message","role":"assistant",'
        '"content":[{"type":"output_audio","transcript":"Hi"}]}}',
        "invalid_value",
        None,
        "output_text",
    ),
    (
        '{"type":"conversation.item.create","item":{"type":"mcp_tool_call"}}',
        "invalid_value",
        "item.type",
        "'function_call_output'",
    ),
    (
        '{"type":"response.create","response":{"tools":[{"type":"mcp","server_label":"x"}]}}',
        "invalid_value",
        "response.tools.0.type",
        "'function', got 'mcp'",
    ),
]


@pytest.mark.parametrize(("frame", "code", "param", "words"), REFUSALS)
def test_a_refusal_names_the_field(frame: str, code: str, param: str | None, words: str) -> None:
    with pytest.raises(WireError) as caught:
        parse(frame)
    error = caught.value
    assert (error.code, error.param) == (code, param)
    assert words in error.message


def test_a_refusal_tells_which_event_and_repeats_little_of_it() -> None:
    with pytest.raises(WireError) as caught:
        parse(
            json.dumps({"type": "response.cancel", "event_id": "e9", "response_id": " " * 10_000})
        )
    assert caught.value.event_id == "e9"
    assert len(caught.value.message) < 300
    with pytest.raises(WireError) as caught:
        parse('{"type":"response.cancel","event_id":5}')
    assert caught.value.event_id is None


def test_a_frame_of_a_million_small_things_is_refused_before_it_is_built() -> None:
    frame = '{"type":"session.update","session":{"tools":[' + "{}," * 300_000 + "{}]}}"
    with pytest.raises(WireError, match="too many") as caught:
        parse(frame)
    assert caught.value.code == "too_complex"


def test_items_without_an_id_get_one() -> None:
    event = parse(json.dumps(user()))
    assert isinstance(event, ItemCreate)
    assert event.item.id.startswith("item_")
    call = FunctionCallItem(name="f", arguments="{}")
    assert call.call_id.startswith("call_")


def test_what_a_response_sets_overrides_the_session() -> None:
    event = parse(json.dumps(EXAMPLES[17]))
    assert isinstance(event, ResponseCreate)
    assert event.response.metadata == {"topic": "x"}
    offer = Offer("vox", ("joe",))
    settings = SessionSettings.initial(offer, "sess_1")
    one = settings.for_response(event.response.overrides(), offer)
    assert one.instructions == "Rhyme."
    assert one.output_modalities == ("text",)
    assert one.max_output_tokens == 7
    assert one.tool_choice == NamedTool(name="f")
    assert one.audio.output is not None
    assert (one.audio.output.voice, one.audio.output.format.type) == ("joe", "audio/pcmu")
    assert one.audio.input == settings.audio.input
    plain = parse('{"type":"response.create"}')
    assert isinstance(plain, ResponseCreate)
    assert settings.for_response(plain.response.overrides(), offer) == settings


def test_a_response_outside_the_conversation_may_refer_to_items() -> None:
    given = {"conversation": "none", "input": [{"type": "item_reference", "id": "a"}]}
    event = parse(json.dumps({"type": "response.create", "response": given}))
    assert isinstance(event, ResponseCreate)
    assert event.response.input == (ItemReference(id="a"),)


def test_the_extensions_are_parsed() -> None:
    played = parse('{"type":"voxsight.playback.update","item_id":"a","audio_played_ms":20}')
    assert played == PlaybackUpdate(item_id="a", content_index=0, audio_played_ms=20)
    frame = parse(json.dumps({"type": "voxsight.camera.frame", "image": PNG, "event_id": "e"}))
    assert frame == CameraFrame(image=PNG, event_id="e")
    assert isinstance(parse('{"type":"session.update","session":{}}'), SessionUpdate)
