"""The mix: as loud as the original, never clipping, smooth under the voice."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.errors import ConfigError
from assistant.jobs.dub.loudness import PeakMeter
from assistant.jobs.dub.mix import (
    Envelope,
    Mixed,
    MixOptions,
    VoicePart,
    layers,
    mix,
    stereo_blocks,
)
from tests.jobs.dub_samples import noise, write_sound


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Six seconds at 44.1 kHz: 1 kHz throughout."""
    times = np.arange(44_100 * 6) / 44_100
    tone = (0.1 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)
    return write_sound(tmp_path / "original.flac", np.stack([tone, tone], axis=1), 44_100)


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """A second of 300 Hz at 22 kHz."""
    times = np.arange(22_050) / 22_050
    return write_sound(
        tmp_path / "voice.wav", (0.5 * np.sin(2 * np.pi * 300 * times)).astype(np.float32), 22_050
    )


def _mixed(
    original: Path, parts: list[VoicePart], out: Path, options: MixOptions | None = None
) -> Mixed:
    options = options or MixOptions()
    return mix(original, layers(original, parts, [], options), parts, 6000, out)


def _strength(sound: np.ndarray, tone: float, start: float, end: float) -> float:
    """Amplitude of a tone between two times in s."""
    part = sound[round(start * 48_000) : round(end * 48_000), 0]
    wave = np.exp(-2j * np.pi * tone * np.arange(len(part)) / 48_000)
    return float(2 * abs(np.mean(part * wave)))


def test_ducks_under_the_voice_and_keeps_the_loudness(
    original: Path, voice: Path, tmp_path: Path
) -> None:
    part = VoicePart(voice, 2000, 3000, (2000, 3200))
    mixed = _mixed(original, [part], tmp_path / "mix.flac", MixOptions(duck_db=-20.0))
    sound, rate = soundfile.read(tmp_path / "mix.flac")
    assert (rate, sound.shape) == (48_000, (288_000, 2))
    gain = 10 ** (mixed.gain_db / 20)
    assert _strength(sound, 1000, 0.2, 1.6) == pytest.approx(0.1 * gain, rel=0.02)
    # The slot goes on after the voice has ended, and so does the ducking.
    assert _strength(sound, 1000, 2.1, 3.1) == pytest.approx(0.01 * gain, rel=0.05)
    assert _strength(sound, 1000, 3.8, 5.8) == pytest.approx(0.1 * gain, rel=0.02)
    assert _strength(sound, 300, 2.1, 2.9) > 0.05
    assert _strength(sound, 300, 4.0, 5.0) < 1e-3
    measured = pyloudnorm.Meter(rate).integrated_loudness(sound)
    assert mixed.lufs == pytest.approx(measured, abs=0.05)
    assert mixed.original_lufs == pytest.approx(measured, abs=0.15)


def test_removes_all_but_what_is_kept(original: Path, voice: Path, tmp_path: Path) -> None:
    part = VoicePart(voice, 1000, 2000, (1000, 2000))
    sounds = layers(original, [part], [(4000, 5000)], MixOptions("remove"))
    mix(original, sounds, [part], 6000, tmp_path / "mix.flac")
    sound, _ = soundfile.read(tmp_path / "mix.flac")
    assert _strength(sound, 1000, 0.2, 0.8) < 1e-4
    assert _strength(sound, 1000, 1.1, 1.9) < 1e-4
    assert _strength(sound, 1000, 4.1, 4.9) > 0.05


def test_beds_stay_and_give_way_to_what_is_kept(
    original: Path, voice: Path, tmp_path: Path
) -> None:
    beds = write_sound(tmp_path / "beds.flac", noise(6.0, 44_100, 1e-3), 44_100)
    sounds = layers(original, [], [(4000, 5000)], MixOptions("keep-beds"), beds)
    mix(original, sounds, [], 6000, tmp_path / "mix.flac")
    sound, _ = soundfile.read(tmp_path / "mix.flac")
    assert _strength(sound, 1000, 1.0, 2.0) < 0.05 * _strength(sound, 1000, 4.1, 4.9)
    with pytest.raises(ConfigError, match="separated first"):
        layers(original, [], [], MixOptions("keep-beds"))


