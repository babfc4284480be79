import subprocess
import sys
from collections.abc import Iterable
from math import ceil, floor, log10, pi

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

import audio.resample
from audio.errors import AudioError
from audio.resample import Resampler, resample, resample_blocks

# Common rates, and some whose ratio to 16 kHz has long terms: these are interpolated.
LIVE_RATES = [8000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000]
ODD_RATES = [8001, 44_101, 47_987]


def tone(hz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def torchaudios(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """The same design there; in float64, for its default rounds the times to float32."""
    convert = torchaudio.transforms.Resample(
        rate_in,
        rate_out,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=48,
        rolloff=0.945,
        beta=12.0,
        dtype=torch.float64,
    )
    return convert(torch.from_numpy(samples).double()).numpy()


def decibels(samples: np.ndarray) -> float:
    """The level of a tone's middle, where 0 is the level of ``tone``."""
    middle = samples[len(samples) // 4 : -len(samples) // 4].astype(np.float64)
    return 10 * log10(max(8 * float(np.mean(middle**2)), 1e-20))


def streamed(samples: np.ndarray, sizes: Iterable[int], rates: tuple[int, int]) -> np.ndarray:
    """Pushed in chunks of these sizes and then one more, each output as early as it can be."""
    stream, pieces, start = Resampler.between(*rates).stream(), [], 0
    for size in [*sizes, len(samples)]:
        pieces.append(stream.push(samples[start : start + size]))
        start += size
    return np.concatenate([*pieces, stream.finish()])


@pytest.mark.parametrize("rate_in", LIVE_RATES)
def test_whole_equals_torchaudio(rate_in: int) -> None:
    samples = noise(rate_in // 2 + 77)
    got = resample(samples, rate_in, 16_000)
    np.testing.assert_allclose(got, torchaudios(samples, rate_in, 16_000), atol=2e-6, rtol=0)


@pytest.mark.parametrize("rate_out", [22_050, 24_000, 48_000])
def test_other_rates_out_equal_torchaudio(rate_out: int) -> None:
    samples = noise(8000)
    got = resample(samples, 16_000, rate_out)
    np.testing.assert_allclose(got, torchaudios(samples, 16_000, rate_out), atol=2e-6, rtol=0)


@pytest.mark.parametrize("rate_in", [8000, 44_100, 48_000])
def test_interpolated_filters_equal_torchaudio(
    rate_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio.resample, "_TILED_TERMS", 0)
    design = audio.resample._design.__wrapped__(rate_in, 16_000)
    samples = noise(rate_in // 2)
    stream = design.stream()
    got = np.concatenate([stream.push(samples), stream.finish()])
    np.testing.assert_allclose(got, torchaudios(samples, rate_in, 16_000), atol=3e-6, rtol=0)


@pytest.mark.parametrize("rate_in", [22_050, 44_100, 48_000])
def test_speech_band_equals_soxr(rate_in: int) -> None:
    soxr = pytest.importorskip("soxr")
    # Noise up to 6 kHz, where both filters are flat: made by taking the rest out of a spectrum.
    spectrum = np.fft.rfft(noise(rate_in))
    spectrum[6000:] = 0
    samples = np.fft.irfft(spectrum, rate_in).astype(np.float32)
    got = resample(samples, rate_in, 16_000)
    want = soxr.resample(samples, rate_in, 16_000, quality="VHQ")
    np.testing.assert_allclose(got[2000:-2000], want[2000:-2000], atol=2e-4)


@pytest.mark.parametrize("rate_in", LIVE_RATES + ODD_RATES)
def test_a_tone_keeps_its_pitch_phase_and_level(rate_in: int) -> None:
    got = resample(tone(1000, rate_in), rate_in, 16_000)
    assert len(got) == 16_000
    middle = slice(4000, -4000)
    np.testing.assert_allclose(got[middle], tone(1000, 16_000)[middle], atol=2e-5)


def test_an_odd_rate_does_not_drift() -> None:
    got = resample(tone(1000, 47_987, 60), 47_987, 16_000)
    np.testing.assert_allclose(got[-8000:-400], tone(1000, 16_000, 60)[-8000:-400], atol=2e-5)


@pytest.mark.parametrize("rate_in", LIVE_RATES + ODD_RATES)
def test_the_pass_band_is_flat(rate_in: int) -> None:
    for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.875):
        hz = share * min(rate_in, 16_000) / 2
        assert abs(decibels(resample(tone(hz, rate_in), rate_in, 16_000))) < 0.05, hz


@pytest.mark.parametrize("rate_in", [24_000, 44_100, 48_000, 44_101])
def test_what_is_above_the_new_band_is_gone(rate_in: int) -> None:
    for hz in np.linspace(8250, rate_in / 2 - 100, 12):
        assert decibels(resample(tone(hz, rate_in), rate_in, 16_000)) < -100, hz


@pytest.mark.parametrize("rate_in", [8000, 8001, 11_025])
def test_a_low_rate_has_no_images(rate_in: int) -> None:
    hz = 0.85 * rate_in / 2
    got = resample(tone(hz, rate_in), rate_in, 16_000)
    window = np.hanning(8000)
    spectrum = np.abs(np.fft.rfft(got[4000:12_000] * window)) / (0.25 * window.sum())
    assert spectrum[ceil(rate_in / 4) + 20 :].max() < 1e-5  # bins of 2 Hz


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 50_000), max_size=5),
    rates=st.one_of(
        st.tuples(st.sampled_from(LIVE_RATES + ODD_RATES), st.just(16_000)),
        st.sampled_from([(16_000, 22_050), (16_000, 48_000), (16_000, 16_000)]),
    ),
    extra=st.integers(0, 500),
)
def test_chunked_equals_whole(sizes: list[int], rates: tuple[int, int], extra: int) -> None:
    whole = noise(sum(sizes) + extra, extra)
    got, want = streamed(whole, sizes, rates), resample(whole, *rates)
    assert got.dtype == want.dtype == np.float32
    assert len(got) == len(want) == -(-len(whole) * rates[1] // rates[0])
    np.testing.assert_allclose(got, want, atol=2e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=200),
    rate_in=st.sampled_from(LIVE_RATES + ODD_RATES),
)
def test_tiny_chunks_equal_whole(sizes: list[int], rate_in: int) -> None:
    whole = noise(3000, len(sizes))
    got, want = streamed(whole, sizes, (rate_in, 16_000)), resample(whole, rate_in, 16_000)
    np.testing.assert_allclose(got, want, atol=2e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(8000, 48_000), st.integers(0, 4000))
def test_any_live_rate_works(rate_in: int, count: int) -> None:
    samples = tone(500, rate_in, 1)[:count]
    got = resample(samples, rate_in, 16_000)
    assert len(got) == -(-count * 16_000 // rate_in)
    np.testing.assert_allclose(got[250:-250], tone(500, 16_000)[: len(got)][250:-250], atol=2e-5)


@pytest.mark.parametrize("rate_in", LIVE_RATES + ODD_RATES)
def test_each_output_comes_as_early_as_it_can(rate_in: int) -> None:
    stream = Resampler.between(rate_in, 16_000).stream()
    width = stream.filter.width
    assert width == ceil(48 / (0.945 * min(1, 16_000 / rate_in)))
    received = sent = 0
    for size in [width, 1, 0, 7, 300, 1000]:
        out = stream.push(noise(size))
        received, sent = received + size, sent + len(out)
        # The next output's time, and the last input on which it depends.
        assert floor(sent * rate_in / 16_000) + width >= received
        assert sent == 0 or floor((sent - 1) * rate_in / 16_000) + width < received


def test_what_was_sent_does_not_depend_on_what_follows() -> None:
    for rate_in in (44_100, 48_000, 44_101):
        first, loud = noise(5000), np.ones(5000, np.float32)
        one, two = (Resampler.between(rate_in, 16_000).stream() for _ in range(2))
        sent = one.push(first)
        whole = two.push(np.concatenate([first, loud]))
        np.testing.assert_allclose(sent, whole[: len(sent)], atol=2e-6)


@pytest.mark.parametrize("rate_in", [8000, 44_100, 48_000, 44_101])
def test_the_state_stays_small(rate_in: int) -> None:
    stream = Resampler.between(rate_in, 16_000).stream()
    limit = 2 * stream.filter.width + stream.filter.step_in
    for size in [1, 500_000, 3, 0, 70_000, *[160] * 200]:
        stream.push(noise(size))
        assert len(stream._tail) <= limit
        assert stream._tail.base is None, "a view would hold the whole chunk"


def test_streams_share_a_filter_and_nothing_else() -> None:
    one, two = (Resampler.between(48_000, 16_000).stream() for _ in range(2))
    assert one.filter is two.filter
    samples, other = noise(4000, 1), noise(4000, 2)
    mixed = [
        (one.push(samples[i : i + 500]), two.push(other[i : i + 500])) for i in range(0, 4000, 500)
    ]
    got = [
        np.concatenate(pieces) for pieces in zip(*mixed, (one.finish(), two.finish()), strict=True)
    ]
    np.testing.assert_allclose(got[0], resample(samples, 48_000, 16_000), atol=2e-6)
    np.testing.assert_allclose(got[1], resample(other, 48_000, 16_000), atol=2e-6)


def test_equal_rates_change_nothing() -> None:
    sound = tone(500, 16_000)
    assert resample(sound, 16_000, 16_000) is sound
    assert [len(b) for b in resample_blocks([sound, sound[:0]], 8000, 8000)] == [16_000]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 40_000), max_size=8), st.sampled_from([22_050, 48_000, 16_000]))
