"""The original without its voices, for ``--original keep-beds``: music and noises stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import torch

from assistant.errors import ConfigError
from assistant.jobs.dub.loudness import Block
from assistant.jobs.dub.mix import CHANNELS, stereo_blocks

#: What Hybrid Demucs takes a sound apart into, and at which rate.
SOURCES = ("drums", "bass", "other", "vocals")
RATE = 44_100
_WINDOW_S, _OVERLAP_S = 10, 1


class Separator(Protocol):
    """Anything that tells voices from the rest of a sound."""

    @property
    def key(self) -> str:
        """Says which separator this is: its weights' sha256, for instance."""
        ...

    def beds(self, original: Path, out: Path) -> None:
        """Write ``original`` without its voices to ``out``, as FLAC of two channels."""
        ...


@dataclass(frozen=True, eq=False)
class HybridDemucs:
    """Hybrid Demucs as torchaudio has it (Défossez 2021, arXiv 2111.03600)."""

    model: Any
    key: str

    @classmethod
    def load(cls, weights: Path, key: str) -> "HybridDemucs":
        """Load the weights of ``hdemucs_high``, a .safetensors or .pt file; ``key``: its sha256.

        Raises:
            ConfigError: the file is missing, or holds something else.
        """
        from torchaudio.models import hdemucs_high

        model = hdemucs_high(sources=list(SOURCES))
        try:
            model.load_state_dict(_read_weights(weights))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"Expected the weights of torchaudio's hdemucs_high in {weights}: {reason} "
                "Name the right file, or choose the original to be ducked or removed."
            ) from None
        return cls(model.eval(), key)

    def beds(self, original: Path, out: Path) -> None:
        """The original less its vocals, in windows of 10 s that overlap by one."""
        overlap, tail = _OVERLAP_S * RATE, np.zeros((0, CHANNELS), np.float32)
        ramp = np.linspace(0, 1, overlap, dtype=np.float32)[:, None]
        with soundfile.SoundFile(
            out, "w", samplerate=RATE, channels=CHANNELS, format="FLAC", subtype="PCM_24"
        ) as file:
            for window, last in _windows(original):
                beds = window - self._vocals(window)
                shared = len(tail)
                beds[:shared] = tail * (1 - ramp[:shared]) + beds[:shared] * ramp[:shared]
                done = len(beds) if last else len(beds) - overlap
                file.write(beds[:done])
                tail = beds[done:]

    def _vocals(self, window: Block) -> Block:
        """The voices in a window (n, 2), which the model wants at zero mean and unit deviation."""
        padded = np.zeros((_WINDOW_S * RATE, CHANNELS), np.float32)
        padded[: len(window)] = window
        mean, deviation = float(padded.mean()), max(float(padded.std()), 1e-8)
        with torch.inference_mode():
            parts = self.model(torch.from_numpy((padded - mean) / deviation).mT[None])
        voices: Block = parts[0, SOURCES.index("vocals")].mT.numpy() * deviation + mean
        return voices[: len(window)]


def _windows(path: Path) -> Iterator[tuple[Block, bool]]:
    """Windows of 10 s, each a second before the end of the one before; whether it is the last."""
    length, step = _WINDOW_S * RATE, (_WINDOW_S - _OVERLAP_S) * RATE
    held = np.zeros((0, CHANNELS), np.float32)
    for block in stereo_blocks(path, RATE):
        held = np.concatenate([held, block])
        # More must be known to come, or else this would be the last.
        while len(held) > length:
            yield held[:length].copy(), False
            held = held[step:]
    yield held, True


def _read_weights(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
