"""Every event that the server sends; each has its ``event_id`` from the moment it is made."""

from typing import Literal

from assistant.server.realtime.extensions import FrameSeen, OutputWords, Tentative
from assistant.server.realtime.items import Item
from assistant.server.realtime.payloads import (
    Conversation,
    DurationUsage,
    ErrorDetails,
    LogProb,
    Part,
    RateLimit,
    Response,
    TranscriptionError,
)
from assistant.server.realtime.settings import SessionSettings
from assistant.server.realtime.wire import Event, Many, WireError


class ErrorEvent(Event):
    """A client event was refused, or something failed here; the session goes on."""

    type: Literal["error"] = "error"
    error: ErrorDetails

    @classmethod
    def of(cls, error: WireError) -> "ErrorEvent":
        """The event for a refused client event."""
        return cls(
            error=ErrorDetails(
                type=error.type,
                code=error.code,
                message=error.message,
                param=error.param,
                event_id=error.event_id,
            )
        )


class SessionCreated(Event):
    """The first event of every session."""

    type: Literal["session.created"] = "session.created"
    session: SessionSettings


class SessionUpdated(Event):
    """What is in force after a ``session.update``."""

    type: Literal["session.updated"] = "session.updated"
    session: SessionSettings


class ConversationCreated(Event):
    """Sent after ``session.created``."""

    type: Literal["conversation.created"] = "conversation.created"
    conversation: Conversation


# Items


class ItemAdded(Event):
    """An item stands in the conversation; it may still be in progress."""

    type: Literal["conversation.item.added"] = "conversation.item.added"
    previous_item_id: str | None
    item: Item


class ItemDone(Event):
    """An item is final."""

    type: Literal["conversation.item.done"] = "conversation.item.done"
    previous_item_id: str | None
    item: Item


class ItemDeleted(Event):
    """An item is gone."""

    type: Literal["conversation.item.deleted"] = "conversation.item.deleted"
    item_id: str


class ItemRetrieved(Event):
    """An item with its sound."""

    type: Literal["conversation.item.retrieved"] = "conversation.item.retrieved"
    item: Item


class ItemTruncated(Event):
    """Sound and words after ``audio_end_ms`` are gone from the assistant's message."""

    type: Literal["conversation.item.truncated"] = "conversation.item.truncated"
    item_id: str
    content_index: int
    audio_end_ms: int


# What the user said


class TranscriptionDelta(Event):
    """More words of the user's turn, final as far as they go."""

    type: Literal["conversation.item.input_audio_transcription.delta"] = (
        "conversation.item.input_audio_transcription.delta"
    )
    item_id: str
    content_index: int = 0
    delta: str
    logprobs: Many[LogProb] | None = None


class TranscriptionCompleted(Event):
    """All words of the user's turn."""

    type: Literal["conversation.item.input_audio_transcription.completed"] = (
        "conversation.item.input_audio_transcription.completed"
    )
    item_id: str
    content_index: int = 0
    transcript: str
    usage: DurationUsage
    logprobs: Many[LogProb] | None = None


class TranscriptionFailed(Event):
    """The user's turn could not be recognised; the session goes on."""

    type: Literal["conversation.item.input_audio_transcription.failed"] = (
        "conversation.item.input_audio_transcription.failed"
    )
    item_id: str
    content_index: int = 0
    error: TranscriptionError


class AudioCommitted(Event):
    """What was appended became an item."""

    type: Literal["input_audio_buffer.committed"] = "input_audio_buffer.committed"
    previous_item_id: str | None
    item_id: str


class AudioCleared(Event):
    """What was appended is forgotten."""

    type: Literal["input_audio_buffer.cleared"] = "input_audio_buffer.cleared"


class SpeechStarted(Event):
    """Times in ms of all sound that was appended in this session, here and below."""

    type: Literal["input_audio_buffer.speech_started"] = "input_audio_buffer.speech_started"
    audio_start_ms: int
    item_id: str


