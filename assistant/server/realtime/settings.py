"""The session object: all that is in force, and how an update changes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from assistant.server.realtime.choices import (
    Audio,
    AudioFormat,
    AudioInput,
    AudioOutput,
    FunctionTool,
    Instructions,
    Modalities,
    Modality,
    NamedTool,
    NoParallelCalls,
    NoPrompt,
    NoReasoning,
    NoTracing,
    PcmaFormat,
    PcmFormat,
    PcmuFormat,
    RetentionRatio,
    SemanticVad,
    ServerVad,
    TokenLimit,
    ToolChoice,
    Tools,
    Transcription,
    Truncation,
    TurnDetection,
)
from assistant.server.realtime.wire import Many, Wire, WireError, checked

__all__ = [
    "Audio",
    "AudioFormat",
    "AudioInput",
    "AudioOutput",
    "FunctionTool",
    "Modality",
    "NamedTool",
    "Offer",
    "PcmFormat",
    "PcmaFormat",
    "PcmuFormat",
    "RetentionRatio",
    "SemanticVad",
    "ServerVad",
    "SessionSettings",
    "Transcription",
    "TurnDetection",
]

Kind = Literal["realtime", "transcription"]

# Voices of OpenAI's API: taken as "the voice of this server", so that programs need no change.
_FOREIGN_VOICES = frozenset(
    {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx"}
    | {"sage", "shimmer", "verse"}
)
_TRANSCRIPTION_KEYS = ("type", "object", "id", "audio", "include")


@dataclass(frozen=True)
class Offer:
    """What one server can give: its names for itself, and what may be chosen of it."""

    model: str
    #: The first is the default.
    voices: tuple[str, ...]
    instructions: str = ""
    #: Codes that the recogniser knows; none means any.
    languages: frozenset[str] = field(default_factory=frozenset)
    #: Names of the recogniser, its own first; none means any.
    recognisers: tuple[str, ...] = ()

    def knows_model(self, name: str) -> bool:
        """Whether a client that asks for this model means ours: OpenAI's names of its kind do."""
        kinds = ("realtime", "audio", "transcribe")
        foreign = name.startswith("gpt-") and any(kind in name for kind in kinds)
        return foreign or name == self.model or name in self.recognisers

    def voice(self, name: str) -> str | None:
        """Our voice of this name, or the default for one of OpenAI's; None for any other."""
        if name in self.voices:
            return name
        return self.voices[0] if name in _FOREIGN_VOICES else None


