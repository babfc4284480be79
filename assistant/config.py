"""Settings: what a user may choose, from the environment or a file, checked once at the border."""

import os
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from assistant import settings_file

ENV_PREFIX = "VOXSIGHT_"
#: The server has settings of its own, which it reads itself.
SERVER_PREFIX = ENV_PREFIX + "SERVER_"


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
    return settings_file.load(Settings, file, overrides, elsewhere=(SERVER_PREFIX,))
