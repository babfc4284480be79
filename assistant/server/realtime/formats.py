"""Sound as it travels: base64 of PCM16 or G.711 to 16 kHz samples, and a voice's sound back."""

import binascii
from base64 import b64encode

from assistant.server.realtime.choices import AudioFormat, PcmaFormat, PcmFormat, PcmuFormat
from assistant.server.realtime.wire import WireError
from audio.codecs import Encoding, SampleDecoder, to_alaw, to_mulaw
from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE, Samples, to_pcm16
from audio.resample import Resampler

_G711_RATE = 8000


def rate_of(format: AudioFormat) -> int:
    """Samples per second."""
    return format.rate if isinstance(format, PcmFormat) else _G711_RATE


def bytes_per_sample(format: AudioFormat) -> int:
    """Two for PCM16, one for G.711."""
    return 2 if isinstance(format, PcmFormat) else 1


class AudioIn:
    """One stream of a client's sound; chunks may be of any size and split a sample."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._begin()

    def _begin(self) -> None:
        match self.format:
            case PcmFormat():
                encoding = Encoding.PCM16
            case PcmuFormat():
                encoding = Encoding.MULAW
            case PcmaFormat():
                encoding = Encoding.ALAW
        self._decoder = SampleDecoder(encoding)
        self._resampler = Resampler.between(rate_of(self.format), SAMPLE_RATE).stream()

    def push(self, audio: str) -> Samples:
        """All samples (n,) float32 at 16 kHz that are certain with this base64 text.

        Raises WireError for what is not base64, and then the stream is as it was.
        """
        return self._resampler.push(self._decoder.push(from_base64(audio)))

    def finish(self) -> Samples:
        """The last samples (n,), some ms that waited for more; what follows is a new stream.

        Raises WireError if half a sample waits, and then the stream goes on.
        """
        try:
            self._decoder.finish()
        except AudioError as error:
            raise WireError(f"{str(error).capitalize()}.", "invalid_audio", "audio") from None
        rest = self._resampler.finish()
        self._begin()
        return rest

    def clear(self) -> None:
        """Forget what waits; what follows is a new stream."""
        self._begin()


class AudioOut:
    """One stream of the assistant's sound, from samples of ``rate`` Hz."""

    def __init__(self, format: AudioFormat, rate: int) -> None:
        self.format = format
        self._resampler = Resampler.between(rate, rate_of(format)).stream()

    def push(self, samples: Samples) -> bytes:
        """The bytes that are certain with these samples (n,), of any number."""
        return self._encode(self._resampler.push(samples))

    def finish(self) -> bytes:
        """The last bytes; the stream takes no more samples."""
        return self._encode(self._resampler.finish())

    def _encode(self, samples: Samples) -> bytes:
        match self.format:
            case PcmFormat():
                return to_pcm16(samples).astype("<i2").tobytes()
            case PcmuFormat():
                return to_mulaw(samples)
            case PcmaFormat():
                return to_alaw(samples)


def from_base64(text: str, param: str = "audio") -> bytes:
    """The bytes that the text stands for; WireError, naming ``param``, if it is not base64."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error, or letters outside of ASCII
        raise WireError(
            f"Expected '{param}' as base64 without line breaks, but: {error}.",
            "invalid_audio",
            param,
        ) from None


def to_base64(data: bytes) -> str:
    """The bytes as text."""
    return b64encode(data).decode("ascii")


def milliseconds(size: int, format: AudioFormat) -> int:
    """How long so many bytes of a format sound, in whole ms."""
    return size * 1000 // (rate_of(format) * bytes_per_sample(format))
