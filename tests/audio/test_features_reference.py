import numpy as np
import pytest
import torchaudio
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from audio.errors import AudioError
from audio.features.reference import clamp_window, log10_mel, log_mel, mel_filters


def speechlike(n: int, seed: int = 0) -> np.ndarray:
    """Noise under a slow envelope, with stretches of silence."""
    rng = np.random.default_rng(seed)
    envelope = np.maximum(0, np.sin(np.arange(n) / 9000.0)) ** 2
    return (0.3 * envelope * rng.normal(size=n)).astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_agrees_with_transformers_and_faster_whisper(n_mels: int) -> None:
    samples = speechlike(16_000 * 7 + 123)
    padding = 480_000 - len(samples)
    ours = log_mel(samples, n_mels, padding)
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(samples, sampling_rate=16_000)
    assert ours.shape == (n_mels, 3000)
    np.testing.assert_allclose(ours, theirs["input_features"][0], atol=1e-4, rtol=0)
    faster = FeatureExtractor(feature_size=n_mels)(samples, padding=padding)
    np.testing.assert_allclose(ours, faster[:, :3000], atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_agree_with_torchaudio(n_mels: int) -> None:
    theirs = torchaudio.functional.melscale_fbanks(
        201, 0.0, 8000.0, n_mels, 16_000, norm="slaney", mel_scale="slaney"
    )
    np.testing.assert_allclose(mel_filters(n_mels), theirs.numpy().T, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 3000))
def test_a_single_frame_is_the_plain_definition(n: int) -> None:
    samples = speechlike(n + 400, seed=n)
    got = log10_mel(samples, 80)
    assert got.shape == (80, len(samples) // 160)
    middle = got.shape[1] // 2 + (1 if got.shape[1] < 4 else 0)
    begin = middle * 160 - 200
    if begin < 0 or begin + 400 > len(samples):
        return
    window = np.sin(np.pi * np.arange(400) / 400) ** 2
    turn = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    power = np.abs(turn @ (samples[begin : begin + 400] * window)) ** 2
    want = np.log10(np.maximum(mel_filters(80) @ power, 1e-10))
    np.testing.assert_allclose(got[:, middle], want, atol=1e-6)


def test_the_clamp_is_over_the_window() -> None:
    got = clamp_window(np.array([[2.0, -3.0, -10.0]]))
    np.testing.assert_allclose(got, [[1.5, 0.25, -0.5]])
    assert clamp_window(np.zeros((80, 0))).shape == (80, 0)


def test_silence_is_even() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(1600, np.float32)), np.full((80, 10), -1.5))


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros((2, 400)), np.array([0.0, np.nan] * 200)]
)
def test_bad_sound_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match="expected"):
        log_mel(samples)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(AudioError, match="mel bands"):
        mel_filters(0)
    with pytest.raises(AudioError, match="padding"):
        log_mel(np.zeros(400), 80, -1)
