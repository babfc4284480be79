"""Sound as numbers: mono float32 samples with their rate, and PCM16."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio.errors import AudioError

#: What every recogniser and feature in this room listens to, in Hz.
SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]

_SHORT = 8192  # samples; BLAS would wake other threads for more

# Float sound may overshoot 1.0 a little; above this it is integers that somebody forgot to scale.
_PEAK_LIMIT = 100.0


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono sound: ``samples`` (n,) float32, nominally -1..1, at ``rate`` samples per second."""

    samples: Samples
    rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_samples(self.samples)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def check_rate(rate: int) -> None:
    """Refuse a sample rate that is not a positive whole number of Hz."""
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise AudioError(f"expected a sample rate as a positive whole number of Hz, got {rate!r}")


def check_samples(samples: Any) -> None:
    """Refuse what is not mono float32 sound with finite values near -1..1."""
    if not isinstance(samples, np.ndarray):
        raise AudioError(f"expected samples as a NumPy array, got {type(samples).__name__}")
    if samples.ndim != 1:
        raise AudioError(
            f"expected mono samples of shape (n,), got shape {samples.shape}; "
            "mix the channels down first"
        )
    if samples.dtype != np.float32:
        hint = "use from_pcm16" if samples.dtype == np.int16 else "convert with astype(float32)"
        raise AudioError(f"expected float32 samples in -1..1, got {samples.dtype}; {hint}")
    if samples.size <= _SHORT and np.dot(samples, samples) <= _PEAK_LIMIT**2:
        return  # no sample exceeds the root of the energy; NaN is not <= anything
    low, high = float(samples.min()), float(samples.max())  # NaN passes through min and max
    if not (np.isfinite(low) and np.isfinite(high)):
        raise AudioError("expected finite samples, got NaN or infinity; repair the recording")
    if max(-low, high) > _PEAK_LIMIT:
        raise AudioError(
            f"expected samples in -1..1, got a peak of {max(-low, high):.0f}; "
            "divide integer samples by their full scale (32768 for 16 bits)"
        )


def from_pcm16(pcm: NDArray[np.int16] | bytes) -> Samples:
    """Samples (n,) float32 from 16-bit integers, or from little-endian bytes of them."""
    if isinstance(pcm, bytes):
        if len(pcm) % 2:
            raise AudioError(f"expected whole 16-bit samples, got {len(pcm)} bytes")
        pcm = np.frombuffer(pcm, dtype="<i2")
    if pcm.dtype.kind != "i" or pcm.dtype.itemsize != 2:
        raise AudioError(f"expected int16 samples, got {pcm.dtype}")
    return pcm.astype(np.float32) / np.float32(32768)


def to_pcm16(samples: Samples) -> NDArray[np.int16]:
    """16-bit integers (n,) from float samples; what exceeds -1..1 is clipped.

    The inverse of ``from_pcm16``: a round trip from integers changes no bit.
    """
    check_samples(samples)
    scaled = np.rint(samples.astype(np.float64) * 32768)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def silence(seconds: float, rate: int = SAMPLE_RATE) -> Sound:
    """Digital silence of the given length."""
    check_rate(rate)
    if not 0 <= seconds < float("inf"):
        raise AudioError(f"expected a length of 0 s or more, got {seconds!r}")
    return Sound(np.zeros(round(seconds * rate), np.float32), rate)


def join(sounds: Sequence[Sound]) -> Sound:
    """One sound after the other; all of one rate, and at least one of them."""
    rates = sorted({sound.rate for sound in sounds})
    if len(rates) != 1:
        raise AudioError(f"expected one or more sounds of one rate, got the rates {rates}")
    return Sound(np.concatenate([sound.samples for sound in sounds]), rates[0])
