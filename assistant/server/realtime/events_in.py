"""Every event that a client may send, and the parser that names what is wrong with any other."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError, from_json

from assistant.server.realtime.choices import (
    AudioFormat,
    Instructions,
    Modalities,
    NoParallelCalls,
    NoPrompt,
    NoReasoning,
    TokenLimit,
    ToolChoice,
    Tools,
    voice_name,
)
from assistant.server.realtime.items import DataUrl, Id, Item, ItemOrReference, MessageItem
from assistant.server.realtime.wire import Many, Wire, WireError, checked

__all__ = ["ClientEvent", "WireError", "parse"]

_EventId = Annotated[str, StringConstraints(max_length=512)]


class _Event(Wire):
    event_id: _EventId | None = None


class SessionUpdate(_Event):
    """Change settings; they are checked as a whole by ``SessionSettings.updated``."""

    type: Literal["session.update"] = "session.update"
    session: dict[str, Any]


class AudioAppend(_Event):
    """Base64 sound in the session's input format, of any length."""

    type: Literal["input_audio_buffer.append"] = "input_audio_buffer.append"
    audio: str


class AudioCommit(_Event):
    """What was appended is a turn of the user."""

    type: Literal["input_audio_buffer.commit"] = "input_audio_buffer.commit"


class AudioClear(_Event):
    """Forget what was appended."""

    type: Literal["input_audio_buffer.clear"] = "input_audio_buffer.clear"


class ItemCreate(_Event):
    """Put an item after another one: at the end if none is named, at the start for "root"."""

    type: Literal["conversation.item.create"] = "conversation.item.create"
    item: Item
    previous_item_id: Id | None = None

    @model_validator(mode="after")
    def _no_foreign_voice(self) -> "ItemCreate":
        if isinstance(self.item, MessageItem):
            for part in self.item.content:
                if part.type == "output_audio":
                    raise PydanticCustomError(
                        "refused",
                        "the assistant's sound cannot be set; send its words as 'output_text'.",
                    )
        return self


class ItemDelete(_Event):
    """Take an item out of the conversation."""

    type: Literal["conversation.item.delete"] = "conversation.item.delete"
    item_id: Id


class ItemRetrieve(_Event):
    """Send an item with its sound."""

    type: Literal["conversation.item.retrieve"] = "conversation.item.retrieve"
    item_id: Id


class ItemTruncate(_Event):
    """The user heard the assistant's message only up to ``audio_end_ms``."""

    type: Literal["conversation.item.truncate"] = "conversation.item.truncate"
    item_id: Id
    content_index: int = Field(ge=0)
    audio_end_ms: int = Field(ge=0)


class ResponseOutput(Wire):
    """How one response sounds."""

    format: AudioFormat | None = None
    voice: Annotated[str, voice_name] | None = None


class ResponseAudio(Wire):
    """The output half of a session's audio settings."""

    output: ResponseOutput | None = None


_Key = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class ResponseParams(Wire):
    """What one response does otherwise than the session says."""

    conversation: Literal["auto", "none"] = "auto"
    input: Many[ItemOrReference] | None = None
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = None
    instructions: Instructions | None = None
    output_modalities: Modalities | None = None
    max_output_tokens: TokenLimit | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    audio: ResponseAudio | None = None
    prompt: NoPrompt = None
    reasoning: NoReasoning = None
    parallel_tool_calls: NoParallelCalls = None

    def overrides(self) -> dict[str, Any]:
        """The session's fields that this sets, for ``SessionSettings.for_response``."""
        own = {"conversation", "input", "metadata"}
        return self.model_dump(exclude=own, exclude_unset=True, exclude_none=True)


class ResponseCreate(_Event):
    """Answer now."""

    type: Literal["response.create"] = "response.create"
    response: ResponseParams = ResponseParams()


class ResponseCancel(_Event):
    """Stop a response: the one of the conversation if none is named."""

    type: Literal["response.cancel"] = "response.cancel"
    response_id: Id | None = None


class PlaybackUpdate(_Event):
    """Extension: the client has played so much of an assistant's message, in ms."""

    type: Literal["voxsight.playback.update"] = "voxsight.playback.update"
    item_id: Id
    content_index: int = Field(default=0, ge=0)
    audio_played_ms: int = Field(ge=0)


class CameraFrame(_Event):
    """Extension: what the camera sees now; not an item, kept only if it shows something new."""

    type: Literal["voxsight.camera.frame"] = "voxsight.camera.frame"
    image: DataUrl


ClientEvent = (
    SessionUpdate
    | AudioAppend
    | AudioCommit
    | AudioClear
    | ItemCreate
    | ItemDelete
    | ItemRetrieve
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
    | PlaybackUpdate
    | CameraFrame
)

_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])
#: A value in memory takes many times its size as text: this bounds how many there are.
MAX_PARTS = 200_000
# The API has it for WebRTC and SIP, where the server holds the sound that was not heard yet.
_ELSEWHERE = {
    "output_audio_buffer.clear": "On a WebSocket the client holds the sound: stop playing it, then "
    "send 'response.cancel' and 'conversation.item.truncate'."
}


def parse(text: str | bytes) -> ClientEvent:
    """The event that a frame holds.

    Raises WireError for what is not JSON (or nested deeper than 200), not an event, or an event
    with a missing, unknown or impossible field; it carries the ``event_id`` if there was one.
    """
    if _parts(text) > MAX_PARTS:
        raise WireError(
            f"Expected at most {MAX_PARTS} values in one event, got too many; split it.",
            "too_complex",
        )
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise WireError(f"Expected one JSON object, but {error}.", "invalid_json") from None
    if not isinstance(data, dict):
        raise WireError(
            f"Expected one JSON object with a 'type', got {type(data).__name__}.", "invalid_json"
        )
    try:
        if isinstance(kind := data.get("type"), str) and kind in _ELSEWHERE:
            raise WireError(_ELSEWHERE[kind], "unsupported_event", "type")
        return checked(_EVENT, data)
    except WireError as error:
        own = data.get("event_id")
        error.event_id = own if isinstance(own, str) and len(own) <= 512 else None
        raise


def _parts(text: str | bytes) -> int:
    """At least the number of values in a JSON text; sound and pictures add nothing to it."""
    if isinstance(text, str):
        return text.count(",") + text.count("[") + text.count("{")
    return text.count(b",") + text.count(b"[") + text.count(b"{")
