"""Sound as numbers: mono float32 samples with their rate, PCM16 and resampling."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from audio.errors import AudioError

#: What every recogniser and feature in this room listens to, in Hz.
SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]

# Float sound may overshoot 1.0 a little; above this it is integers that somebody forgot to scale.
_PEAK_LIMIT = 100.0
# The resampling kernel has (numerator x taps) values: a pair of rates without a common divisor
# (44,101 to 16,000) would need gigabytes, so the ratio is replaced by a nearby one.
_RATIO_LIMIT = 1000
_BLOCK = 1 << 18  # samples per resampled block, about 16 MB of intermediate values


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
    if not samples.size:
        return
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


def resample(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """The same sound at another rate: (n,) to (ceil(n * rate_out / rate_in),) float32."""
    check_samples(samples)
    if rate_in == rate_out:
        return samples
    pieces = list(resample_blocks([samples], rate_in, rate_out))
    return np.concatenate(pieces) if pieces else samples[:0]


def resample_blocks(blocks: Iterable[Samples], rate_in: int, rate_out: int) -> Iterator[Samples]:
    """Resample a stream of blocks (n_i,); their concatenation equals the whole sound's result.

    A windowed sinc (torchaudio's, Kaiser window). Rates whose reduced ratio is very long
    are taken as the nearest ratio with terms up to 1,000, less than one part in 1e5 away.
    """
    check_rate(rate_in)
    check_rate(rate_out)
    if rate_in == rate_out:
        yield from (block for block in blocks if block.size)
        return
    convert, step_in, step_out = _resampler(rate_in, rate_out)
    # Each output step depends on its own input step and `margin` steps on either side.
    margin = ceil(convert.width / step_in)
    step_block = max(1, _BLOCK // step_in) * step_in
    needed = step_block + 2 * margin * step_in
    waiting = [np.zeros(margin * step_in, np.float32)]
    held = len(waiting[0])
    total = done = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        total += len(block)
        while held >= needed:
            joined = np.concatenate(waiting)
            out = _convert(convert, joined[:needed])[margin * step_out : -margin * step_out]
            waiting, held = [joined[step_block:]], held - step_block
            done += len(out)
            yield out
    wanted = ceil(total * rate_out / rate_in) - done
    if wanted > 0:
        tail = np.concatenate([*waiting, np.zeros((margin + 1) * step_in, np.float32)])
        yield _convert(convert, tail)[margin * step_out :][:wanted]


@lru_cache(maxsize=16)
def _resampler(rate_in: int, rate_out: int) -> tuple[Any, int, int]:
    """The filter from one rate to another, and how many samples in and out make one step."""
    ratio = Fraction(rate_in, rate_out)
    if max(ratio.numerator, ratio.denominator) > _RATIO_LIMIT:
        if ratio > 1:
            ratio = 1 / (1 / ratio).limit_denominator(_RATIO_LIMIT)
        else:
            ratio = ratio.limit_denominator(_RATIO_LIMIT)
        if abs(float(ratio) * rate_out / rate_in - 1) > 1e-4:
            raise AudioError(
                f"expected sample rates within a factor of {_RATIO_LIMIT} of each other, "
                f"got {rate_in} Hz and {rate_out} Hz"
            )
    convert = torchaudio.transforms.Resample(
        ratio.numerator,
        ratio.denominator,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=48,
        rolloff=0.945,
        beta=12.0,
    )
    return convert, ratio.numerator, ratio.denominator


def _convert(convert: Any, samples: Samples) -> Samples:
    with torch.inference_mode():
        out: Samples = convert(torch.from_numpy(np.ascontiguousarray(samples))).numpy()
    return out
