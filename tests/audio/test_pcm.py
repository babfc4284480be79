import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.errors import AudioError
from audio.pcm import Sound, from_pcm16, join, silence, to_pcm16


@given(st.lists(st.integers(-32768, 32767)))
def test_pcm16_round_trip_changes_no_bit(values: list[int]) -> None:
    pcm = np.array(values, np.int16)
    np.testing.assert_array_equal(to_pcm16(from_pcm16(pcm)), pcm)
    np.testing.assert_array_equal(from_pcm16(pcm.astype("<i2").tobytes()), from_pcm16(pcm))


def test_pcm16_clips() -> None:
    np.testing.assert_array_equal(
        to_pcm16(np.array([2.0, -2.0, 1.0], np.float32)), [32767, -32768, 32767]
    )


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 3), np.float32), "mono samples of shape"),
        (np.zeros(3, np.int16), "use from_pcm16"),
        (np.zeros(3), "float64"),
        (np.array([0, np.nan], np.float32), "NaN or infinity"),
        (np.array([0, np.inf], np.float32), "NaN or infinity"),
        (np.array([3000, -20000], np.float32), "peak of 20000"),
        ([0.0], "NumPy array"),
    ],
)
def test_what_is_not_sound_is_refused(samples: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        Sound(samples)


@pytest.mark.parametrize("rate", [0, -1, 16000.5, True])
def test_a_bad_rate_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        Sound(np.zeros(1, np.float32), rate)


def test_silence_and_duration() -> None:
    sound = silence(0.5, 8000)
    assert (len(sound.samples), sound.duration_s, sound.samples.any()) == (4000, 0.5, False)
    with pytest.raises(AudioError, match="length"):
        silence(-1)


@pytest.mark.parametrize("pcm", [b"\x00", np.zeros(2, np.float32)])
def test_bad_pcm_is_refused(pcm: bytes) -> None:
    with pytest.raises(AudioError, match="16"):
        from_pcm16(pcm)


def test_join_puts_sounds_one_after_the_other() -> None:
    first, second = Sound(np.ones(3, np.float32), 8000), Sound(np.zeros(2, np.float32), 8000)
    joined = join([first, second])
    assert joined.samples.tolist() == [1, 1, 1, 0, 0]
    assert joined.rate == 8000
    with pytest.raises(AudioError, match=r"rates \[8000, 16000\]"):
        join([first, Sound(np.zeros(1, np.float32), 16_000)])
    with pytest.raises(AudioError, match="one or more"):
        join([])
