"""The settings file that comes with a Piper voice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audio.errors import AudioError

START, END, PAD = "^", "$", "_"


@dataclass(frozen=True)
class VoiceConfig:
    """What a Piper voice's .onnx.json says that is needed here."""

    sample_rate: int
    symbols: Mapping[str, tuple[int, ...]]
    noise_scale: float
    noise_w: float
    length_scale: float


def read_config(path: Path) -> VoiceConfig:
    """Read a Piper voice's .onnx.json.

    Raises AudioError if it is absent, is no such file, or names another language or several
    speakers.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        config = VoiceConfig(
            sample_rate=int(data["audio"]["sample_rate"]),
            symbols={sign: tuple(map(int, ids)) for sign, ids in data["phoneme_id_map"].items()},
            noise_scale=float(data["inference"]["noise_scale"]),
            noise_w=float(data["inference"]["noise_w"]),
            length_scale=float(data["inference"]["length_scale"]),
        )
        language, speakers = str(data["espeak"]["voice"]), int(data.get("num_speakers", 1))
    except OSError as error:
        raise AudioError(
            f"The voice's settings {path} cannot be read ({type(error).__name__}); fetch the "
            f"voice again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AudioError(
            f"{path} should be the settings of a Piper voice (.onnx.json) but is not "
            f"({type(error).__name__}: {error}); fetch the voice again."
        ) from error
    if not language.startswith("en") or speakers > 1:
        raise AudioError(
            f"{path}: an English voice with one speaker was expected, but this one speaks "
            f"{language!r} with {speakers} speakers; choose another."
        )
    missing = [sign for sign in (START, END, PAD) if not config.symbols.get(sign)]
    if missing:
        raise AudioError(f"{path}: its phoneme map lacks {missing}; fetch the voice again.")
    return config
