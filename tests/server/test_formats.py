from base64 import b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.server.realtime.choices import AudioFormat, PcmaFormat, PcmFormat, PcmuFormat
from assistant.server.realtime.formats import (
    AudioIn,
    AudioOut,
    bytes_per_sample,
    from_base64,
    milliseconds,
    rate_of,
    to_base64,
)
from assistant.server.realtime.wire import WireError
from audio.codecs import from_alaw, from_mulaw
from audio.pcm import Samples, from_pcm16
from audio.resample import resample

PCM, MULAW, ALAW = PcmFormat(), PcmuFormat(type="audio/pcmu"), PcmaFormat(type="audio/pcma")
FORMATS = [PCM, MULAW, ALAW]
DECODED = {"audio/pcm": from_pcm16, "audio/pcmu": from_mulaw, "audio/pcma": from_alaw}


def tone(rate: int, seconds: float, hertz: float = 440.0) -> Samples:
    times = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def parts(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@given(
    st.sampled_from(FORMATS),
    st.binary(min_size=2, max_size=4000).filter(lambda data: len(data) % 2 == 0),
    st.lists(st.integers(0, 4000), max_size=12),
)
def test_input_split_anywhere_equals_the_whole(
    format: AudioFormat, data: bytes, cuts: list[int]
) -> None:
    stream = AudioIn(format)
    got = [stream.push(b64encode(part).decode()) for part in parts(data, cuts)]
    whole = resample(DECODED[format.type](data), rate_of(format), 16000)
    np.testing.assert_allclose(np.concatenate([*got, stream.finish()]), whole, atol=1e-6)


@given(
    st.sampled_from(FORMATS),
    st.integers(0, 5000),
    st.lists(st.integers(0, 5000), max_size=12),
)
def test_output_split_anywhere_equals_the_whole(
    format: AudioFormat, length: int, cuts: list[int]
) -> None:
    samples = tone(22050, 0.25)[:length]
    stream = AudioOut(format, 22050)
    ends = sorted({min(cut, len(samples)) for cut in cuts} | {len(samples)})
    got = b"".join(stream.push(samples[a:b]) for a, b in zip([0, *ends], ends, strict=False))
    got += stream.finish()
    whole = AudioOut(format, 22050)
    expected = DECODED[format.type](whole.push(samples) + whole.finish())
    # A sum in another order may fall on the other side of a step.
    step = 1 / 32768 if format is PCM else 0.04
    np.testing.assert_allclose(DECODED[format.type](got), expected, atol=step * 1.01)
    assert len(got) == -(-len(samples) * rate_of(format) // 22050) * bytes_per_sample(format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_tone_comes_through_both_ways(format: AudioFormat) -> None:
    out = AudioOut(format, 22050)
    data = out.push(tone(22050, 0.5)) + out.finish()
    stream = AudioIn(format)
    heard = np.concatenate([stream.push(to_base64(data)), stream.finish()])
    expected = tone(16000, 0.5)
    middle = slice(1000, 7000)
    noise = heard[middle] - expected[middle]
    loss_db = 10 * np.log10(np.mean(expected[middle] ** 2) / np.mean(noise**2))
    assert loss_db > (60 if format is PCM else 30)
    assert milliseconds(len(data), format) == 500


def test_half_a_sample_waits_and_is_named_at_the_end() -> None:
    stream = AudioIn(PCM)
    stream.push(to_base64(b"\x00" * 1001))
    with pytest.raises(WireError, match="odd number of bytes") as caught:
        stream.finish()
    assert caught.value.code == "invalid_audio"
    first = stream.push(to_base64(b"\x00"))
    assert len(first) + len(stream.finish()) > 0


def test_a_cleared_stream_starts_anew() -> None:
    stream, fresh = AudioIn(PCM), AudioIn(PCM)
    stream.push(to_base64(b"\x11" * 1001))
    stream.clear()
    data = to_base64(tone(24000, 0.1).tobytes())
    np.testing.assert_array_equal(stream.push(data), fresh.push(data))


@pytest.mark.parametrize(
    "text", ["ä", "A", "AA=A", "AAAA\nAAAA", "!!!!", "AA", "data:;base64,AA=="]
)
def test_what_is_not_base64_is_refused_and_forgotten(text: str) -> None:
    stream = AudioIn(MULAW)
    with pytest.raises(WireError, match="base64") as caught:
        stream.push(text)
    assert (caught.value.code, caught.value.param) == ("invalid_audio", "audio")
    assert len(stream.finish()) == 0


def test_base64_round_trip() -> None:
    assert from_base64(to_base64(b"\x00\xff")) == b"\x00\xff"
    assert from_base64("") == b""
