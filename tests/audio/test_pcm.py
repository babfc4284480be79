import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.errors import AudioError
from audio.pcm import Sound, from_pcm16, join, resample, resample_blocks, silence, to_pcm16


def tone(hz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(44_100, 16_000), (48_000, 16_000), (16_000, 22_050), (8_000, 16_000)]
)
def test_a_tone_keeps_its_pitch_phase_and_level(rate_in: int, rate_out: int) -> None:
    got = resample(tone(1000, rate_in), rate_in, rate_out)
    assert len(got) == rate_out
    middle = slice(rate_out // 4, -rate_out // 4)
    np.testing.assert_allclose(got[middle], tone(1000, rate_out)[middle], atol=2e-5)


def test_what_is_above_the_new_band_is_gone() -> None:
    got = resample(tone(9000, 44_100), 44_100, 16_000)
    assert np.abs(got[2000:-2000]).max() < 1e-5


def test_an_odd_rate_is_taken_as_a_near_one() -> None:
    got = resample(tone(440, 44_101), 44_101, 16_000)
    assert len(got) == 16_000
    np.testing.assert_allclose(got[4000:8000], tone(440, 16_000)[4000:8000], atol=0.02)


def test_rates_without_a_common_scale_are_refused() -> None:
    with pytest.raises(AudioError, match="within a factor"):
        resample(tone(1, 10), 1, 16_000)


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 40_000), max_size=12),
    rates=st.sampled_from([(44_100, 16_000), (48_000, 16_000), (22_050, 16_000), (16_000, 48_000)]),
)
def test_chunked_equals_whole(sizes: list[int], rates: tuple[int, int]) -> None:
    whole = np.random.default_rng(sum(sizes)).uniform(-1, 1, sum(sizes)).astype(np.float32)
    blocks = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    pieces = list(resample_blocks(blocks, *rates))
    got = np.concatenate(pieces) if pieces else whole
    want = resample(whole, *rates)
    assert len(got) == len(want) == -(-len(whole) * rates[1] // rates[0])
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_long_sound_is_cut_into_blocks_that_fit_together() -> None:
    sound = tone(700, 48_000, 20)
    got = resample(sound, 48_000, 16_000)
    np.testing.assert_allclose(got[500:-500], tone(700, 16_000, 20)[500:-500], atol=2e-5)


def test_equal_rates_change_nothing() -> None:
    sound = tone(500, 16_000)
    assert resample(sound, 16_000, 16_000) is sound
    assert [len(b) for b in resample_blocks([sound, sound[:0]], 8000, 8000)] == [16_000]


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
