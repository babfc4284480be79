"""Every event that we send is one that the unmodified SDK knows, by its own strict types."""

import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter, ValidationError

from assistant.server.realtime import events_out
from assistant.server.realtime.events_out import ErrorEvent, ServerEvent, to_json
from assistant.server.realtime.extensions import FrameSeen, OutputWords, Tentative
from assistant.server.realtime.payloads import LogProb
from assistant.server.realtime.wire import WireError, new_id
from tests.server import wire_strategies

SDK: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
EVENTS = typing.get_args(ServerEvent)
OPENAI_S = [e for e in EVENTS if e not in (FrameSeen, Tentative, OutputWords)]
#: What the API sends, but the SDK's types do not name: it takes them as extra fields.
SESSION_EXTRAS = {"session.created": {"id", "object"}, "session.updated": {"id", "object"}}


def valid(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Events of a kind; what fails a check of more than one field is drawn anew."""
    adapter = TypeAdapter(kind)

    def checked(data: Any) -> Any:
        try:
            return adapter.validate_python(data)
        except ValidationError:
            return None

    return wire_strategies.model(kind).map(checked).filter(lambda event: event is not None)


def unknown_fields(value: Any) -> set[str]:
    """The fields anywhere in an SDK object that its types do not name."""
    if isinstance(value, list | tuple):
        return set().union(*map(unknown_fields, value))
    if not isinstance(value, BaseModel):
        return set()
    own = set(value.model_extra or ())
    return own.union(*(unknown_fields(getattr(value, name)) for name in type(value).model_fields))


@pytest.mark.parametrize("kind", OPENAI_S)
@settings(max_examples=8, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_the_sdk_takes_every_event_strictly(kind: type[BaseModel], data: st.DataObject) -> None:
    event = data.draw(valid(kind))
    parsed = SDK.validate_json(to_json(event), strict=True)
    assert parsed.type == event.type
    assert parsed.event_id == event.event_id
    assert unknown_fields(parsed) <= SESSION_EXTRAS.get(event.type, set())


def test_the_sdk_knows_no_more_events_of_a_websocket_without_mcp() -> None:
    theirs = {
        typing.get_args(kind.model_fields["type"].annotation)[0]
        for kind in typing.get_args(typing.get_args(RealtimeServerEvent)[0])
    }
    ours = {kind.model_fields["type"].default for kind in EVENTS}
    assert ours - theirs == {
        "voxsight.camera.frame_seen",
        "voxsight.input_audio_transcription.tentative",
        "voxsight.output_audio.words",
    }
    assert {name for name in theirs - ours if "mcp" not in name} == {
        "conversation.item.created",  # of the beta; added and done took its place
        "conversation.item.input_audio_transcription.segment",  # names speakers
        "input_audio_buffer.dtmf_event_received",  # telephones
        "output_audio_buffer.started",  # WebRTC
        "output_audio_buffer.stopped",
        "output_audio_buffer.cleared",
    }


def test_every_event_has_an_id_of_its_own() -> None:
    event = events_out.AudioCleared()
    assert event.event_id.startswith("event_")
    assert event.event_id != events_out.AudioCleared().event_id


@pytest.mark.parametrize("kind", ["event", "item", "resp", "call", "sess", "conv"])
def test_ids_have_the_prefix_of_their_kind_and_fit_the_api(kind: Any) -> None:
    made = {new_id(kind) for _ in range(100)}
    assert len(made) == 100
    assert all(each.startswith(f"{kind}_") and len(each) <= 32 for each in made)


def test_an_error_names_the_offending_event() -> None:
    error = WireError("No.", "item_not_found", "item_id", "mine_7")
    event = ErrorEvent.of(error)
    assert event.error.model_dump() == {
        "type": "invalid_request_error",
        "code": "item_not_found",
        "message": "No.",
        "param": "item_id",
        "event_id": "mine_7",
    }


def test_a_logprob_spells_its_bytes() -> None:
    assert LogProb.of(" Ü", -0.5).bytes == (32, 195, 156)
