"""Chooses the log-mel kernel once by device; tests may put another in its place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import numpy as np

from audio.errors import AudioError
from audio.features import reference
from audio.features.plan import check_room
from audio.features.reference import HOP, N_FFT
from audio.pcm import Samples


@dataclass(frozen=True)
class Kernel:
    """One way to compute the features.

    log10_frames(samples, out, column, frames): writes unclamped log10 mel power to
        ``out[:, column : column + frames]``. samples (n,) float32, contiguous, n >= 160 * frames
        + 240: frame i covers samples 160 i to 160 i + 400. out (n_mels, columns) float32.
    clamp(log10): scales one window (n_mels, frames) float32 in place to about -1..1. The clamp is
        over the whole window, 8 powers of ten below its loudest value, so what is kept between
        windows must be the unclamped values.
    """

    name: str
    log10_frames: Callable[[Samples, Samples, int, int], None]
    clamp: Callable[[Samples], None]


_override: ContextVar[Kernel | None] = ContextVar("_override", default=None)


def kernel_for(device: str = "cpu") -> Kernel:
    """The kernel of "cpu" (Numba) or "cuda" (numba-cuda), or what ``use_kernel`` put in its place.

    AudioError for another device, and for "cuda" where there is none.
    """
    return _override.get() or _load(device)


@contextmanager
def use_kernel(kernel: Kernel) -> Iterator[None]:
    """Within the block, in this thread or task, every device has this kernel."""
    token = _override.set(kernel)
    try:
        yield
    finally:
        _override.reset(token)


@cache
def _load(device: str) -> Kernel:
    # Numba takes half a second to import, and numba-cuda is not to be had on every system.
    if device == "cpu":
        from audio.features import cpu

        return Kernel("cpu", cpu.log10_frames, cpu.clamp)
    if device == "cuda":
        from audio.features import cpu, cuda

        return Kernel("cuda", cuda.CudaKernel().log10_frames, cpu.clamp)
    raise AudioError(f"expected the device 'cpu' or 'cuda' for sound features, got {device!r}")


def _reference_frames(samples: Samples, out: Samples, column: int, frames: int) -> None:
    check_room(samples, out, column, frames)
    whole = samples[: frames * HOP + N_FFT - HOP].astype(np.float64)
    out[:, column : column + frames] = reference.log10_frames(whole, out.shape[0])


def _reference_clamp(log10: Samples) -> None:
    log10[:] = reference.clamp_window(log10.astype(np.float64))


#: The definition, in NumPy float64.
REFERENCE = Kernel("reference", _reference_frames, _reference_clamp)


def prepare(remark: Callable[[str], None] | None = None) -> None:
    """Compile the CPU's kernel if that was never done here, after saying so to ``remark``."""
    from audio.features import cpu

    if remark is not None and not cpu.is_compiled():
        remark("Compiling the sound features, once; this takes some seconds.")
    cpu.compile_all()
