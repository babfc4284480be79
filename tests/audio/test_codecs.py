import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.codecs import Encoding, SampleDecoder, from_alaw, from_mulaw
from audio.errors import AudioError
from audio.pcm import from_pcm16

ALL_CODES = bytes(range(256))
WHOLE = {"pcm16": from_pcm16, "mulaw": from_mulaw, "alaw": from_alaw}


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_every_code_is_what_ffmpeg_says(encoding: str) -> None:
    decoder = av.CodecContext.create(f"pcm_{encoding}", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(ALL_CODES))
    got = WHOLE[encoding](ALL_CODES)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, from_pcm16(frame.to_ndarray()[0]))


def test_the_ends_of_the_tables_of_g711() -> None:
    # Tables 1a and 2a: 4,032 of 4,096 and 8,031 of 8,192 are the largest values, and silence.
    np.testing.assert_array_equal(from_alaw(b"\xaa\x2a\xd5") * 4096, [4032, -4032, 1])
    np.testing.assert_array_equal(from_mulaw(b"\x80\x00\xff") * 8192, [8031, -8031, 0])


@given(st.sampled_from(Encoding), st.binary(max_size=600), st.lists(st.integers(0, 600)))
def test_split_anywhere_equals_whole(encoding: Encoding, data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    parts = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    decoder = SampleDecoder(encoding)
    got = np.concatenate([decoder.push(part) for part in parts])
    whole = len(data) // 2 * 2 if encoding is Encoding.PCM16 else len(data)
    np.testing.assert_array_equal(got, WHOLE[encoding](data[:whole]))
    if whole == len(data):
        decoder.finish()
    else:
        with pytest.raises(AudioError, match="odd number of bytes"):
            decoder.finish()


def test_a_split_sample_waits_for_its_second_byte() -> None:
    decoder = SampleDecoder(Encoding.PCM16)
    assert decoder.push(b"\x00").size == 0
    assert decoder.push(b"").size == 0
    assert decoder.push(b"\x40\x00").tolist() == [0.5]
    assert decoder.push(b"\xc0").tolist() == [-0.5]
    decoder.finish()


def test_other_views_of_bytes_are_bytes() -> None:
    for data in (bytearray(b"\x00\x40"), memoryview(b"\x00\x40")):
        assert SampleDecoder(Encoding.PCM16).push(data).tolist() == [0.5]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_what_is_not_bytes_is_refused(encoding: Encoding) -> None:
    for wrong in ("text", np.zeros(2, np.int16), None):
        with pytest.raises(AudioError, match="as bytes"):
            SampleDecoder(encoding).push(wrong)  # type: ignore[arg-type]


def test_an_encoding_may_come_as_its_name() -> None:
    assert SampleDecoder("alaw").encoding is Encoding.ALAW  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="pcm16, mulaw, alaw, got 'opus'"):
        SampleDecoder("opus")  # type: ignore[arg-type]
