"""Whisper's log-mel features in NumPy float64: the definition that faster kernels must meet."""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE

N_FFT = 400  # 25 ms
HOP = 160  # 10 ms, one frame
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
FLOOR = 1e-10  # of mel power, before the logarithm
RANGE = 8.0  # powers of ten kept below the loudest value of a window


@cache
def mel_filters(n_mels: int) -> NDArray[np.float64]:
    """Triangular filters (n_mels, 201) from FFT bins to mel bands at 16 kHz, area-normalised.

    Slaney's scale: linear below 1 kHz, logarithmic above (Slaney 1998, Auditory Toolbox;
    the same as ``librosa.filters.mel(sr=16000, n_fft=400)``). The array is read-only.
    """
    if n_mels < 1:
        raise AudioError(f"expected 1 or more mel bands, got {n_mels}")
    bins_hz = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    lower, centre, upper = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (upper - lower))
    filters.flags.writeable = False
    return filters


_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, logarithmic)


def log10_mel(samples: NDArray[np.floating], n_mels: int = 80) -> NDArray[np.float64]:
    """Unclamped log10 mel power (n_mels, n // 160) of mono samples (n,) at 16 kHz.

    Frame i is centred on sample 160 i; the ends are mirrored. Whisper drops the frame that
    would start at the very end, and so does this.
    """
    if samples.ndim != 1 or not samples.size:
        raise AudioError(f"expected mono samples of shape (n,) with n > 0, got {samples.shape}")
    if not np.isfinite(samples).all():
        raise AudioError("expected finite samples, got NaN or infinity; repair the recording")
    padded = np.pad(samples.astype(np.float64), N_FFT // 2, mode="reflect")
    return log10_frames(padded, n_mels)[:, : len(samples) // HOP]


def log10_frames(samples: NDArray[np.floating], n_mels: int = 80) -> NDArray[np.float64]:
    """Unclamped log10 mel power (n_mels, frames) of the frames that lie wholly in ``samples``.

    Frame i covers samples 160 i to 160 i + 400: nothing is padded or mirrored.
    """
    frames = sliding_window_view(samples, N_FFT)[::HOP]  # (frames, 400)
    spectrum = np.fft.rfft(frames * hann_window(), axis=1)  # (frames, 201)
    power = spectrum.real**2 + spectrum.imag**2
    mel: NDArray[np.float64] = mel_filters(n_mels) @ power.T
    return np.log10(np.maximum(mel, FLOOR))


@cache
def hann_window() -> NDArray[np.float64]:
    """The periodic Hann window (400,), read-only."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)
    window.flags.writeable = False
    return window


def clamp_window(log10: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whisper's scaling of one window (n_mels, frames) of log10 values to about -1..1.

    The clamp is over the whole window, 8 powers of ten below its loudest value, so what is kept
    between windows must be the unclamped values.
    """
    if not log10.size:
        return log10
    scaled: NDArray[np.float64] = (np.maximum(log10, log10.max() - RANGE) + 4.0) / 4.0
    return scaled


def log_mel(
    samples: NDArray[np.floating], n_mels: int = 80, padding: int = 0
) -> NDArray[np.float64]:
    """Whisper's input (n_mels, (n + padding) // 160) for samples (n,) at 16 kHz.

    ``padding`` is the number of zeros appended first. Source: Radford et al. 2022, section 2.2,
    and ``whisper/audio.py`` in openai/whisper.
    """
    if padding < 0:
        raise AudioError(f"expected a padding of 0 or more samples, got {padding}")
    if padding:
        samples = np.concatenate([samples, np.zeros(padding, samples.dtype)])
    return clamp_window(log10_mel(samples, n_mels))
