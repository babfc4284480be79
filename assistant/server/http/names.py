"""What the models are called: by their own names, and by those that clients of OpenAI's send."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from assistant.config import Settings
from assistant.server.errors import ApiError


class Role(StrEnum):
    """What a model is for."""

    RECOGNISER = "recogniser"
    VOICE = "voice"
    LANGUAGE_MODEL = "language model"


#: Names of OpenAI's models that are taken for the one that is served, so that a client need not be
#: changed. Any other name is refused: who asks for a certain model should not get another.
ALIASES: Mapping[Role, tuple[str, ...]] = {
    Role.RECOGNISER: (
        *("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"),
    ),
    Role.VOICE: ("tts-1", "tts-1-hd", "gpt-4o-mini-tts"),
    Role.LANGUAGE_MODEL: (
        *("gpt-4o", "gpt-4o-mini", "gpt-4o-audio-preview", "gpt-4o-mini-audio-preview"),
        *("gpt-audio", "gpt-audio-mini"),
    ),
}
#: Voices of OpenAI's that are taken for the one that is served.
VOICE_ALIASES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)


@dataclass(frozen=True)
class Served:
    """A model that is served."""

    id: str
    role: Role


def served(settings: Settings) -> tuple[Served, ...]:
    """The models that a client may name."""
    return (
        Served(_own(settings.recogniser), Role.RECOGNISER),
        Served(_own(settings.voice), Role.VOICE),
        Served(_own(settings.language_model), Role.LANGUAGE_MODEL),
    )


def find_model(name: str, settings: Settings) -> Served:
    """The model of that name or alias; ApiError 404 with the known ones."""
    known = served(settings)
    for model in known:
        if name == model.id or name in ALIASES[model.role]:
            return model
    raise ApiError(
        404,
        f"There is no model '{name[:100]}' here; this server has "
        f"{', '.join(f'{model.id} ({model.role})' for model in known)}.",
        code="model_not_found",
        param="model",
    )


def require_model(name: str, role: Role, settings: Settings) -> str:
    """The name of the served model for `role`; ApiError 404 if `name` is not one, or another's."""
    model = find_model(name, settings)
    if model.role is not role:
        wanted = next(it.id for it in served(settings) if it.role is role)
        raise ApiError(
            404,
            f"The model '{model.id}' is a {model.role}, but this needs a {role}; use '{wanted}'.",
            code="model_not_found",
            param="model",
        )
    return model.id


def require_voice(name: str, settings: Settings) -> None:
    """Refuses a voice that is not here; ApiError 400."""
    own = _own(settings.voice)
    if name not in (own, *VOICE_ALIASES):
        raise ApiError(
            400,
            f"There is no voice '{name[:100]}' here; use '{own}', or one of OpenAI's names "
            f"({', '.join(VOICE_ALIASES)}), which all stand for it.",
            code="voice_not_found",
            param="voice",
        )


def _own(setting: str) -> str:
    """A catalogue name as it is; of a folder or a repository, its last part."""
    return setting if "/" not in setting else Path(setting.partition("@")[0]).name
