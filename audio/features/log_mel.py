"""Whisper's log-mel of a whole sound, by the fastest kernel at hand; see ``reference``."""

import numpy as np

from audio.errors import AudioError
from audio.features.dispatch import Kernel, kernel_for
from audio.features.reference import HOP, N_FFT
from audio.pcm import SAMPLE_RATE, Samples, check_samples

HALF = N_FFT // 2


def log10_mel(samples: Samples, n_mels: int = 80, *, kernel: Kernel | None = None) -> Samples:
    """Unclamped log10 mel power (n_mels, n // 160) float32 of samples (n,) at 16 kHz.

    Frame i is centred on sample 160 i; the ends are mirrored. AudioError for what is not mono
    float32 sound, and for no sound at all.
    """
    check_samples(samples)
    if not samples.size:
        raise AudioError("expected one or more samples, got none")
    return _log10_mel(np.ascontiguousarray(samples), n_mels, kernel or kernel_for())


def log_mel(
    samples: Samples,
    n_mels: int = 80,
    padding: int = 0,
    *,
    rate: int = SAMPLE_RATE,
    kernel: Kernel | None = None,
) -> Samples:
    """Whisper's input (n_mels, (n + padding) // 160) float32, ``padding`` zeros appended first."""
    check_feature_rate(rate)
    if padding < 0:
        raise AudioError(f"expected a padding of 0 or more samples, got {padding}")
    if padding:
        check_samples(samples)
        samples = np.concatenate((samples, np.zeros(padding, np.float32)))
    kernel = kernel or kernel_for()
    log10 = log10_mel(samples, n_mels, kernel=kernel)
    kernel.clamp(log10)
    return log10


def check_feature_rate(rate: int) -> None:
    """Refuse sound at another rate than Whisper's."""
    if rate != SAMPLE_RATE:
        raise AudioError(
            f"expected sound at {SAMPLE_RATE} Hz for the features, got {rate} Hz; resample it first"
        )


def mirror_start(samples: Samples) -> Samples:
    """The samples (n,), n > 200, with the first 200 after the very first mirrored before it."""
    return np.concatenate((samples[HALF:0:-1], samples))


def _log10_mel(samples: Samples, n_mels: int, kernel: Kernel) -> Samples:
    count = len(samples) // HOP
    out = np.empty((n_mels, count), np.float32)
    # Frames 2 to `inner` touch no mirrored end, so a long sound need not be copied for them.
    inner = (len(samples) - HALF) // HOP
    if inner < 2:
        if count:
            kernel.log10_frames(np.pad(samples, HALF, mode="reflect"), out, 0, count)
        return out
    kernel.log10_frames(mirror_start(samples[: HOP + HALF]), out, 0, 2)
    kernel.log10_frames(samples[2 * HOP - HALF :], out, 2, inner - 1)
    if inner + 1 < count:
        tail = samples[(inner + 1) * HOP - HALF :]
        mirrored = np.concatenate((tail, samples[-2 : -HALF - 2 : -1]))
        kernel.log10_frames(mirrored, out, inner + 1, count - inner - 1)
    return out
