"""What a client sends to `/v1/chat/completions`; names and fields are OpenAI's."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from assistant.server.http.speech import VoiceId
from assistant.server.http.wire import Options, Strict

MAX_STOPS, MAX_TOOLS = 4, 128
#: Options that change nothing about an answer of this server.
HARMLESS = (
    *("user", "metadata", "safety_identifier", "service_tier"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
)
#: Values of options that are not supported, which ask for nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "store": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "reasoning_effort": ("none",),
}


class TextPart(Strict):
    """Words."""

    type: Literal["text"]
    text: str


class RefusalPart(Strict):
    """What the assistant said when it refused."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Strict):
    """Where a picture is."""

    url: str = Field(description="A data URL: data:image/png;base64,...")
    detail: Literal["auto", "low", "high", "original"] = Field(
        "auto", description="Taken and not needed: every picture is seen in the same detail."
    )


class ImagePart(Strict):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Strict):
    """A recording in base64; its content tells its format, `format` does not."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Strict):
    """Speech, which is recognised; the language model reads its words."""

    type: Literal["input_audio"]
    input_audio: InputAudio


def _parts() -> BeforeValidator:
    """Text alone stands for one part with it."""
    return BeforeValidator(lambda v: [{"type": "text", "text": v}] if isinstance(v, str) else v)


Texts = Annotated[tuple[TextPart, ...], _parts()]
_Shown = Annotated[TextPart | ImagePart | AudioPart, Field(discriminator="type")]
_Said = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class SystemMessage(Strict):
    """How the assistant should behave."""

    role: Literal["system", "developer"]
    content: Texts
    name: str | None = None


class UserMessage(Strict):
    """What the user says and shows."""

    role: Literal["user"]
    content: Annotated[tuple[_Shown, ...], _parts()] = Field(min_length=1)
    name: str | None = None


class CalledFunction(Strict):
    """A function's name and the JSON text of its arguments."""

    name: str
    arguments: str


class AssistantCall(Strict):
    """A call that the assistant made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Strict):
    """What the assistant said or called; as a response gave it, it can be sent back."""

    role: Literal["assistant"]
    content: Annotated[tuple[_Said, ...] | None, _parts()] = None
    refusal: str | None = None
    tool_calls: tuple[AssistantCall, ...] | None = None
    name: str | None = None
    audio: dict[str, Any] | None = Field(
        None, description="Taken if it has a transcript; sound is not kept by its id."
    )
    annotations: tuple[()] | None = None
    function_call: None = None


class ToolMessage(Strict):
    """What a function returned."""

    role: Literal["tool"]
    content: Texts
    tool_call_id: str


def _role(value: Any) -> str | None:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    return "system" if role == "developer" else role if isinstance(role, str) else None


ChatMessage = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[ToolMessage, Tag("tool")],
    Discriminator(_role),
]


class FunctionDefinition(Strict):
    """A function; calls keep to `parameters`, whatever `strict` says."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    """A tool that is a function."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Strict):
    """A function by its name."""

    name: str


class NamedChoice(Strict):
    """This function must be called."""

    type: Literal["function"]
    function: FunctionName


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Strict):
    """A JSON schema; an answer keeps to it, whatever `strict` says."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class AudioOutput(Strict):
    """How a spoken answer sounds."""

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]
    voice: str | VoiceId


class StreamOptions(Strict):
    """What a stream holds."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Stops = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=MAX_STOPS)]


class ChatRequest(Options):
    """A conversation and how its next message should be."""

    model: str = Field(description="The language model's name, or gpt-4o.")
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0.0, le=2.0, description="0, the default: greedy.")
    top_p: float | None = Field(None, ge=0.0, le=1.0)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Annotated[_Stops | None, BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = (
        None
    )
    response_format: ResponseFormat | None = None
    tools: tuple[FunctionTool, ...] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: tuple[Literal["text", "audio"], ...] | None = None
    audio: AudioOutput | None = None

    @property
    def spoken(self) -> bool:
        """Whether the answer should be spoken."""
        return "audio" in (self.modalities or ())
