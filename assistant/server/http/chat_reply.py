"""What `/v1/chat/completions` answers: whole, or in chunks; names and fields are OpenAI's."""

from typing import Literal

from assistant.server.http.wire import Reply
from assistant.writing import WritingEnded

Finish = Literal["stop", "length", "tool_calls"]


class CalledFunction(Reply):
    """A function's name and the JSON text of its arguments."""

    name: str
    arguments: str


class Call(Reply):
    """A function that the client is to call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class SpokenAnswer(Reply):
    """The sound of an answer, in base64; it is not kept, so it has expired when it is sent."""

    id: str
    data: str
    expires_at: int
    transcript: str


class AnswerMessage(Reply):
    """The answer: `content`, or what is spoken in `audio`, or `tool_calls`."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    tool_calls: tuple[Call, ...] | None = None
    audio: SpokenAnswer | None = None


class Choice(Reply):
    """The one answer."""

    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Finish


class PromptDetails(Reply):
    """Tokens of the prompt that were known from before."""

    cached_tokens: int


class Usage(Reply):
    """Tokens read and written; speech is read as words."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails

    @classmethod
    def of(cls, ended: WritingEnded) -> "Usage":
        """As the writer counted."""
        return cls(
            prompt_tokens=ended.prompt_tokens,
            completion_tokens=ended.completion_tokens,
            total_tokens=ended.prompt_tokens + ended.completion_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=ended.cached_tokens),
        )


class ChatCompletion(Reply):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage


class FunctionDelta(Reply):
    """A function's name at first, then more of its arguments."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(Reply):
    """More of the call with this index."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class SoundDelta(Reply):
    """More of a spoken answer: of its transcript or its sound; at the end, when it expired."""

    id: str
    transcript: str | None = None
    data: str | None = None
    expires_at: int | None = None


class Delta(Reply):
    """More of the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: tuple[CallDelta, ...] | None = None
    audio: SoundDelta | None = None


class ChunkChoice(Reply):
    """More of the one answer."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: Finish | None


class ChatChunk(Reply):
    """A part of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None
