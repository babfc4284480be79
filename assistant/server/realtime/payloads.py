"""What server events carry: errors, transcripts' numbers, responses, usage and parts."""

from typing import Annotated, Literal

from pydantic import Field

from assistant.server.realtime.choices import AudioFormat, Modality, TokenLimit
from assistant.server.realtime.items import Item
from assistant.server.realtime.wire import Many, Wire, new_id


class ErrorDetails(Wire):
    """What was wrong, and with which event."""

    type: str = "invalid_request_error"
    code: str | None = None
    message: str
    param: str | None = None
    event_id: str | None = None


class Conversation(Wire):
    """The one conversation of a session."""

    id: str
    object: Literal["realtime.conversation"] = "realtime.conversation"


class LogProb(Wire):
    """How sure the recogniser is of one word: the logarithm of its probability."""

    token: str
    bytes: Many[int]
    logprob: float

    @classmethod
    def of(cls, token: str, logprob: float) -> "LogProb":
        """With the token's UTF-8 bytes."""
        return cls(token=token, bytes=tuple(token.encode()), logprob=logprob)


class DurationUsage(Wire):
    """How much sound was recognised."""

    type: Literal["duration"] = "duration"
    seconds: float


class TranscriptionError(Wire):
    """Why there is no transcript."""

    type: str = "server_error"
    code: str | None = None
    message: str
    param: str | None = None


class StatusError(Wire):
    """Why a response failed."""

    type: str = "server_error"
    code: str | None = None
    message: str | None = None


class StatusDetails(Wire):
    """How a response ended, if not by itself."""

    type: Literal["completed", "cancelled", "incomplete", "failed"]
    reason: (
        Literal["turn_detected", "client_cancelled", "max_output_tokens", "content_filter"] | None
    ) = None
    error: StatusError | None = None


class CachedTokens(Wire):
    """Tokens of the input that were known from before, by kind."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0


class InputTokens(Wire):
    """What the model read. It reads speech as words, so ``audio_tokens`` counts those words'."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0
    cached_tokens_details: CachedTokens | None = None


class OutputTokens(Wire):
    """What the model wrote."""

    text_tokens: int = 0
    audio_tokens: int = 0


class Usage(Wire):
    """Tokens of one response."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_token_details: InputTokens = InputTokens()
    output_token_details: OutputTokens = OutputTokens()


class ResponseVoice(Wire):
    """How a response sounds."""

    format: AudioFormat
    voice: str


class ResponseSound(Wire):
    """The ``audio`` of a response."""

    output: ResponseVoice


class Response(Wire):
    """One answer, as it is now. ``conversation_id`` is null outside the conversation."""

    id: str = Field(default_factory=lambda: new_id("resp"))
    object: Literal["realtime.response"] = "realtime.response"
    status: Literal["completed", "cancelled", "failed", "incomplete", "in_progress"] = "in_progress"
    status_details: StatusDetails | None = None
    output: Many[Item] = ()
    conversation_id: str | None = None
    output_modalities: Many[Modality] = ("audio",)
    max_output_tokens: TokenLimit = "inf"
    audio: ResponseSound | None = None
    usage: Usage | None = None
    metadata: dict[str, str] | None = None


class TextPart(Wire):
    """A part of written words."""

    type: Literal["text"] = "text"
    text: str = ""


class AudioPart(Wire):
    """A part of spoken words; the sound comes in its own events."""

    type: Literal["audio"] = "audio"
    transcript: str = ""


class RateLimit(Wire):
    """How much of one kind is left, and when it is whole again."""

    name: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_seconds: float


class Sighting(Wire):
    """One thing that the encoder believes to see, with a probability of 0..1."""

    name: str
    probability: float


Part = Annotated[TextPart | AudioPart, Field(discriminator="type")]
