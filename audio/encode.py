"""Sound as bytes for sending: WAV, raw PCM, FLAC, MP3, Opus and AAC, encoded as it comes."""

import struct
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Protocol

import av
import numpy as np

from audio.errors import AudioError
from audio.pcm import Samples, check_rate, to_pcm16
from audio.resample import Resampler, StreamResampler

#: Raw PCM has no header, so its rate is agreed on: that of OpenAI's API.
PCM_RATE = 24_000
_OPUS_RATE = 48_000
#: What MP3 (MPEG-1, 2 and 2.5, layer III) and AAC can have, in Hz; other sound is resampled.
_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AAC_RATES = (*_MP3_RATES, 64_000, 88_200, 96_000)
_FLAC_BLOCK = 4096
#: The length in a WAV header while the sound is still being made: the largest there is.
_UNKNOWN = 0xFFFFFFFF


class SoundFormat(StrEnum):
    """What sound can be encoded as; the names are OpenAI's."""

    WAV = "wav"
    PCM = "pcm"
    FLAC = "flac"
    MP3 = "mp3"
    OPUS = "opus"
    AAC = "aac"

    @property
    def media_type(self) -> str:
        """The MIME type of the bytes."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    SoundFormat.WAV: "audio/wav",
    SoundFormat.PCM: f"audio/pcm;rate={PCM_RATE}",
    SoundFormat.FLAC: "audio/flac",
    SoundFormat.MP3: "audio/mpeg",
    SoundFormat.OPUS: "audio/ogg;codecs=opus",
    SoundFormat.AAC: "audio/aac",
}


class SoundEncoder(Protocol):
    """Encodes one stream of mono sound."""

    def push(self, samples: Samples) -> bytes:
        """The bytes that are certain with these samples (n,) float32, possibly none."""
        ...

    def finish(self) -> bytes:
        """The rest; the encoder takes no more samples."""
        ...


def sound_encoder(form: SoundFormat, rate: int) -> SoundEncoder:
    """An encoder for one stream of mono sound at `rate` Hz; AudioError if there is no such form.

    The bytes of a format joined are a file of it. Nobody can go back to write its length into the
    header: players find it by reading on. WAV and FLAC keep the rate, PCM is at 24 kHz, the others
    take the nearest rate that they can have above it.
    """
    check_rate(rate)
    match SoundFormat(form):
        case SoundFormat.WAV:
            return WavEncoder(rate)
        case SoundFormat.PCM:
            return _Resampled(_Raw(), rate, PCM_RATE)
        case SoundFormat.FLAC:
            return _AvEncoder("flac", "flac", "s16", rate)
        case SoundFormat.MP3:
            goal = _rate_above(rate, _MP3_RATES)
            return _Resampled(_AvEncoder("mp3", "libmp3lame", "fltp", goal, 96_000), rate, goal)
        case SoundFormat.OPUS:
            encoder = _AvEncoder("ogg", "libopus", "flt", _OPUS_RATE, 48_000)
            return _Resampled(encoder, rate, _OPUS_RATE)
        case SoundFormat.AAC:
            goal = _rate_above(rate, _AAC_RATES)
            return _Resampled(_AvEncoder("adts", "aac", "fltp", goal, 96_000), rate, goal)


def encode_blocks(blocks: Iterable[Samples], form: SoundFormat, rate: int) -> Iterator[bytes]:
    """Encode a sequence of blocks (n_i,) at `rate` Hz; the pieces joined are one file."""
    encoder = sound_encoder(form, rate)
    for block in blocks:
        if data := encoder.push(block):
            yield data
    if data := encoder.finish():
        yield data


class WavEncoder:
    """PCM16 after a header that says the length is not known, as recorders write it to a pipe."""

    def __init__(self, rate: int) -> None:
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
        riff = struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE")
        self._header = riff + form + struct.pack("<4sI", b"data", _UNKNOWN)

    def push(self, samples: Samples) -> bytes:
        """The samples' bytes, after the header at first."""
        header, self._header = self._header, b""
        return header + _pcm_bytes(samples)

    def finish(self) -> bytes:
        """The header, if there was no sound at all."""
        return self.push(np.zeros(0, np.float32))


class _Raw:
    """PCM16 alone."""

    def push(self, samples: Samples) -> bytes:
        return _pcm_bytes(samples)

    def finish(self) -> bytes:
        return b""


class _Resampled:
    """Another encoder, which wants another rate."""

    def __init__(self, encoder: SoundEncoder, rate: int, goal: int) -> None:
        self._encoder = encoder
        self._stream: StreamResampler = Resampler.between(rate, goal).stream()

    def push(self, samples: Samples) -> bytes:
        return self._encoder.push(self._stream.push(samples))

    def finish(self) -> bytes:
        return self._encoder.push(self._stream.finish()) + self._encoder.finish()


class _Growing:
    """A file for FFmpeg that is taken away from its front; it cannot go back in it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class _AvEncoder:
    """One of FFmpeg's encoders in one of its containers, written as a stream."""

    def __init__(
        self, container: str, codec: str, layout: str, rate: int, bit_rate: int | None = None
    ) -> None:
        self._file = _Growing()
        # Bytes go out as soon as they are there, and no header is ever corrected.
        options = {"flush_packets": "1", "write_xing": "0", "page_duration": "200000"}
        known = {"mp3": ("write_xing",), "ogg": ("page_duration",)}.get(container, ())
        self._container: Any = av.open(
            self._file,
            "w",
            format=container,
            options={key: options[key] for key in ("flush_packets", *known)},
        )
        settings: dict[str, Any] = {"layout": "mono", "format": layout}
        if bit_rate is not None:
            settings["bit_rate"] = bit_rate
        self._stream: Any = self._container.add_stream(codec, rate=rate, **settings)
        self._rate, self._layout = rate, layout
        self._sent = 0

    def push(self, samples: Samples) -> bytes:
        """The packets that are ready with these samples."""
        if len(samples):
            self._encode(self._frame(samples))
        return self._file.take()

    def finish(self) -> bytes:
        """The last packets and the container's end."""
        if not self._sent:
            # Without a packet, no container is a file that can be opened.
            self._encode(self._frame(np.zeros(_FLAC_BLOCK, np.float32)))
        self._encode(None)
        self._container.close()
        return self._file.take()

    def _frame(self, samples: Samples) -> Any:
        data = to_pcm16(samples) if self._layout == "s16" else np.clip(samples, -1.0, 1.0)
        frame = av.AudioFrame.from_ndarray(data[None], format=self._layout, layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._sent
        self._sent += len(samples)
        return frame

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, ValueError) as problem:
            raise AudioError(f"cannot encode the sound: {problem}; try another format") from None


def _pcm_bytes(samples: Samples) -> bytes:
    return to_pcm16(samples).astype("<i2").tobytes()


def _rate_above(rate: int, known: tuple[int, ...]) -> int:
    return next((goal for goal in known if goal >= rate), known[-1])
