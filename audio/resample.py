"""From one sample rate to another: one filter for a pair of rates, one small state per stream."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.pcm import Samples, check_rate, check_samples

# A sinc under a Kaiser window: zero crossings on either side, cut-off as a share of the narrower
# band, and the window's beta. To 16 kHz: flat up to 7 kHz, 125 dB down from 8.2 kHz on.
_CROSSINGS = 48
_ROLLOFF = 0.945
_BETA = 12.0
# Rates this far apart have a filter of 100,000 taps, and are a mistake.
_FACTOR_LIMIT = 1000
# A ratio with longer terms (44,101 to 16,000) has too many coefficients to keep them all.
_TILED_TERMS = 1000
# Outputs that one row of the product gives, at least: less makes it a product of vectors, more
# multiplies zeros.
_TILE = 16
# Filters kept per zero crossing where they are interpolated: linear between them errs by less
# than (pi / 2048)^2 / 8 = 3e-7.
_PHASES = 2048
_GATHER = 1 << 16  # samples that are resampled at once where nobody waits for the first of them
_WINDOW_VALUES = 1 << 18  # input values side by side in one product: 1 MB, which a cache holds


@dataclass(frozen=True, eq=False)
class Resampler(ABC):
    """The filter from one rate to another, shared by all streams; holds nothing of any of them.

    ``step_in`` inputs last as long as ``step_out`` outputs (the reduced ratio), and an output
    depends on at most ``width`` inputs on either side of its own time.
    """

    rate_in: int
    rate_out: int
    step_in: int
    step_out: int
    width: int
    _coefficients: Samples = field(repr=False)

    @staticmethod
    def between(rate_in: int, rate_out: int) -> "Resampler":
        """The filter for a pair of rates in Hz, any two within a factor of 1,000 of each other.

        Designed once (some milliseconds) and then remembered. ``AudioError`` for other rates.
        """
        check_rate(rate_in)
        check_rate(rate_out)
        return _design(int(rate_in), int(rate_out))

    def stream(self) -> "StreamResampler":
        """The state of a new stream, before its first sample."""
        return StreamResampler(self, np.zeros(self.width, np.float32))

    def total(self, received: int) -> int:
        """How many outputs a whole sound of ``received`` samples has."""
        return -(-received * self.step_out // self.step_in)

    def certain(self, received: int) -> int:
        """How many outputs depend on nothing after the first ``received`` samples."""
        return self.total(max(0, received - self.width))

    @abstractmethod
    def first_input(self, output: int) -> int:
        """The first input that is needed to go on from ``output``."""

    @abstractmethod
    def apply(self, samples: Samples, first: int, count: int) -> Samples:
        """Outputs ``first`` to ``first + count`` (count,) from samples at ``first_input(first)``.

        Samples that the sound does not have after its end are taken as zeros.
        """


class _TiledResampler(Resampler):
    """All coefficients of k steps as one matrix (2 * width + k * step_in, k * step_out)."""

    def first_input(self, output: int) -> int:
        """The left margin of the step that ``output`` belongs to."""
        return output // self.step_out * self.step_in - self.width

    def apply(self, samples: Samples, first: int, count: int) -> Samples:
        """A product of overlapping windows with the matrix."""
        taps, outputs = self._coefficients.shape
        stride = outputs // self.step_out * self.step_in
        skip = first % self.step_out
        rows = -(-(skip + count) // outputs)
        samples = _padded(samples, (rows - 1) * stride + taps)
        # A product wants its rows one after the other in memory: copied in blocks.
        windows = np.ndarray((rows, taps), np.float32, samples, strides=(4 * stride, 4))
        out = np.empty((rows, outputs), np.float32)
        for part in _blocks(rows, taps):
            np.matmul(np.ascontiguousarray(windows[part]), self._coefficients, out=out[part])
        return out.reshape(-1)[skip : skip + count]


class _InterpolatedResampler(Resampler):
    """Filters (phases + 1, 2 * width + 1) for some times between two inputs; linear between."""

    def first_input(self, output: int) -> int:
        """The left margin of ``output``."""
        return output * self.step_in // self.step_out - self.width

    def apply(self, samples: Samples, first: int, count: int) -> Samples:
        """Each output is a sum under its own filter, between the two nearest that are kept."""
        phases, taps = len(self._coefficients) - 1, self._coefficients.shape[1]
        ticks = first * self.step_in % self.step_out + np.arange(count) * self.step_in
        starts, ticks = np.divmod(ticks, self.step_out)
        phase, ticks = np.divmod(ticks * phases, self.step_out)
        share = (ticks / self.step_out).astype(np.float32)
        samples = _padded(samples, int(starts[-1]) + taps)
        windows = np.lib.stride_tricks.sliding_window_view(samples, taps)
        out = np.empty(count, np.float32)
        for part in _blocks(count, taps):
            window = windows[starts[part]]
            low, high = (
                np.einsum("ot,ot->o", window, self._coefficients[phase[part] + side])
                for side in (0, 1)
            )
            out[part] = low + share[part] * (high - low)
        return out


@dataclass(eq=False)
class StreamResampler:
    """What one stream needs between its chunks: the last samples and two counters.

    It holds at most ``2 * width + step_in`` samples, however long the stream and its chunks.
    """

    filter: Resampler
    _tail: Samples = field(repr=False)
    _received: int = 0
    _sent: int = 0
    _finished: bool = False

    def push(self, chunk: Samples) -> Samples:
        """Every output (m,) float32 that is certain with this chunk (n,) of any length.

        An output is certain ``width`` samples after its own time: 3 ms from 48 kHz to 16 kHz. A
        chunk that is not sound raises ``AudioError`` and leaves the stream as it was. Between
        equal rates this is the chunk itself.
        """
        if self._finished:
            raise AudioError("expected no samples after finish(); start a new stream")
        check_samples(chunk)
        if self.filter.rate_in == self.filter.rate_out:
            return chunk
        self._tail = np.concatenate([self._tail, chunk])
        self._received += len(chunk)
        return self._advance(self.filter.certain(self._received))

    def finish(self) -> Samples:
        """The rest (m,), with silence after the end; the stream takes no more samples."""
        if self._finished:
            raise AudioError("expected finish() once; start a new stream")
        self._finished = True
        return self._advance(self.filter.total(self._received))

    def _advance(self, goal: int) -> Samples:
        """The outputs up to ``goal``; the inputs that no later one depends on are let go."""
        first, count = self._sent, goal - self._sent
        if count == 0:
            return np.zeros(0, np.float32)
        out = self.filter.apply(self._tail, first, count)
        drop = self.filter.first_input(goal) - self.filter.first_input(first)
        # A copy: a view would hold on to the whole chunk.
        self._tail = self._tail[drop:].copy()
        self._sent = goal
        return out


def resample(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """The same sound at another rate: (n,) to (ceil(n * rate_out / rate_in),) float32."""
    pieces = list(resample_blocks([samples], rate_in, rate_out))
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else samples[:0]


def resample_blocks(blocks: Iterable[Samples], rate_in: int, rate_out: int) -> Iterator[Samples]:
    """Resample a sequence of blocks (n_i,); their concatenation equals the whole sound's result.

    For files: small blocks are gathered first. Live sound takes ``Resampler.stream``.
    """
    stream = Resampler.between(rate_in, rate_out).stream()
    for block in _gathered(blocks):
        if (out := stream.push(block)).size:
            yield out
    if (rest := stream.finish()).size:
        yield rest


def _gathered(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """The same sound in long blocks: a file's frames of 1,024 samples would cost ten times more."""
    waiting: list[Samples] = []
    held = 0
    for block in blocks:
        check_samples(block)  # before joining, which would turn integers into floats
        waiting.append(block)
        held += len(block)
        if held >= _GATHER:
            yield np.concatenate(waiting)
            waiting, held = [], 0
    if held:
        yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)


