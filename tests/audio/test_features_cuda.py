"""The CUDA kernel: in Numba's simulator where there is no GPU (see tests/conftest.py)."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numba import config

from assistant.bench import features_cuda
from audio.errors import AudioError
from audio.features import cuda
from audio.features.cuda import CudaKernel, CudaLogMel, CudaStreamBank, filter_tables, twiddles
from audio.features.dispatch import kernel_for
from audio.features.log_mel import log10_mel
from audio.features.reference import clamp_window, log10_frames, mel_filters
from audio.features.stream import FeatureStream

ROOT = Path(__file__).parent.parent.parent

gpu_only = pytest.mark.skipif(
    config.ENABLE_CUDASIM or not torch.cuda.is_available(), reason="needs a real GPU"
)


def sounds(rows: int, n: int, seed: int = 0) -> np.ndarray:
    """Noise (rows, n) float32, each row louder than the one before."""
    noise = np.random.default_rng(seed).normal(size=(rows, n))
    return (noise * 0.02 * np.arange(1, rows + 1)[:, None]).astype(np.float32)


def tone(hz: float, n: int, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hz * np.arange(n) / 16_000)).astype(np.float32)


def wanted(rows: np.ndarray, n_mels: int) -> np.ndarray:
    return np.stack([log10_frames(row.astype(np.float64), n_mels) for row in rows])


def features(rows: np.ndarray, n_mels: int) -> np.ndarray:
    log_mel = CudaLogMel(len(rows), (rows.shape[1] - 240) // 160, n_mels)
    log_mel.samples.copy_to_device(rows)
    log_mel.run()
    return np.asarray(log_mel.out.copy_to_host())


@pytest.mark.parametrize(("n_mels", "frames"), [(80, 17), (128, 3)])
def test_rows_agree_with_the_reference(n_mels: int, frames: int) -> None:
    rows = sounds(2, 160 * frames + 240)
    np.testing.assert_allclose(features(rows, n_mels), wanted(rows, n_mels), atol=1e-4, rtol=0)


@pytest.mark.parametrize("hz", [0.0, 100.0, 7990.0])
def test_tones_agree_with_the_reference(hz: float) -> None:
    rows = tone(hz, 560)[None] + np.float32(0.25 * (hz == 0.0))
    got, want = features(rows, 80)[0], wanted(rows, 80)[0]
    # In single precision what is 1e-13 of a loud tone is rounding; Whisper clamps it away.
    np.testing.assert_allclose(clamp_window(got), clamp_window(want), atol=1e-4, rtol=0)


def test_every_bin_is_where_it_belongs() -> None:
    impulse = np.zeros((1, 400), np.float32)
    impulse[0, 137] = 1.0  # the power of each bin is the same, so that each filter gives its sum
    window = np.sin(np.pi * 137 / 400) ** 4
    want = np.log10(window * mel_filters(128).sum(axis=1))
    np.testing.assert_allclose(features(impulse, 128)[0, :, 0], want, atol=1e-5)


def test_silence_and_sound_do_not_mix() -> None:
    rows = np.stack((np.zeros(720, np.float32), tone(440.0, 720)))
    got = features(rows, 80)
    np.testing.assert_array_equal(got[0], np.full((80, 3), -10.0))
    np.testing.assert_allclose(got[1], wanted(rows[1:], 80)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("frames", "chunks"), [(1, 3), (17, 2)])
def test_chunks_of_streams_are_as_the_whole(frames: int, chunks: int) -> None:
    streams, step = 2 if frames < 16 else 1, 160 * frames
    sound = sounds(streams, chunks * step)
    bank = CudaStreamBank(streams, step, 80)
    parts = []
    for begin in range(0, chunks * step, step):
        bank.chunks.copy_to_device(np.ascontiguousarray(sound[:, begin : begin + step]))
        bank.run()
        parts.append(bank.out.copy_to_host())
    whole = np.pad(sound, ((0, 0), (240, 0)))
    np.testing.assert_allclose(np.concatenate(parts, axis=2), wanted(whole, 80), atol=1e-4, rtol=0)


def test_a_reset_stream_forgets_and_its_neighbour_does_not() -> None:
    bank = CudaStreamBank(2, 320)
    first, second = sounds(2, 320, seed=1), sounds(2, 320, seed=2)
    bank.chunks.copy_to_device(first)
    bank.run()
    bank.reset(0)
    bank.chunks.copy_to_device(second)
    bank.run()
    before = np.stack((np.zeros(240, np.float32), first[1, -240:]))
    want = wanted(np.concatenate((before, second), axis=1), 80)
    np.testing.assert_allclose(bank.out.copy_to_host(), want, atol=1e-4, rtol=0)
    with pytest.raises(AudioError, match="stream from 0 to 1, got 2"):
        bank.reset(2)


def test_host_kernel_fills_its_columns_and_no_others() -> None:
    kernel = CudaKernel()
    for frames, n_mels in ((4, 80), (1, 80), (2, 128)):
        sound = sounds(1, 160 * frames + 250, seed=frames)[0]
        out = np.full((n_mels, frames + 2), 7.0, np.float32)
        kernel.log10_frames(sound, out, 1, frames)
        want = log10_frames(sound.astype(np.float64), n_mels)
        np.testing.assert_allclose(out[:, 1:-1], want, atol=1e-4, rtol=0)
        assert (out[:, [0, -1]] == 7.0).all()
    with pytest.raises(AudioError, match="expected 720 samples for 3 frames, got 719"):
        kernel.log10_frames(np.zeros(719, np.float32), np.empty((80, 3), np.float32), 0, 3)


def test_a_stream_may_use_the_device() -> None:
    assert kernel_for("cuda").name == "cuda"
    stream = FeatureStream(kernel=kernel_for("cuda"))
    sound = sounds(1, 1_000, seed=3)[0]
    assert stream.push(sound[:700]) + stream.push(sound[700:]) == 6
    np.testing.assert_allclose(stream.log10(0, 6), log10_mel(sound)[:, :6], atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_mels", [1, 80, 128, 400])
def test_filter_tables_are_the_filters(n_mels: int) -> None:
    filters, weights = filter_tables(n_mels)
    dense = np.zeros((n_mels, 202))
    for row, (first, at, bins) in zip(dense, filters.reshape(n_mels, 3), strict=True):
        assert bins % 2 == 0
        assert first + bins <= 201
        row[first : first + bins] = weights[at : at + bins]
    np.testing.assert_allclose(dense[:, :201], mel_filters(n_mels), atol=1e-8)


def test_twiddles() -> None:
    real, imag = twiddles().reshape(2, 11, 20)
    np.testing.assert_allclose(
        real + 1j * imag,
        np.exp(-1j * np.pi / 200) ** np.outer(np.arange(11), np.arange(20)),
        atol=1e-6,
    )


def test_sizes_are_checked() -> None:
    with pytest.raises(AudioError, match="rows of 1 or more, got 0"):
        CudaLogMel(0, 10)
    with pytest.raises(AudioError, match="multiple of 160 samples, got 1000"):
        CudaStreamBank(2, 1000)


def test_no_device_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.cuda, "is_available", lambda: False)
    message = "expected a CUDA device, found none; use device='cpu'"
    for build in (CudaKernel, lambda: CudaLogMel(1, 1), lambda: CudaStreamBank(1, 160)):
        with pytest.raises(AudioError, match=message):
            build()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand")
def test_the_benchmark_refuses_the_simulator() -> None:
    with pytest.raises(AudioError, match="expected a CUDA device to measure"):
        features_cuda.measure_cuda()


def test_the_peer_computes_the_same() -> None:
    sound = sounds(2, 1040)
    got = features_cuda.torch_log_mel(torch.from_numpy(sound), 80)()
    np.testing.assert_allclose(got.numpy(), wanted(sound, 80), atol=1e-4, rtol=0)


def test_torch_streams_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.cuda, "external_stream", lambda handle: f"external {handle}")
    numba_stream = cuda.cuda.stream()
    streams = (SimpleNamespace(cuda_stream=7), SimpleNamespace(cuda_stream=0), numba_stream)
    assert [cuda._numba_stream(s) for s in streams] == ["external 7", 0, numba_stream]


COMPILE = """
import sys
from types import SimpleNamespace
from numba import cuda, float32, int32
from numba.cuda import dispatcher
from numba.cuda.cudadrv.nvvm import NVVM, NvvmSupportError
try:
    NVVM()
