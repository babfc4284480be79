"""Encoded samples: 16-bit PCM and the two telephone codes of ITU-T G.711, whole or as a stream."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.pcm import Samples, from_pcm16, to_pcm16


class Encoding(StrEnum):
    """How a stream's bytes stand for samples."""

    PCM16 = "pcm16"  # signed, little-endian
    MULAW = "mulaw"
    ALAW = "alaw"


def from_mulaw(data: bytes) -> Samples:
    """Samples (n,) float32 from n bytes of μ-law, scaled as 16-bit sound is (ITU-T G.711)."""
    return _MULAW[np.frombuffer(_checked(data), np.uint8)]


def from_alaw(data: bytes) -> Samples:
    """Samples (n,) float32 from n bytes of A-law, scaled as 16-bit sound is (ITU-T G.711)."""
    return _ALAW[np.frombuffer(_checked(data), np.uint8)]


def to_mulaw(samples: Samples) -> bytes:
    """One byte of μ-law for each of the samples (n,): the code that sounds nearest to it."""
    return _MULAW_CODER.encode(samples)


def to_alaw(samples: Samples) -> bytes:
    """One byte of A-law for each of the samples (n,): the code that sounds nearest to it."""
    return _ALAW_CODER.encode(samples)


@dataclass
class SampleDecoder:
    """Samples from a stream's bytes; holds the first byte of a sample that was split."""

    encoding: Encoding = Encoding.PCM16
    _rest: bytes = b""

    def __post_init__(self) -> None:
        try:
            self.encoding = Encoding(self.encoding)
        except ValueError:
            raise AudioError(
                f"expected an encoding of {', '.join(Encoding)}, got {self.encoding!r}"
            ) from None

    def push(self, data: bytes) -> Samples:
        """The samples (n,) float32 that are complete with these bytes, of any number."""
        data = self._rest + _checked(data)
        match self.encoding:
            case Encoding.MULAW:
                return from_mulaw(data)
            case Encoding.ALAW:
                return from_alaw(data)
            case Encoding.PCM16:
                whole = len(data) // 2 * 2
                self._rest = data[whole:]
                return from_pcm16(data[:whole])

    def finish(self) -> None:
        """The stream has ended: ``AudioError`` if it ended within a sample."""
        if self._rest:
            raise AudioError(
                "expected whole 16-bit samples, got a stream with an odd number of bytes; "
                "send the missing byte or leave out the last one"
            )


def _checked(data: bytes) -> bytes:
    """The bytes of what has bytes; anything else, such as text or an array, is refused."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise AudioError(f"expected encoded sound as bytes, got {type(data).__name__}")
    return bytes(data)


def _mulaw_table() -> Samples:
    """The sample (256,) of each code: sign, segment and step, all bits inverted (G.711 table 2)."""
    codes = ~np.arange(256) & 0xFF
    # Steps of 8 in the first of eight segments, doubled in each; the bias makes them fit together.
    size = ((codes & 15) * 8 + 132 << (codes >> 4 & 7)) - 132
    return from_pcm16(np.where(codes & 0x80, -size, size).astype(np.int16))


def _alaw_table() -> Samples:
    """The sample (256,) of each code: every other bit is inverted, 1 means plus (G.711 table 1)."""
    codes = np.arange(256) ^ 0x55
    segment = codes >> 4 & 7
    # Steps of 16 in the first two segments, then doubled in each; a code stands for its middle.
    size = (codes & 15) * 16 + np.where(segment > 0, 264, 8) << np.maximum(segment - 1, 0)
    return from_pcm16(np.where(codes & 0x80, size, -size).astype(np.int16))


@dataclass(frozen=True, eq=False)
class _NearestCode:
    """Codes (m,) by rising value, and the decision values (m - 1,) between each two of them."""

    codes: NDArray[np.uint8]
    decisions: NDArray[np.float64]

    @classmethod
    def of(cls, table: Samples) -> "_NearestCode":
        """The coder for a table (256,) of samples."""
        # Backwards, as of μ-law's two zeros the positive one, 0xFF, is silence.
        values, places = np.unique(table[::-1].astype(np.float64) * 32768, return_index=True)
        return cls((255 - places).astype(np.uint8), (values[1:] + values[:-1]) / 2)

    def encode(self, samples: Samples) -> bytes:
        return self.codes[np.searchsorted(self.decisions, to_pcm16(samples))].tobytes()


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
_MULAW_CODER, _ALAW_CODER = _NearestCode.of(_MULAW), _NearestCode.of(_ALAW)
