"""Settings: what a user may choose, from the environment or a file, checked once at the border."""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from assistant.errors import ConfigError

ENV_PREFIX = "VOXSIGHT_"
SERVER_PREFIX = ENV_PREFIX + "SERVER_"
#: Names a settings file; it is read before the settings exist, so it is no setting itself.
CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"


class Settings(BaseSettings):
    """All settings. Each can be set as ``VOXSIGHT_<NAME>`` or as a key of a TOML file.

    A model setting takes a name of the catalogue (``voxsight models list``), a local folder, or
    ``hub:owner/repository[@revision]``.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, protected_namespaces=()
    )

    cache_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("voxsight")),
        description="Where models and what is made of them are kept.",
    )
    offline: bool = Field(False, description="Open no socket; use only what is in the cache.")
    recogniser: str = Field("whisper-tiny.en", description="Speech recognition model.")
    recogniser_beam: int = Field(1, ge=1, le=16, description="Beam width; 1 is greedy.")
    language_model: str = Field("qwen2.5-coder-0.5b-instruct", description="The decoder.")
    quantization: Literal["auto", "none", "int8"] = Field(
        "auto",
        description="Weights of the language model on a CPU: 'int8' of a Qwen2 or Llama model, "
        "'none' as its folder has them; 'auto' is int8 for a GGUF file, else none.",
    )
    image_encoder: str = Field("efficientnet-lite0", description="Image encoder.")
    adapter: str = Field(
        "auto",
        description="Adapter file, 'llava:FILE', 'dictionary', or 'auto': the shipped one if it "
        "fits the models, else a dictionary.",
    )
    vocabulary: Path | None = Field(
        None, description="Words that a dictionary adapter may use, one a line."
    )
    voice: str = Field("en_US-joe-medium", description="Piper-format voice.")
    phonemizer: Literal["builtin", "espeak"] = Field(
        "builtin", description="'espeak' runs an installed espeak-ng as a separate program."
    )
    threads: int = Field(
        default_factory=lambda: max(1, min(8, os.cpu_count() or 1)),
        ge=1,
        le=256,
        description="Threads of each model while it runs.",
    )
    max_answer_tokens: int = Field(96, ge=1, le=4096, description="Token budget of one answer.")
    max_audio_s: float = Field(4 * 3600.0, gt=0, description="Longest audio file accepted.")
    max_decoded_audio_bytes: int = Field(
        8 * 2**30, gt=0, description="Largest size of one audio file, decoded to float32."
    )
    max_image_pixels: int = Field(50_000_000, gt=0, description="Largest picture accepted.")
    max_image_bytes: int = Field(40 * 2**20, gt=0, description="Largest picture file accepted.")


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """Settings from, in rising priority: defaults, a TOML file, the environment, ``overrides``.

    An override of None counts as not given. Without ``file``, ``VOXSIGHT_CONFIG`` may name one.

    Raises:
        ConfigError: an unknown key, a value out of range, a file that cannot be read.
    """
    _refuse_unknown_variables()
    if file is None and CONFIG_VARIABLE in os.environ:
        file = Path(os.environ[CONFIG_VARIABLE])
    values = _read_toml(file) if file else {}
    values = {k: v for k, v in values.items() if (ENV_PREFIX + k).upper() not in os.environ}
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(_one_sentence(error)) from None


def _refuse_unknown_variables() -> None:
    # pydantic-settings ignores unknown variables, so a misspelt one would silently do nothing.
    # The server has settings of its own, which it checks itself.
    known = {(ENV_PREFIX + name).upper() for name in Settings.model_fields} | {CONFIG_VARIABLE}
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(ENV_PREFIX) and not name.startswith(SERVER_PREFIX) and name not in known
    )
    if unknown:
        raise ConfigError(
            f"Unknown environment variable {unknown[0]}; the known ones are "
            f"{', '.join(sorted(known))}."
        )


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the settings file {file}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings file {file} is not valid TOML: {error}.") from None


def _one_sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"Unknown setting '{name}'; the known ones are {', '.join(Settings.model_fields)}."
    return f"Setting '{name}' cannot be {first['input']!r}: {first['msg']}."