class SpeechStopped(Event):
    """The turn is over; the item with this id follows."""

    type: Literal["input_audio_buffer.speech_stopped"] = "input_audio_buffer.speech_stopped"
    audio_end_ms: int
    item_id: str


class TimeoutTriggered(Event):
    """Nobody spoke for ``idle_timeout_ms``: the assistant speaks unasked."""

    type: Literal["input_audio_buffer.timeout_triggered"] = "input_audio_buffer.timeout_triggered"
    audio_start_ms: int
    audio_end_ms: int
    item_id: str


# Responses


class ResponseCreated(Event):
    """The first event of a response."""

    type: Literal["response.created"] = "response.created"
    response: Response


class ResponseDone(Event):
    """The last event of a response, however it ended."""

    type: Literal["response.done"] = "response.done"
    response: Response


class OutputItemAdded(Event):
    """The response begins an item."""

    type: Literal["response.output_item.added"] = "response.output_item.added"
    response_id: str
    output_index: int
    item: Item


class OutputItemDone(Event):
    """An item of the response is final."""

    type: Literal["response.output_item.done"] = "response.output_item.done"
    response_id: str
    output_index: int
    item: Item


class _Content(Event):
    response_id: str
    item_id: str
    output_index: int
    content_index: int


class ContentPartAdded(_Content):
    """An item of the response begins a part."""

    type: Literal["response.content_part.added"] = "response.content_part.added"
    part: Part


class ContentPartDone(_Content):
    """A part is final."""

    type: Literal["response.content_part.done"] = "response.content_part.done"
    part: Part


class TextDelta(_Content):
    """More written words."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str


class TextDone(_Content):
    """All written words."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str


class AudioDelta(_Content):
    """More sound, base64 in the response's output format."""

    type: Literal["response.output_audio.delta"] = "response.output_audio.delta"
    delta: str


class AudioDone(_Content):
    """No more sound in this part."""

    type: Literal["response.output_audio.done"] = "response.output_audio.done"


class TranscriptDelta(_Content):
    """More words of a spoken answer, as they are written: ahead of the sound that says them."""

    type: Literal["response.output_audio_transcript.delta"] = (
        "response.output_audio_transcript.delta"
    )
    delta: str


class TranscriptDone(_Content):
    """All spoken words."""

    type: Literal["response.output_audio_transcript.done"] = "response.output_audio_transcript.done"
    transcript: str


class _Call(Event):
    response_id: str
    item_id: str
    output_index: int
    call_id: str


class ArgumentsDelta(_Call):
    """More of a function call's JSON."""

    type: Literal["response.function_call_arguments.delta"] = (
        "response.function_call_arguments.delta"
    )
    delta: str


class ArgumentsDone(_Call):
    """All of a function call's JSON."""

    type: Literal["response.function_call_arguments.done"] = "response.function_call_arguments.done"
    name: str
    arguments: str


class RateLimitsUpdated(Event):
    """Sent as a response begins, if this caller has limits."""

    type: Literal["rate_limits.updated"] = "rate_limits.updated"
    rate_limits: Many[RateLimit]


ServerEvent = (
    ErrorEvent
    | SessionCreated
    | SessionUpdated
    | ConversationCreated
    | ItemAdded
    | ItemDone
    | ItemDeleted
    | ItemRetrieved
    | ItemTruncated
    | TranscriptionDelta
    | TranscriptionCompleted
    | TranscriptionFailed
    | AudioCommitted
    | AudioCleared
    | SpeechStarted
    | SpeechStopped
    | TimeoutTriggered
    | ResponseCreated
    | ResponseDone
    | OutputItemAdded
    | OutputItemDone
    | ContentPartAdded
    | ContentPartDone
    | TextDelta
    | TextDone
    | AudioDelta
    | AudioDone
    | TranscriptDelta
    | TranscriptDone
    | ArgumentsDelta
    | ArgumentsDone
    | RateLimitsUpdated
    | FrameSeen
    | Tentative
    | OutputWords
)


def to_json(event: ServerEvent) -> str:
    """The text of the frame."""
    return event.model_dump_json()