def test_peaks_are_limited_without_a_click(original: Path, tmp_path: Path) -> None:
    # Sharp clicks in a soft voice: the loudness asks for much gain, the peaks forbid it.
    voice = noise(3.0, 48_000, 0.001, channels=1)[:, 0]
    voice[::9600] = 0.9
    path = write_sound(tmp_path / "clicks.wav", voice)
    part = VoicePart(path, 1000, 4000, (1000, 4000))
    mixed = _mixed(original, [part], tmp_path / "mix.flac", MixOptions("remove"))
    sound, _ = soundfile.read(tmp_path / "mix.flac", dtype="float32")
    meter = PeakMeter(48, 2)
    meter.push(sound)
    assert mixed.true_peak_db is not None
    assert mixed.true_peak_db <= -0.9
    assert meter.peaks.max() <= 10 ** (-0.9 / 20)
    assert mixed.gain_db > 6  # otherwise nothing was limited


def test_lines_follow_the_loudness_of_what_they_replace(tmp_path: Path, voice: Path) -> None:
    tone = noise(6.0, level=0.1)
    tone[144_000:] *= 0.5  # the second half is 6 dB softer
    original = write_sound(tmp_path / "two.flac", tone)
    parts = [VoicePart(voice, at, at + 1000, (at, at + 1000)) for at in (1000, 4000)]
    _mixed(original, parts, tmp_path / "mix.flac", MixOptions("remove"))
    sound, _ = soundfile.read(tmp_path / "mix.flac")
    loud, soft = (_strength(sound, 300, at + 0.1, at + 0.9) for at in (1.0, 4.0))
    assert soft / loud == pytest.approx(0.5, rel=0.05)


def test_silence_in_gives_silence_out(tmp_path: Path) -> None:
    original = write_sound(tmp_path / "silent.flac", np.zeros((48_000, 1), np.float32))
    mixed = mix(original, layers(original, [], [], MixOptions()), [], 1500, tmp_path / "mix.flac")
    assert mixed == Mixed(None, None, None, 0.0)
    assert soundfile.info(tmp_path / "mix.flac").frames == 72_000


def test_mono_keeps_its_loudness_on_two_channels(tmp_path: Path) -> None:
    mono = noise(3.0, channels=1)
    path = write_sound(tmp_path / "mono.flac", mono)
    both = np.concatenate(list(stereo_blocks(path)))
    meter = pyloudnorm.Meter(48_000)
    assert meter.integrated_loudness(both) == pytest.approx(
        meter.integrated_loudness(mono), abs=0.01
    )


def test_same_bytes_again(original: Path, voice: Path, tmp_path: Path) -> None:
    part = VoicePart(voice, 1500, 2500, (1500, 2600))
    for name in ("one.flac", "two.flac"):
        _mixed(original, [part], tmp_path / name)
    assert (tmp_path / "one.flac").read_bytes() == (tmp_path / "two.flac").read_bytes()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 2000)), max_size=5),
    st.lists(st.integers(1, 96_000), min_size=1, max_size=4),
)
def test_gains_are_smooth_and_do_not_depend_on_the_blocks(
    spans: list[tuple[int, int]], cuts: list[int]
) -> None:
    envelope = Envelope(tuple((start, start + length) for start, length in spans), 0.1, 1.0)
    whole = envelope.gains(0, 8 * 48_000)
    edges = [0, *np.cumsum(cuts).tolist()]
    parts = [envelope.gains(start, end - start) for start, end in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole[: edges[-1]])
    assert np.abs(np.diff(whole)).max() < 0.9 * 1.6 / (0.12 * 48_000)
    assert whole.min() >= 0.1 - 1e-6
    assert whole.max() <= 1.0
    for start, length in spans:
        inside = whole[start * 48 : (start + length) * 48]
        np.testing.assert_allclose(inside, 0.1, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"original": "quiet"}, {"duck_db": 3.0}, {"duck_db": -90.0}])
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        MixOptions(**wrong)  # type: ignore[arg-type]
