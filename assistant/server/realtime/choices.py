"""What a client may choose in a session: formats, turn detection, tools and limits."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError, to_json

from assistant.server.realtime.wire import Many, Wire

MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 65_536  # of one tool's parameters
MAX_INSTRUCTIONS = 100_000  # characters


def _refused(message: str) -> BeforeValidator:
    """A field that only takes null: anything else is refused with this sentence."""

    def check(value: object) -> None:
        if value is not None:
            raise PydanticCustomError("refused", "{reason}", {"reason": message})

    return BeforeValidator(check)


class PcmFormat(Wire):
    """Signed 16-bit little-endian samples at 24 kHz."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


class PcmuFormat(Wire):
    """G.711 μ-law at 8 kHz."""

    type: Literal["audio/pcmu"]


class PcmaFormat(Wire):
    """G.711 A-law at 8 kHz."""

    type: Literal["audio/pcma"]


AudioFormat = Annotated[PcmFormat | PcmuFormat | PcmaFormat, Field(discriminator="type")]


NoDelay = Annotated[None, _refused("words are sent as soon as they are sure; leave it out.")]
NoKeywords = Annotated[None, _refused("name the words in 'prompt' instead.")]
NoLanguages = Annotated[None, _refused("give one 'language', or none to detect it.")]


class Transcription(Wire):
    """Tell the client what was understood of the user's speech; the words are the model's input."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = Field(default=None, max_length=2000)
    delay: NoDelay = Field(default=None, exclude=True)
    keywords: NoKeywords = Field(default=None, exclude=True)
    languages: NoLanguages = Field(default=None, exclude=True)


class ServerVad(Wire):
    """A turn ends after so much silence; times in ms."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=0.5, gt=0, lt=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=5000)
    silence_duration_ms: int = Field(default=500, ge=100, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True
    #: Silence after the last answer was heard, then the assistant speaks unasked; null is never.
    idle_timeout_ms: int | None = Field(default=None, ge=1000, le=600_000)


class SemanticVad(Wire):
    """A turn ends when its words sound finished; less eager waits longer."""

    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]

NoNoiseReduction = Annotated[None, _refused("this server does not filter noise; send null.")]


class AudioInput(Wire):
    """How the user is heard. Without turn detection the client commits and asks by itself."""

    format: AudioFormat = PcmFormat()
    transcription: Transcription | None = None
    noise_reduction: NoNoiseReduction = None
    turn_detection: TurnDetection | None = ServerVad()


def _named_voice(value: object) -> object:
    # The API also takes the id of a voice that a customer made.
    return value["id"] if isinstance(value, Mapping) and set(value) == {"id"} else value


voice_name = BeforeValidator(_named_voice)


class AudioOutput(Wire):
    """How the assistant speaks; speed 1 is the voice's own."""

    format: AudioFormat = PcmFormat()
    voice: Annotated[str, voice_name]
    speed: float = Field(default=1.0, ge=0.25, le=1.5)


class Audio(Wire):
    """Both directions; a transcription session has no output."""

    input: AudioInput = AudioInput()
    output: AudioOutput | None = None


def _small(schema: dict[str, Any]) -> dict[str, Any]:
    if len(to_json(schema)) > MAX_SCHEMA_BYTES:
        raise PydanticCustomError(
            "refused", "expected a schema of at most {n} bytes.", {"n": MAX_SCHEMA_BYTES}
        )
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_small)]


class FunctionTool(Wire):
    """A function that the assistant may ask for; ``parameters`` is a JSON schema of an object."""

    type: Literal["function"] = "function"
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = Field(default="", max_length=10_000)
    parameters: Schema = Field(default_factory=lambda: {"type": "object", "properties": {}})


def _distinct(tools: tuple[FunctionTool, ...]) -> tuple[FunctionTool, ...]:
    if len(tools) > MAX_TOOLS:
        raise PydanticCustomError("refused", "expected at most {n} tools.", {"n": MAX_TOOLS})
    if len({tool.name for tool in tools}) < len(tools):
        raise PydanticCustomError("refused", "every tool needs a name of its own.")
    return tools


Tools = Annotated[Many[FunctionTool], AfterValidator(_distinct)]


class NamedTool(Wire):
    """Call this function, whatever was asked."""

    type: Literal["function"] = "function"
    name: str


def _choice(value: object) -> object:
    if isinstance(value, Mapping | NamedTool) or value in ("auto", "none", "required"):
        return value
    raise PydanticCustomError(
        "refused",
        "expected 'auto', 'none', 'required' or an object of the type 'function' with a name.",
    )


ToolChoice = Annotated[Literal["auto", "none", "required"] | NamedTool, BeforeValidator(_choice)]


def _token_limit(value: object) -> object:
    if value == "inf" or (type(value) is int and 1 <= value <= 4096):
        return value
    raise PydanticCustomError("refused", "expected a whole number from 1 to 4096, or 'inf'.")


TokenLimit = Annotated[int | Literal["inf"], BeforeValidator(_token_limit)]
Modality = Literal["text", "audio"]


def _one_modality(value: tuple[Modality, ...]) -> tuple[Modality, ...]:
    if len(value) != 1:
        raise PydanticCustomError(
            "refused", "expected ['audio'] or ['text']; spoken answers bring their transcript."
        )
    return value


Modalities = Annotated[Many[Modality], AfterValidator(_one_modality)]


NoTokenLimits = Annotated[None, _refused("the model's own limit holds; leave it out.")]


class RetentionRatio(Wire):
    """When the conversation is too long, keep this share of the room it may take."""

    type: Literal["retention_ratio"]
    retention_ratio: float = Field(ge=0.0, le=1.0)
    token_limits: NoTokenLimits = Field(default=None, exclude=True)


def _truncation(value: object) -> object:
    if isinstance(value, Mapping | RetentionRatio) or value in ("auto", "disabled"):
        return value
    raise PydanticCustomError(
        "refused", "expected 'auto', 'disabled' or an object of the type 'retention_ratio'."
    )


Truncation = Annotated[Literal["auto", "disabled"] | RetentionRatio, BeforeValidator(_truncation)]
NoPrompt = Annotated[None, _refused("this server stores no prompts; send 'instructions'.")]
NoReasoning = Annotated[None, _refused("this model does not reason in steps; leave it out.")]
NoParallelCalls = Annotated[
    None, _refused("whether calls come together cannot be chosen; leave it out.")
]
NoTracing = Annotated[
    None,
    _refused("there is no trace dashboard here; send null (spans go to OpenTelemetry if set up)."),
]
Instructions = Annotated[str, StringConstraints(max_length=MAX_INSTRUCTIONS)]
