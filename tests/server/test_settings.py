"""What a session's settings become with an update, and which updates are refused."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.realtime import (
    RealtimeSessionCreateRequest,
    RealtimeTranscriptionSessionCreateRequest,
)
from pydantic import TypeAdapter

from assistant.server.realtime.choices import (
    PcmaFormat,
    PcmFormat,
    PcmuFormat,
    SemanticVad,
    ServerVad,
)
from assistant.server.realtime.settings import Offer, SessionSettings
from assistant.server.realtime.wire import WireError
from tests.server import wire_strategies

OFFER = Offer("vox", ("joe", "amy"), "Be kind.", frozenset({"en", "de"}), ("ear", "whisper-1"))
FIRST = SessionSettings.initial(OFFER, "sess_1")


def update(before: SessionSettings = FIRST, *, _flags: Any = None, **session: Any) -> Any:
    return before.updated({"type": "realtime"} | session, OFFER, **(_flags or {}))


def heard(**listening: Any) -> dict[str, Any]:
    return {"input": listening}


def test_a_session_begins_as_the_api_says() -> None:
    assert FIRST.instructions == "Be kind."
    assert FIRST.output_modalities == ("audio",)
    assert FIRST.audio.input.format == PcmFormat()
    vad = FIRST.audio.input.turn_detection
    assert vad == ServerVad(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500)
    assert FIRST.audio.output is not None
    assert FIRST.audio.output.voice == "joe"
    assert FIRST.max_output_tokens == "inf"


def test_only_what_is_given_changes() -> None:
    new = update(instructions="Rhyme.", audio=heard(turn_detection={"threshold": 0.7}))
    assert new.instructions == "Rhyme."
    assert new.audio.input.turn_detection == ServerVad(threshold=0.7)
    assert new.audio.output == FIRST.audio.output
    again = update(new, audio=heard(turn_detection={"type": "server_vad", "prefix_padding_ms": 0}))
    assert again.audio.input.turn_detection == ServerVad(threshold=0.7, prefix_padding_ms=0)


def test_another_type_begins_with_its_own_defaults() -> None:
    new = update(audio=heard(turn_detection={"type": "semantic_vad"}))
    assert new.audio.input.turn_detection == SemanticVad(type="semantic_vad", eagerness="auto")
    assert update(audio=heard(turn_detection=None)).audio.input.turn_detection is None
    new = update(audio=heard(format={"type": "audio/pcmu"}))
    assert new.audio.input.format == PcmuFormat(type="audio/pcmu")
    new = update(new, audio={"output": {"format": {"type": "audio/pcma"}, "speed": 1}})
    assert new.audio.output.format == PcmaFormat(type="audio/pcma")
    assert update(new, audio=heard(format={"type": "audio/pcm"})).audio.input.format == PcmFormat()


def test_an_update_with_what_holds_changes_nothing() -> None:
    assert FIRST.updated(FIRST.model_dump(mode="json"), OFFER, spoken=True, started=True) == FIRST


def test_foreign_names_mean_what_there_is() -> None:
    new = update(model="gpt-realtime", audio={"output": {"voice": "alloy"}})
    assert new == FIRST
    assert update(audio={"output": {"voice": {"id": "amy"}}}).audio.output.voice == "amy"


def test_the_recogniser_is_called_by_its_own_name() -> None:
    for name in ("ear", "whisper-1", None):
        new = update(audio=heard(transcription={"model": name}))
        assert new.audio.input.transcription.model == "ear"


def test_the_voice_stays_once_it_was_heard() -> None:
    other = {"output": {"voice": "amy"}}
    assert update(audio=other).audio.output.voice == "amy"
    with pytest.raises(WireError, match="cannot change") as caught:
        update(audio=other, _flags={"spoken": True})
    assert caught.value.code == "cannot_update_voice"
    assert update(audio={"output": {"voice": "marin"}}, _flags={"spoken": True}) == FIRST


def test_a_session_becomes_one_of_transcription_before_it_begins() -> None:
    new = update(type="transcription", audio=heard(transcription={"language": "de"}))
    assert new.type == "transcription"
    assert new.audio.output is None
    assert new.audio.input.transcription.language == "de"
    assert set(new.model_dump()) == {"type", "object", "id", "audio", "include"}
    assert "output" not in new.model_dump()["audio"]
    with pytest.raises(WireError, match="cannot become") as caught:
        update(type="transcription", _flags={"started": True})
    assert caught.value.param == "session.type"


def test_a_transcription_session_keeps_to_itself() -> None:
    first = SessionSettings.initial(OFFER, "sess_2", "transcription")
    include = ["item.input_audio_transcription.logprobs"]
    new = first.updated({"type": "transcription", "include": include}, OFFER)
    assert new.include == tuple(include)
    assert new.model == "vox"
    for extra in ({"instructions": "Hi"}, {"audio": {"output": {"voice": "joe"}}}):
        with pytest.raises(WireError, match="has only") as caught:
            first.updated({"type": "transcription", **extra}, OFFER)
        assert caught.value.code == "unknown_parameter"


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"foo": 1}, "unknown_parameter", "session.foo", "Unknown parameter"),
    ({"type": "chat"}, "invalid_value", "session.type", "'realtime'"),
    ({"id": "sess_9"}, "invalid_value", "session.id", "cannot be changed"),
    ({"model": "llama"}, "model_not_found", "session.model", "is 'vox'"),
    ({"instructions": None}, "invalid_type", "session.instructions", "a string, got None"),
    ({"instructions": "x" * 100_001}, "invalid_value", "session.instructions", "100000"),
    ({"output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities", "or"),
    ({"output_modalities": []}, "invalid_value", "session.output_modalities", "expected"),
    ({"max_output_tokens": 0}, "invalid_value", "session.max_output_tokens", "1 to 4096"),
    ({"max_output_tokens": True}, "invalid_value", "session.max_output_tokens", "1 to 4096"),
    ({"tools": [{"type": "mcp"}]}, "invalid_value", "session.tools.0.type", "'function'"),
    ({"tools": [{"name": "a b"}]}, "invalid_value", "session.tools.0.name", "pattern"),
    ({"tools": [{"name": "a"}] * 2}, "invalid_value", "session.tools", "name of its own"),
    (
        {"tools": [{"name": f"t{n}"} for n in range(129)]},
        "invalid_value",
        "session.tools",
        "at most 128",
    ),
    (
        {"tools": [{"name": "a", "parameters": {"x": "y" * 70_000}}]},
        "invalid_value",
        "session.tools.0.parameters",
        "65536",
    ),
    ({"tool_choice": "maybe"}, "invalid_value", "session.tool_choice", "'required'"),
    (
        {"tool_choice": {"type": "function", "name": "f"}},
        "invalid_value",
        "session",
        "'f' is not among the tools",
    ),
    ({"tool_choice": "required"}, "invalid_value", "session", "'required' needs tools"),
    ({"truncation": "never"}, "invalid_value", "session.truncation", "retention_ratio"),
    ({"tracing": "auto"}, "invalid_value", "session.tracing", "OpenTelemetry"),
    ({"prompt": {"id": "p"}}, "invalid_value", "session.prompt", "send 'instructions'"),
    ({"reasoning": {"effort": "low"}}, "invalid_value", "session.reasoning", "leave it out"),
    ({"parallel_tool_calls": True}, "invalid_value", "session.parallel_tool_calls", "leave it"),
    ({"audio": 7}, "invalid_type", "session.audio", "a JSON object, got 7"),
    (
        {"audio": heard(format={"type": "audio/pcm", "rate": 16000})},
        "invalid_value",
        "session.audio.input.format.rate",
        "24000, got 16000",
    ),
    (
        {"audio": heard(noise_reduction={"type": "near_field"})},
        "invalid_value",
        "session.audio.input.noise_reduction",
        "does not filter noise",
    ),
    (
        {"audio": heard(turn_detection={"type": "none"})},
        "invalid_value",
        "session.audio.input.turn_detection.type",
        "'semantic_vad'",
    ),
    (
        {"audio": heard(turn_detection={"threshold": 1})},
        "invalid_value",
        "session.audio.input.turn_detection.threshold",
        "less than 1",
    ),
    (
        {"audio": heard(transcription={"language": "xx"})},
        "invalid_value",
        "session.audio.input.transcription.language",
        "it knows de, en",
    ),
    (
        {"audio": heard(transcription={"model": "whisper-large-v3"})},
        "model_not_found",
        "session.audio.input.transcription.model",
        "use 'ear'",
    ),
    (
        {"audio": heard(transcription={"delay": "low"})},
        "invalid_value",
        "session.audio.input.transcription.delay",
        "leave it out",
    ),
    (
        {"audio": {"output": {"voice": "nobody"}}},
        "invalid_value",
        "session.audio.output.voice",
        "choose joe, amy",
    ),
    ({"audio": {"output": {"speed": 9}}}, "invalid_value", "session.audio.output.speed", "1.5"),
]


@pytest.mark.parametrize(("session", "code", "param", "words"), REFUSED)
def test_a_refusal_names_the_field(
    session: dict[str, Any], code: str, param: str, words: str
) -> None:
    with pytest.raises(WireError) as caught:
        update(**session)
    error = caught.value
    assert (error.code, error.param) == (code, param)
    assert words in error.message and error.message.endswith(".")


def test_the_type_must_be_said() -> None:
    with pytest.raises(WireError, match=r"Missing required parameter: 'session.type'"):
        FIRST.updated({"instructions": "Hi"}, OFFER)


SESSIONS = (RealtimeSessionCreateRequest, RealtimeTranscriptionSessionCreateRequest)


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.sampled_from(SESSIONS).flatmap(wire_strategies.model))
def test_whatever_the_sdk_can_ask_holds_or_is_refused(session: dict[str, Any]) -> None:
    try:
        new = FIRST.updated(session, OFFER)
    except WireError as error:
        assert (error.param or "").startswith("session")
        return
    sent = new.model_dump_json()
    kind = SESSIONS[session["type"] == "transcription"]
    TypeAdapter(kind).validate_json(sent, strict=True)
    assert new.updated(new.model_dump(mode="json"), OFFER) == new