except NvvmSupportError:
    sys.exit(77)
# Device functions are compiled for the current device, and there is none.
dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
from audio.features import cuda_kernel
tables = (float32[::1], float32[::1], int32[::1], float32[::1], float32[:, :, ::1])
for kernel, sounds in ((cuda_kernel.batch_kernel, 1), (cuda_kernel.stream_kernel, 2)):
    types = (float32[:, ::1],) * sounds + tables
    print(cuda.compile_ptx(kernel.py_func, types, cc=(9, 0), fastmath=True)[0])
"""


def test_compiles_for_a_real_gpu_into_registers() -> None:
    """What the simulator cannot show: types, no local memory, nothing in double precision."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip("NVVM is not installed")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".visible .entry") == 2
    for unwanted in (".local", ".f64", "call"):
        assert unwanted not in done.stdout


@gpu_only
def test_torch_shares_the_memory() -> None:
    log_mel = CudaLogMel(1, 10)
    samples = torch.as_tensor(log_mel.samples, device="cuda")
    assert samples.data_ptr() == log_mel.samples.__cuda_array_interface__["data"][0]
    sound = sounds(1, 1840)
    samples.copy_(torch.from_numpy(sound))
    log_mel.run()
    got = torch.as_tensor(log_mel.out, device="cuda").cpu().numpy()
    np.testing.assert_allclose(got, wanted(sound, 80), atol=1e-4, rtol=0)


@gpu_only
def test_a_cuda_graph_replays_on_new_samples() -> None:
    bank = CudaStreamBank(3, 1600, 128)
    chunks, out = (torch.as_tensor(array, device="cuda") for array in (bank.chunks, bank.out))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bank.run()
    sound = sounds(3, 4800)
    parts = []
    for begin in range(0, 4800, 1600):
        chunks.copy_(torch.from_numpy(sound[:, begin : begin + 1600]))
        graph.replay()
        parts.append(out.cpu().numpy())
    whole = np.pad(sound, ((0, 0), (240, 0)))
    np.testing.assert_allclose(np.concatenate(parts, axis=2), wanted(whole, 128), atol=1e-4, rtol=0)


@gpu_only
def test_the_benchmark_measures() -> None:
    summary = features_cuda.measure_cuda(rounds=2).summary()
    assert summary["max_abs_error"] < 1e-4
    assert min(summary[key] for key in ("batch_vs_torch_stft", "window_us", "streams_256_us")) > 0