class SessionSettings(Wire):
    """All that is in force in a session; as JSON it is the ``session`` of the API."""

    type: Kind = "realtime"
    object: Literal["realtime.session", "realtime.transcription_session"] = "realtime.session"
    id: str
    model: str
    audio: Audio
    include: Many[Literal["item.input_audio_transcription.logprobs"]] = ()
    instructions: Instructions = ""
    output_modalities: Modalities = ("audio",)
    max_output_tokens: TokenLimit = "inf"
    tools: Tools = ()
    tool_choice: ToolChoice = "auto"
    truncation: Truncation = "auto"
    tracing: NoTracing = None
    prompt: NoPrompt = None
    reasoning: NoReasoning = Field(default=None, exclude=True)
    parallel_tool_calls: NoParallelCalls = Field(default=None, exclude=True)

    @classmethod
    def initial(cls, offer: Offer, session_id: str, kind: Kind = "realtime") -> "SessionSettings":
        """What holds before the first update."""
        if kind == "transcription":
            listening = AudioInput(transcription=Transcription())
            return cls(
                type=kind,
                object="realtime.transcription_session",
                id=session_id,
                model=offer.model,
                audio=Audio(input=listening),
            )
        audio = Audio(output=AudioOutput(voice=offer.voices[0]))
        return cls(id=session_id, model=offer.model, audio=audio, instructions=offer.instructions)

    @model_validator(mode="after")
    def _chosen_tool_exists(self) -> "SessionSettings":
        choice = self.tool_choice
        if isinstance(choice, NamedTool) and choice.name not in {tool.name for tool in self.tools}:
            raise PydanticCustomError(
                "refused", "the tool_choice '{name}' is not among the tools.", {"name": choice.name}
            )
        if choice == "required" and not self.tools:
            raise PydanticCustomError(
                "refused", "the tool_choice 'required' needs tools; give some."
            )
        return self

    @model_serializer(mode="wrap")
    def _as_json(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = whole(self)
        if self.type == "realtime":
            return data
        data["audio"].pop("output", None)
        return {key: data[key] for key in _TRANSCRIPTION_KEYS}

    def updated(
        self,
        update: Mapping[str, Any],
        offer: Offer,
        *,
        spoken: bool = False,
        started: bool = False,
    ) -> "SessionSettings":
        """These settings with the ``session`` of a ``session.update`` merged in.

        What is left out stays; an object is merged with the one of the same ``type`` before it.
        After the assistant has ``spoken`` its voice stays, and once a session has ``started`` to
        hear or answer, so does its type. Raises WireError and changes nothing.
        """
        kind = update.get("type")
        base = self
        if kind in ("realtime", "transcription") and kind != self.type:
            if started:
                raise WireError(
                    f"A {self.type} session that has begun cannot become a {kind} session; "
                    "open another one.",
                    param="session.type",
                )
            base = SessionSettings.initial(offer, self.id, kind)
        if "type" not in update:
            raise WireError(
                "Missing required parameter: 'session.type'. Add it.",
                "missing_required_parameter",
                "session.type",
            )
        self._refuse_fixed(update, kind)
        merged = _merged({"model": base.model, **base.model_dump()}, update)
        return base._settled(checked(_SETTINGS, merged, "session"), offer, spoken, "session")

    def for_response(
        self, overrides: Mapping[str, Any], offer: Offer, *, spoken: bool = False
    ) -> "SessionSettings":
        """What holds for one response: ``overrides`` has the fields that ``response.create`` set.

        Raises WireError, as ``updated`` does.
        """
        merged = _merged({"model": self.model, **self.model_dump()}, overrides)
        return self._settled(checked(_SETTINGS, merged, "response"), offer, spoken, "response")

    def _refuse_fixed(self, update: Mapping[str, Any], kind: Any) -> None:
        for key in ("id", "object"):
            if key in update and update[key] != getattr(self, key):
                raise WireError(
                    f"'session.{key}' cannot be changed. Leave it out.", param=f"session.{key}"
                )
        if kind == "transcription":
            extra = [key for key in update if key not in _TRANSCRIPTION_KEYS]
            audio = update.get("audio")
            if isinstance(audio, Mapping) and audio.get("output") is not None:
                extra.append("audio.output")
            if extra:
                raise WireError(
                    f"Unknown parameter: 'session.{extra[0]}'. A transcription session has only "
                    "audio.input and include.",
                    "unknown_parameter",
                    f"session.{extra[0]}",
                )

    def _settled(
        self, new: "SessionSettings", offer: Offer, spoken: bool, root: str
    ) -> "SessionSettings":
        """The new settings with our names in them, if this server can honour them."""
        if not offer.knows_model(new.model):
            raise WireError(
                f"This session's model is '{self.model}', got '{new.model[:60]}'; leave it out.",
                "model_not_found",
                f"{root}.model",
            )
        new = new.model_copy(update={"model": self.model})
        new = new._with_recogniser(offer, root)
        if new.audio.output is None:
            return new
        return new._with_voice(offer, self.audio.output if spoken else None, root)

    def _with_recogniser(self, offer: Offer, root: str) -> "SessionSettings":
        heard = self.audio.input.transcription
        if heard is None:
            return self
        where = f"{root}.audio.input.transcription"
        if heard.language and offer.languages and heard.language not in offer.languages:
            known = ", ".join(sorted(offer.languages)[:8])
            raise WireError(
                f"The recogniser does not know the language '{heard.language[:60]}'; it knows "
                f"{known}{', ...' if len(offer.languages) > 8 else ''}.",
                param=f"{where}.language",
            )
        if not offer.recognisers:
            return self
        if heard.model is not None and heard.model not in offer.recognisers:
            raise WireError(
                f"There is no recogniser '{heard.model[:60]}' here; use '{offer.recognisers[0]}', "
                "or leave it out.",
                "model_not_found",
                f"{where}.model",
            )
        heard = heard.model_copy(update={"model": offer.recognisers[0]})
        listening = self.audio.input.model_copy(update={"transcription": heard})
        return self.model_copy(update={"audio": self.audio.model_copy(update={"input": listening})})

    def _with_voice(self, offer: Offer, fixed: AudioOutput | None, root: str) -> "SessionSettings":
        output = self.audio.output
        assert output is not None
        voice = offer.voice(output.voice)
        param = f"{root}.audio.output.voice"
        if voice is None:
            raise WireError(
                f"There is no voice '{output.voice[:60]}' here; choose {', '.join(offer.voices)}.",
                param=param,
            )
        if fixed is not None and voice != fixed.voice:
            raise WireError(
                f"The voice cannot change after the assistant has spoken; it is '{fixed.voice}'.",
                "cannot_update_voice",
                param,
            )
        output = output.model_copy(update={"voice": voice})
        return self.model_copy(update={"audio": self.audio.model_copy(update={"output": output})})


_SETTINGS: TypeAdapter[SessionSettings] = TypeAdapter(SessionSettings)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old object with the new one's keys; objects within are merged if their type is one."""
    merged = dict(old)
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            same = value.get("type", before.get("type")) == before.get("type")
            merged[key] = _merged(before, value) if same else value
        else:
            merged[key] = value
    return merged
