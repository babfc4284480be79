"""A line is spoken, heard back, and said anew where it was not understood."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from assistant.jobs.dub.speak import (
    quiet_ms,
    read_spoken,
    silence_ms,
    speak,
    stretched,
    understood,
)
from assistant.jobs.dub.voices import Said
from audio.spoken_words import SpokenWord
from tests.jobs.dub_samples import VOICE_RATE, Ear, HummingVoice, fitted, line

WORDING = "Good day to you."  # 12 letters: 1.2 s, and 12 ms more with each seed


def _line(seed: int = 3, **own: object) -> object:
    length = round(1200 * (1 + 0.01 * seed))
    return fitted(line(end=2200), WORDING, seed=seed, end_ms=1000 + length, **own)


def test_what_is_understood_at_once_is_kept(tmp_path: Path) -> None:
    ear = Ear(["good day to you"])
    spoken = speak(_line(), HummingVoice(), ear, "en", tmp_path)
    samples, rate = soundfile.read(tmp_path / "voice.au", dtype="float32")
    assert rate == VOICE_RATE
    np.testing.assert_array_equal(samples, HummingVoice().say(WORDING, 1.0, 3).samples)
    assert (spoken.start_ms, spoken.end_ms) == (1000, 2236)
    assert (spoken.back_text, spoken.back_wer, spoken.fitted.seed) == ("good day to you", 0.0, 3)
    assert [word[0] for word in spoken.words] == WORDING.split()
    assert (spoken.words[0][1], spoken.words[-1][2]) == (1000, 2236)
    assert len(ear.sounds) == 1
    # Only greedy decoding gives the same words each time.
    assert (ear.options[0].language, ear.options[0].temperatures) == ("en", (0.0,))
    assert ear.sounds[0].rate == 16_000
    assert read_spoken(tmp_path) == spoken


def test_the_best_of_eight_readings_of_about_the_same_length(tmp_path: Path) -> None:
    ear = Ear(["could they", "good day to", "a day", "no"])
    spoken = speak(_line(), HummingVoice(), ear, "en", tmp_path)
    assert len(ear.sounds) == 8
    assert (spoken.fitted.seed, spoken.back_text) == (0, "good day to")  # the second one heard
    assert spoken.back_wer == 0.25
    samples, _ = soundfile.read(tmp_path / "voice.au", dtype="float32")
    assert len(samples) == HummingVoice().measure(WORDING, 1.0, 0)
    assert spoken.fitted.end_ms == spoken.end_ms == 2200


def test_no_reading_that_ends_elsewhere_is_tried(tmp_path: Path) -> None:
    # Each seed is 12 ms longer: the sixth from the fitted one would end over 60 ms from it.
    ear = Ear(["no"])
    voice = HummingVoice()
    speak(_line(8), voice, ear, "en", tmp_path)
    lengths = [len(sound.samples) for sound in ear.sounds]
    assert len(ear.sounds) == 8
    assert max(abs(length - lengths[0]) for length in lengths) <= 0.06 * 16_000 + 1
    # Where the next line follows at once, nothing may end later than the fitted one.
    ear = Ear(["no"])
    near = fitted(line(end=2200, free=0), WORDING, seed=0, end_ms=2200)
    speak(near, voice, ear, "en", tmp_path)
    assert len(ear.sounds) == 1


def test_stretched_only_where_it_is_asked_for(tmp_path: Path) -> None:
    shorter = fitted(line(end=2080), WORDING, stretch=0.9, end_ms=2080)
    spoken = speak(shorter, HummingVoice(), Ear([WORDING]), "en", tmp_path)
    assert spoken.end_ms == 2080
    assert spoken.words[-1][2] == 2080
    assert soundfile.info(tmp_path / "voice.au").frames == round(1.2 * VOICE_RATE * 0.9)


def test_pauses_where_it_is_asked_to(tmp_path: Path) -> None:
    text = "Good day, to you."
    slow = fitted(line(end=2600), text, added_pause_ms=400, end_ms=2600)
    ear = Ear(["no"])
    spoken = speak(slow, HummingVoice(), ear, "en", tmp_path)
    assert spoken.end_ms == spoken.fitted.end_ms == 2600 and spoken.fitted.added_pause_ms == 400
    day, to = spoken.words[1:3]
    assert day[2] == to[1] and day[2] - day[1] > 400
    assert len(ear.sounds) == 6 and {len(sound.samples) for sound in ear.sounds} >= {25_600}
    # The other readings pause as long.
    assert min(len(sound.samples) for sound in ear.sounds) == 25_600


@given(st.floats(0.9, 1.1), st.integers(6000, 12_000))
def test_stretch_is_exact_and_keeps_the_pitch(factor: float, count: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(count) / VOICE_RATE).astype(np.float32)
    said = Said(0.5 * tone, (SpokenWord("la", 0, count),))
    made = stretched(said, factor, VOICE_RATE)
    assert len(made.samples) == round(count * factor)
    assert made.words[0].end == round(count * factor)
    inner = made.samples[len(made.samples) // 4 : -len(made.samples) // 4]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)), 1 << 16))
    assert np.argmax(spectrum) * VOICE_RATE / (1 << 16) == pytest.approx(440, abs=15)
    assert stretched(said, 1.0, VOICE_RATE) is said


def test_numbers_in_a_row_may_be_written_as_one() -> None:
    assert understood("1, 2, 3 and 10.", "12310", "en") == (0, 5)
    assert understood("1 2 3 go", "1-2-3 go", "en")[0] == 0
    assert understood("1 2 3 go", "124 go", "en")[0] == 1
    assert understood("How are you?", "how are", "en") == (1, 3)


def test_silence_in_a_slot() -> None:
    rate = 16_000
    sound = np.zeros(rate * 2, np.float32)
    sound[: rate // 2] = 0.1  # 0 to 0.5 s
    sound[rate * 6 // 10 : rate] = 0.1  # a gap of 0.1 s is none
    sound[rate * 14 // 10 : rate * 16 // 10] = 0.1  # one of 0.4 s is
    assert silence_ms(sound, rate, 0, 2000) == 400 + 400
    assert silence_ms(sound, rate, 0, 1000) == 0
    assert silence_ms(sound, rate, 100, 1000) == 100  # begins late
    assert silence_ms(np.zeros(rate, np.float32), rate, 0, 700) == 700
    assert silence_ms(np.zeros(0, np.float32), rate, 0, 700) == 700


@given(st.lists(st.integers(0, 299), unique=True).map(sorted), st.integers(1, 3000))
def test_silence_is_never_more_than_the_slot(steps: list[int], slot: int) -> None:
    quiet = quiet_ms([10 * step for step in steps], slot)
    inside = sum(10 * step < slot for step in steps)
    assert 0 <= quiet <= max(0, slot - 10 * inside) + 10