def _padded(samples: Samples, length: int) -> Samples:
    """The samples, with zeros after them up to ``length``."""
    missing = length - len(samples)
    return np.concatenate([samples, np.zeros(missing, np.float32)]) if missing > 0 else samples


def _blocks(rows: int, taps: int) -> Iterator[slice]:
    """All the rows in parts whose windows of ``taps`` values fit a cache."""
    size = max(1, _WINDOW_VALUES // taps)
    return (slice(row, row + size) for row in range(0, rows, size))


@lru_cache(maxsize=16)
def _design(rate_in: int, rate_out: int) -> Resampler:
    if max(rate_in, rate_out) > _FACTOR_LIMIT * min(rate_in, rate_out):
        raise AudioError(
            f"expected sample rates within a factor of {_FACTOR_LIMIT} of each other, "
            f"got {rate_in} Hz and {rate_out} Hz"
        )
    step_in, step_out = Fraction(rate_in, rate_out).as_integer_ratio()
    cutoff = _ROLLOFF * min(1.0, step_out / step_in)  # in units of the input's band
    width = ceil(_CROSSINGS / cutoff)
    pair = (rate_in, rate_out, step_in, step_out, width)
    if max(step_in, step_out) > _TILED_TERMS:
        phases = ceil(_PHASES * cutoff)
        table = _filters(np.arange(phases + 1) / phases, 2 * width + 1, width, cutoff)
        return _InterpolatedResampler(*pair, table)
    times = np.arange(step_out, dtype=np.float64) * (step_in / step_out)
    kernel = _filters(times, 2 * width + step_in, width, cutoff)
    return _TiledResampler(*pair, _tile(kernel, step_in, steps=-(-_TILE // step_out)))


def _tile(kernel: Samples, step_in: int, steps: int) -> Samples:
    """The matrix that makes some steps of outputs from a kernel (step_out, taps) for one."""
    step_out, taps = kernel.shape
    tile = np.zeros((taps + (steps - 1) * step_in, steps * step_out), np.float32)
    for step in range(steps):
        into = slice(step * step_in, step * step_in + taps)
        tile[into, step * step_out : (step + 1) * step_out] = kernel.T
    return tile


def _filters(times: NDArray[np.float64], taps: int, width: int, cutoff: float) -> Samples:
    """Coefficients (n, taps) of outputs at ``times`` (n,), for the inputs from ``-width`` on.

    The windowed sinc of ``torchaudio.transforms.Resample`` ("sinc_interp_kaiser"). By default
    that rounds the times to float32, an error of 3e-5 from 11,025 Hz to 16 kHz; these are float64.
    """
    distance = (np.arange(-width, taps - width) - times[:, None]) * cutoff
    inside = np.clip(distance / _CROSSINGS, -1.0, 1.0)
    window = np.i0(_BETA * np.sqrt(1 - inside**2)) / np.i0(_BETA)
    return (cutoff * np.sinc(inside * _CROSSINGS) * window).astype(np.float32)
