"""``voxsight bench features --device cuda``: the fused log-mel kernel against torch on one GPU."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from audio.errors import AudioError
from audio.features import reference
from audio.features.cuda import CudaLogMel, CudaStreamBank

_ROWS = 64
_FRAMES = 3000  # 30 s
_STREAMS = 256
_CHUNK = 1600  # 100 ms
_BATCH_CALLS = 5
_REPLAYS = 100  # short launches in a row, so that the GPU and not the host is timed


@dataclass(frozen=True)
class CudaFeatureReport:
    """What one GPU did; see ``measure_cuda``.

    Attributes:
        device: name of the GPU.
        batch_us: 64 x 30 s in one launch, microseconds of GPU time.
        batch_vs_torch_stft: how many times longer torch takes for the same.
        window_us: one window of 30 s, replayed from a CUDA graph.
        streams_256_us: 256 streams of 100 ms, replayed from a CUDA graph.
        max_abs_error: largest difference from the reference, unclamped log10 mel power.
    """

    device: str
    batch_us: float
    batch_vs_torch_stft: float
    window_us: float
    streams_256_us: float
    max_abs_error: float

    def summary(self) -> dict[str, Any]:
        """The figures for the line of JSON: the ratio, and the times that have a goal."""
        return {
            "device": self.device,
            "batch_vs_torch_stft": round(self.batch_vs_torch_stft, 2),
            "window_us": round(self.window_us, 2),
            "streams_256_us": round(self.streams_256_us, 2),
            "max_abs_error": self.max_abs_error,
        }


def measure_cuda(
    n_mels: int = 80, rounds: int = 30, progress: Callable[[int], None] | None = None
) -> CudaFeatureReport:
    """Time the CUDA kernel on the current GPU, beside torch, by CUDA events.

    Both get the samples on the device with nothing left to pad: torch.stft with ``center=False``,
    then power, mel filters as a matrix product, and logarithm. ``progress`` is told 1 after each of
    2 * (rounds + 1) rounds. AudioError without a GPU; the simulator is none.
    """
    if not torch.cuda.is_available():
        raise AudioError(
            "expected a CUDA device to measure the CUDA kernel, found none; measure device='cpu'"
        )
    batch, window = CudaLogMel(_ROWS, _FRAMES, n_mels), CudaLogMel(1, _FRAMES, n_mels)
    bank = CudaStreamBank(_STREAMS, _CHUNK, n_mels)
    for array in (batch.samples, window.samples, bank.chunks):
        _fill_with_noise(array)
    batches = {"ours": batch.run, "torch": torch_log_mel(_tensor(batch.samples), n_mels)}
    graphs = {"window": _captured(window.run), "streams": _captured(bank.run)}
    batch_us = _gpu_us(batches, rounds, _BATCH_CALLS, progress)
    short_us = _gpu_us(graphs, rounds, _REPLAYS, progress)
    return CudaFeatureReport(
        device=torch.cuda.get_device_name(),
        batch_us=batch_us["ours"],
        batch_vs_torch_stft=batch_us["torch"] / batch_us["ours"],
        window_us=short_us["window"],
        streams_256_us=short_us["streams"],
        max_abs_error=_error(batch, n_mels),
    )


def _tensor(array: Any) -> torch.Tensor:
    """A view of a device array."""
    return torch.as_tensor(array, device="cuda")


def _fill_with_noise(array: Any) -> None:
    torch.manual_seed(0)
    _tensor(array).normal_(std=0.1)


def torch_log_mel(sound: torch.Tensor, n_mels: int) -> Callable[[], torch.Tensor]:
    """The peer: log10 mel power (rows, n_mels, frames) of ``sound`` (rows, n) as torch does it.

    The operations are those of ``whisper/audio.py`` in openai/whisper, on the tensor's device.
    """
    window = torch.hann_window(reference.N_FFT, device=sound.device)
    filters = torch.tensor(reference.mel_filters(n_mels), dtype=torch.float32, device=sound.device)

    def run() -> torch.Tensor:
        spectrum = torch.stft(
            sound,
            reference.N_FFT,
            reference.HOP,
            window=window,
            center=False,
            return_complex=True,
        )
        mel = filters @ spectrum.abs().square()
        return mel.clamp(min=reference.FLOOR).log10()

    return run


def _captured(run: Callable[[], None]) -> Callable[[], None]:
    """Replays one run from a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _gpu_us(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    calls: int,
    progress: Callable[[int], None] | None,
) -> dict[str, float]:
    """Median microseconds of GPU time of a call; each round, but for the first, times each case."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, call in cases.items():
            begin, end = _event(), _event()
            begin.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
            if number:
                times[name].append(begin.elapsed_time(end) * 1000.0 / calls)
        if progress is not None:
            progress(1)
    return {name: statistics.median(values) for name, values in times.items()}


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _error(batch: CudaLogMel, n_mels: int) -> float:
    """Largest difference from the reference over the first and the last row."""
    batch.run()
    sound, out = _tensor(batch.samples)[[0, -1]].cpu(), _tensor(batch.out)[[0, -1]].cpu()
    wanted = [reference.log10_frames(row.astype(np.float64), n_mels) for row in sound.numpy()]
    return float(np.abs(out.numpy() - np.stack(wanted)).max())
