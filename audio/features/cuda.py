"""Whisper's log-mel on the GPU: a batch of sounds or of running streams in one launch.

Device arrays have ``__cuda_array_interface__``: ``torch.as_tensor(array, device="cuda")`` is a view
without a copy. Nothing here checks the samples; that is done at the border, see ``log_mel``.
"""

import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import config, cuda
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.features.cuda_kernel import (
    CARRY,
    POINTS,
    SINES,
    THREADS,
    TILE,
    batch_kernel,
    stream_kernel,
)
from audio.features.plan import check_room, mel_plan, window
from audio.features.reference import HOP, N_FFT
from audio.pcm import Samples

# A few streams are a small grid, and Numba would warn of that at each launch.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


def twiddles() -> NDArray[np.float32]:
    """exp(-2 pi i q c / 400), rows q = 0..10 by columns c = 0..19: real, then imaginary parts."""
    turn = np.exp(-2j * np.pi * np.outer(np.arange(SINES // POINTS), np.arange(POINTS)) / N_FFT)
    return np.concatenate((turn.real, turn.imag), axis=None).astype(np.float32)


def filter_tables(n_mels: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The mel filters with even numbers of bins: (3 * n_mels,) int32 and all weights.

    A filter's three numbers are its first bin, its first weight and how many there are. No filter
    reaches the last bin, so that there always is one more for a weight of zero.
    """
    plan = mel_plan(n_mels)
    even = plan.bins + plan.bins % 2
    ends = np.cumsum(even)
    weights = np.zeros(int(ends[-1]), np.float32)
    inside = np.arange(len(weights)) - np.repeat(ends - even, even) < np.repeat(plan.bins, even)
    weights[inside] = plan.weights
    filters = np.stack((plan.first_bin, ends - even, even), axis=1).astype(np.int32)
    return filters.ravel(), weights


class _Launch:
    """What both kinds of launch need: the tables and the frames on the device, and the stream."""

    def __init__(self, rows: int, frames: int, n_mels: int, stream: Any) -> None:
        check_device()
        self.out = cuda.device_array((rows, n_mels, frames), np.float32)
        self._stream = stream
        self._tables = _tables(n_mels)
        self._grid = (-(-frames // TILE), rows)

    def launch(self, kernel: Any, *arrays: Any) -> None:
        stream = _numba_stream(self._stream)
        kernel[self._grid, THREADS, stream](*arrays, *self._tables, self.out)


class CudaLogMel:
    """Unclamped log10 mel power of rows of sound, in device memory that stays where it is.

    Args:
        rows: sounds in the batch, at most 65,535.
        frames: frames of each.
        n_mels: mel bands.
        stream: a Numba or torch stream to launch on; torch's current one, or else the default
            stream, when left out.

    ``samples`` (rows, 160 * frames + 240) and ``out`` (rows, n_mels, frames) are float32 device
    arrays. Frame i of a row begins at sample 160 i. AudioError where there is no CUDA device.
    """

    def __init__(self, rows: int, frames: int, n_mels: int = 80, stream: Any = None) -> None:
        _check_sizes(rows=rows, frames=frames)
        self._launch = _Launch(rows, frames, n_mels, stream)
        self.samples = cuda.to_device(np.zeros((rows, frames * HOP + CARRY), np.float32))
        self.out = self._launch.out
        _warm_up(self.run)

    def run(self) -> None:
        """Launch ``samples`` to ``out``: allocates nothing, waits for nothing, may be captured."""
        self._launch.launch(batch_kernel, self.samples)


class CudaStreamBank:
    """Many running streams of sound that all advance by one chunk in one launch.

    Args:
        streams: how many, at most 65,535.
        chunk_samples: new samples of each stream per launch, a multiple of 160.
        n_mels: mel bands.
        stream: as in ``CudaLogMel``.

    ``chunks`` (streams, chunk_samples) and ``out`` (streams, n_mels, chunk_samples / 160) are
    float32 device arrays. A stream's frame i, counted from its start or last reset, begins at its
    sample 160 i - 240, with silence before sample 0; to have Whisper's frames, centred on multiples
    of 160 with a mirrored start, put 120 zeros and then the 200 mirrored samples before the sound.
    AudioError where there is no CUDA device.
    """

    def __init__(
        self, streams: int, chunk_samples: int, n_mels: int = 80, stream: Any = None
    ) -> None:
        _check_sizes(streams=streams, chunk_samples=chunk_samples)
        if chunk_samples % HOP:
            raise AudioError(f"expected chunks of a multiple of {HOP} samples, got {chunk_samples}")
        self._launch = _Launch(streams, chunk_samples // HOP, n_mels, stream)
        self.chunks = cuda.to_device(np.zeros((streams, chunk_samples), np.float32))
        self.out = self._launch.out
        self._carry = cuda.to_device(np.zeros((streams, CARRY), np.float32))
        _warm_up(self.run)  # silence leaves the carry as it is

    def run(self) -> None:
        """Launch ``chunks`` to ``out`` as ``CudaLogMel.run``; each run takes new chunks."""
        self._launch.launch(stream_kernel, self.chunks, self._carry)

    def reset(self, stream: int) -> None:
        """Let another sound begin in place of this stream's; waits for what was launched."""
        streams = self._carry.shape[0]
        if not 0 <= stream < streams:
            raise AudioError(f"expected a stream from 0 to {streams - 1}, got {stream}")
        cuda.synchronize()
        self._carry[stream].copy_to_device(np.zeros(CARRY, np.float32))
        cuda.synchronize()  # a copy of little memory may still be under way when the call returns


class CudaKernel:
    """The kernel for one sound in the host's memory; keeps its device memory and lets it grow."""

    def __init__(self) -> None:
        check_device()
        self._lock = threading.Lock()
        self._samples = self._out = cuda.device_array(N_FFT, np.float32)

    def log10_frames(self, samples: Samples, out: Samples, column: int, frames: int) -> None:
        """Write unclamped log10 mel power to ``out[:, column : column + frames]``, on the host.

        samples (n,) float32, contiguous, n >= 160 * frames + 240; out (n_mels, columns) float32.
        """
        check_room(samples, out, column, frames)
        n_mels, sound = out.shape[0], samples[: frames * HOP + CARRY]
        with self._lock:
            self._samples = _grown(self._samples, len(sound))
            self._out = _grown(self._out, n_mels * frames)
            held = self._samples[: len(sound)]
            held.copy_to_device(sound)
            made = self._out[: n_mels * frames].reshape(1, n_mels, frames)
            grid = (-(-frames // TILE), 1)
            batch_kernel[grid, THREADS](held.reshape(1, len(sound)), *_tables(n_mels), made)
            out[:, column : column + frames] = made.copy_to_host()[0]


def check_device() -> None:
    """AudioError where there is no CUDA device (Numba's simulator counts as one)."""
    if not cuda.is_available():
        raise AudioError("expected a CUDA device, found none; use device='cpu'")


def _warm_up(run: Callable[[], None]) -> None:
    """Compile, which cannot be done while a CUDA graph is captured; waits on both sides."""
    cuda.synchronize()  # the buffers were filled on another stream
    run()
    cuda.synchronize()


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise AudioError(f"expected {name} of 1 or more, got {size}")


@cache
def _tables(n_mels: int) -> tuple[Any, ...]:
    """Window, twiddles, filters and weights on the device; halved, see ``cuda_kernel._columns``."""
    tables = (window() * np.float32(0.5), twiddles(), *filter_tables(n_mels))
    return tuple(cuda.to_device(table) for table in tables)


def _grown(array: Any, size: int) -> Any:
    """The device array (n,), or a new one of at least twice its length if ``size`` is more."""
    if array.shape[0] >= size:
        return array
    return cuda.device_array(max(size, 2 * array.shape[0]), np.float32)


def _numba_stream(stream: Any) -> Any:
    """What Numba launches on: a torch stream is wrapped, and torch's current one is the default."""
    torch = sys.modules.get("torch")  # who has not imported torch has no stream of it
    if stream is None and torch is not None and not config.ENABLE_CUDASIM:
        # Before torch has begun with CUDA, its current stream is the default one.
        stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
    handle = getattr(stream, "cuda_stream", None)
    if handle is None:
        return 0 if stream is None else stream
    return cuda.external_stream(handle) if handle else 0
