"""Tables that the fast kernels share: the window, and the mel filters without their zeros."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.features.reference import HOP, N_FFT, hann_window, mel_filters
from audio.pcm import Samples


@dataclass(frozen=True, eq=False)
class MelPlan:
    """The mel filters (n_mels, 201) without their zeros; all arrays are read-only.

    Filter m covers ``bins[m]`` FFT bins from ``first_bin[m]`` on; ``weights`` (sum of bins,)
    float32 holds the filters' values one after another.
    """

    n_mels: int
    first_bin: NDArray[np.int64]
    bins: NDArray[np.int64]
    weights: NDArray[np.float32]


@cache
def mel_plan(n_mels: int) -> MelPlan:
    """The sparse filters for ``n_mels`` bands; AudioError if that is less than 1."""
    filters = mel_filters(n_mels)
    found = filters > 0.0
    plan = MelPlan(
        n_mels=n_mels,
        # A filter narrower than a bin is empty at high band counts: no bins, from bin 0 on.
        first_bin=found.argmax(axis=1),
        bins=found.sum(axis=1),
        weights=filters[found].astype(np.float32),
    )
    for table in (plan.first_bin, plan.bins, plan.weights):
        table.flags.writeable = False
    return plan


def window() -> NDArray[np.float32]:
    """The periodic Hann window (400,) in float32."""
    return hann_window().astype(np.float32)


def check_room(samples: Samples, out: Samples, column: int, frames: int) -> None:
    """Refuse a call that a kernel would answer by reading or writing where it may not."""
    needed = frames * HOP + N_FFT - HOP
    if frames < 1 or len(samples) < needed:
        raise AudioError(f"expected {needed} samples for {frames} frames, got {len(samples)}")
    if not 0 <= column <= out.shape[1] - frames:
        raise AudioError(
            f"expected room for {frames} frames from column {column} on, got {out.shape[1]} columns"
        )
    for array in (samples, out):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise AudioError(f"expected contiguous float32 arrays, got {array.dtype}")