def test_blocks_equal_whole(sizes: list[int], rate_in: int) -> None:
    whole = noise(sum(sizes))
    blocks = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    pieces = [np.zeros(0, np.float32), *resample_blocks(blocks, rate_in, 16_000)]
    want = resample(whole, rate_in, 16_000)
    np.testing.assert_allclose(np.concatenate(pieces), want, atol=2e-6)


def test_a_block_of_integers_among_others_is_refused() -> None:
    blocks = [noise(100), np.zeros(100, np.int16)]
    with pytest.raises(AudioError, match="use from_pcm16"):
        list(resample_blocks(blocks, 48_000, 16_000))


def test_no_samples_give_none() -> None:
    assert resample(np.zeros(0, np.float32), 48_000, 16_000).shape == (0,)
    assert Resampler.between(44_101, 16_000).stream().finish().shape == (0,)


@pytest.mark.parametrize("rates", [(48_000, 16_000), (44_101, 16_000), (16_000, 16_000)])
@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.array([0, np.nan], np.float32), "NaN or infinity"),
        (np.array([0, -np.inf], np.float32), "NaN or infinity"),
        (np.zeros(3, np.int16), "use from_pcm16"),
        (np.zeros((2, 3), np.float32), "mono samples of shape"),
        (np.array([3000.0], np.float32), "peak of 3000"),
        ([0.0], "NumPy array"),
    ],
)
def test_a_bad_chunk_is_refused_and_changes_nothing(
    rates: tuple[int, int], chunk: np.ndarray, message: str
) -> None:
    samples = noise(2000)
    stream = Resampler.between(*rates).stream()
    pieces = [stream.push(samples[:1000])]
    with pytest.raises(AudioError, match=message):
        stream.push(chunk)
    pieces += [stream.push(samples[1000:]), stream.finish()]
    np.testing.assert_allclose(np.concatenate(pieces), resample(samples, *rates), atol=2e-6)


def test_a_finished_stream_takes_no_more() -> None:
    stream = Resampler.between(48_000, 16_000).stream()
    stream.finish()
    with pytest.raises(AudioError, match="after finish"):
        stream.push(noise(3))
    with pytest.raises(AudioError, match="finish\\(\\) once"):
        stream.finish()


@pytest.mark.parametrize("rate", [0, -1, 16000.0, True, None])
def test_a_bad_rate_is_refused(rate: int) -> None:
    Resampler.between(16_000, 16_000)  # remembered, and equal to 16000.0
    for rates in ((rate, 16_000), (16_000, rate)):
        with pytest.raises(AudioError, match="positive whole number of Hz"):
            Resampler.between(*rates)


def test_rates_too_far_apart_are_refused() -> None:
    with pytest.raises(AudioError, match="within a factor"):
        resample(tone(1, 10), 1, 16_000)


def test_live_sound_needs_no_torch() -> None:
    code = (
        "import sys, audio.media, audio.resample, audio.codecs; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
