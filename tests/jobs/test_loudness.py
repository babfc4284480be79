"""Loudness against pyloudnorm, true peaks against signals whose peaks are known."""

from math import inf

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.jobs.dub.loudness import (
    LoudnessMeter,
    PeakMeter,
    decibels,
    factor_of,
    level,
    loudness,
)
from tests.jobs.dub_samples import noise


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 2)])
def test_equals_pyloudnorm_whatever_the_blocks(rate: int, channels: int) -> None:
    sound = noise(4.0, rate, channels=channels)
    sound[rate : 2 * rate] *= 1e-3  # below the relative gate
    sound[2 * rate : 2 * rate + rate // 2] = 0.0  # below the absolute one
    meter = LoudnessMeter(rate, channels)
    for part in np.array_split(sound, [7, 5000, 5001, 90_000]):
        meter.push(part)
    assert meter.lufs == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(sound), abs=0.01)
    assert loudness([sound], rate) == pytest.approx(meter.lufs, abs=1e-9)


def test_a_sine_has_the_loudness_of_the_standard() -> None:
    # EBU Tech 3341, case 1: 1 kHz at -23 dBFS on both channels is -23 LUFS.
    times = np.arange(48_000 * 5) / 48_000
    tone = 10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * times)
    sound = np.stack([tone, tone], axis=1).astype(np.float32)
    assert loudness([sound], 48_000) == pytest.approx(-23.0, abs=0.1)
    assert level(sound, 48_000) == pytest.approx(-23.0, abs=0.1)


def test_silence_and_nothing_have_no_loudness() -> None:
    assert loudness([], 48_000) == -inf
    assert loudness([np.zeros((48_000, 2), np.float32)], 48_000) == -inf
    assert loudness([noise(0.3)], 48_000) == -inf  # shorter than a gating block
    assert level(np.zeros(0, np.float32), 48_000) == -inf
    assert level(np.zeros(480, np.float32), 48_000) == -inf


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=5))
def test_peaks_do_not_depend_on_the_blocks(cuts: list[int]) -> None:
    sound = noise(0.05)
    whole, parts = PeakMeter(48, 2), PeakMeter(48, 2)
    whole.push(sound)
    for part in np.array_split(sound, np.cumsum(cuts)):
        parts.push(part)
    np.testing.assert_allclose(parts.peaks, whole.peaks, atol=1e-6)
    assert len(whole.peaks) == 50


def test_finds_peaks_between_samples() -> None:
    # A quarter of the rate at 45 degrees: samples of 0.707, a true peak of 1.
    times = np.arange(4800)
    tone = np.sin(2 * np.pi * times / 4 + np.pi / 4).astype(np.float32)
    meter = PeakMeter(48, 1)
    meter.push(tone[:, None])
    assert np.abs(tone).max() == pytest.approx(0.7071, abs=1e-3)
    assert meter.peaks[5:-5].max() == pytest.approx(1.0, abs=0.01)


def test_decibels_and_back() -> None:
    assert decibels(0.0) == -inf
    assert factor_of(decibels(0.25)) == pytest.approx(0.25)
