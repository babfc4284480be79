import io
from collections.abc import Iterator

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.encode import PCM_RATE, SoundFormat, encode_blocks, sound_encoder
from audio.errors import AudioError
from audio.pcm import Samples, to_pcm16
from audio.resample import resample

RATE = 22_050


def tones(seconds: float, rate: int = RATE) -> Samples:
    """A melody with a fade, so that a shift or a change of rate is seen."""
    t = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * 300 * t) + 0.5 * np.sin(2 * np.pi * (500 * t + 200 * t**2))
    return (0.3 * wave * np.minimum(1, 4 * t)).astype(np.float32)


def blocks(samples: Samples, sizes: list[int]) -> Iterator[Samples]:
    start = 0
    for size in sizes:
        yield samples[start : start + size]
        start += size
    yield samples[start:]


def decoded(data: bytes, form: SoundFormat) -> tuple[Samples, int]:
    """What another program hears."""
    if form is SoundFormat.PCM:
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, PCM_RATE
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    assert {len(frame.layout.channels) for frame in frames} == {1}
    planar = av.AudioResampler(format="fltp")
    parts = [part.to_ndarray()[0] for frame in frames for part in planar.resample(frame)]
    return np.concatenate(parts), frames[0].sample_rate


def best_match(heard: Samples, meant: Samples, most: int) -> float:
    """The highest correlation of the two over shifts up to `most` samples."""
    length = len(meant) - most
    shifts = (heard[at : at + length] for at in range(most) if at + length <= len(heard))
    return max(float(np.corrcoef(part, meant[:length])[0, 1]) for part in shifts)


@pytest.mark.parametrize("form", SoundFormat)
@pytest.mark.parametrize("rate", [16_000, RATE])
def test_what_is_decoded_is_what_was_encoded(form: SoundFormat, rate: int) -> None:
    sound = tones(1.5, rate)

    heard, heard_rate = decoded(
        b"".join(encode_blocks(blocks(sound, [100] * 40), form, rate)), form
    )

    # MP3 and AAC pad the start and the end to whole frames of up to 1,152 samples.
    padded = form in (SoundFormat.MP3, SoundFormat.AAC)
    spare = 3 * 1152 / heard_rate if padded else 1 / heard_rate
    assert abs(len(heard) / heard_rate - 1.5) <= spare
    meant = resample(sound, rate, heard_rate)
    assert best_match(heard, meant, 2500 if padded else 1) > (0.97 if padded else 0.99)


@pytest.mark.parametrize("form", [SoundFormat.WAV, SoundFormat.FLAC])
def test_lossless_formats_lose_nothing(form: SoundFormat) -> None:
    sound = tones(0.5)

    data = b"".join(encode_blocks([sound], form, RATE))
    heard, _ = decoded(data, form)

    assert np.array_equal(np.rint(heard * 32768), to_pcm16(sound))
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        again = [file.read(1000, dtype="int16") for _ in range(11)]
    assert np.array_equal(np.concatenate(again), to_pcm16(sound)[:11_000])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=8), st.sampled_from(list(SoundFormat)))
def test_the_sound_does_not_depend_on_how_it_is_cut(sizes: list[int], form: SoundFormat) -> None:
    sound = tones(0.4)

    whole, _ = decoded(b"".join(encode_blocks([sound], form, RATE)), form)
    cut, _ = decoded(b"".join(encode_blocks(blocks(sound, sizes), form, RATE)), form)

    # A resampler's sums differ in their last bits, and a codec makes more of that.
    lossy = form in (SoundFormat.MP3, SoundFormat.OPUS, SoundFormat.AAC)
    assert len(whole) == len(cut)
    assert np.abs(whole - cut).max() < (0.02 if lossy else 1e-4)


@pytest.mark.parametrize("form", SoundFormat)
def test_bytes_come_before_the_sound_has_ended(form: SoundFormat) -> None:
    encoder = sound_encoder(form, RATE)

    begun = encoder.push(tones(0.3))

    assert begun
    assert encoder.finish() or form in (SoundFormat.WAV,)


@pytest.mark.parametrize("form", SoundFormat)
def test_loud_sound_is_clipped_and_not_wrapped(form: SoundFormat) -> None:
    loud = 3 * np.sign(np.sin(np.arange(RATE) / 30)).astype(np.float32)

    heard, _ = decoded(b"".join(encode_blocks([loud], form, RATE)), form)

    assert np.abs(heard).max() < 1.7  # codecs overshoot at edges
    assert np.median(np.abs(heard)) > 0.8


@pytest.mark.parametrize("form", [f for f in SoundFormat if f is not SoundFormat.PCM])
def test_no_sound_is_still_a_file(form: SoundFormat) -> None:
    data = b"".join(encode_blocks([], form, RATE))

    with av.open(io.BytesIO(data)) as container:
        assert len(container.streams.audio) == 1


def test_every_format_has_a_media_type_and_unknown_ones_are_refused() -> None:
    assert {form.media_type.partition("/")[0] for form in SoundFormat} == {"audio"}
    with pytest.raises(ValueError, match="wma"):
        SoundFormat("wma")
    with pytest.raises(AudioError, match="rate"):
        sound_encoder(SoundFormat.WAV, 0)
