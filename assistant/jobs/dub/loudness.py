"""Loudness and true peak as broadcasters measure them, block by block (ITU-R BS.1770-4)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, log10, sqrt

import numpy as np
from numpy.typing import NDArray
from pyloudnorm.iirfilter import IIRfilter
from scipy.signal import lfilter

from audio.pcm import Samples

#: A sound of several channels: (n, channels) float32.
Block = NDArray[np.float32]

_STEP_S, _STEPS = 0.1, 4  # gating blocks of 0.4 s, each 0.1 s after the one before
_GATE_LUFS, _GATE_BELOW_LU = -70.0, 10.0
_OFFSET = -0.691
_PHASES, _TAPS = 4, 24  # oversampling of the peak meter; taps of each phase


def _weighting(rate: int) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """The two filters of the K-weighting, as pyloudnorm designs them."""
    shelf = IIRfilter(4.0, 1 / sqrt(2), 1500.0, rate, "high_shelf")
    high_pass = IIRfilter(0.0, 0.5, 38.0, rate, "high_pass")
    return tuple((one.b, one.a) for one in (shelf, high_pass))


@dataclass
class LoudnessMeter:
    """Integrated loudness of one stream of up to two channels; holds a number for each 0.1 s."""

    rate: int
    channels: int
    _powers: list[float] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._filters = _weighting(self.rate)
        self._states = [np.zeros((2, self.channels)) for _ in self._filters]
        self._rest = np.zeros((0, self.channels))
        self._step = round(self.rate * _STEP_S)

    def push(self, block: Block) -> None:
        """Listen to the next samples (n, channels)."""
        weighted: NDArray[np.float64] = block.astype(np.float64)
        for at, (b, a) in enumerate(self._filters):
            weighted, self._states[at] = lfilter(b, a, weighted, axis=0, zi=self._states[at])
        weighted = np.concatenate([self._rest, weighted])
        steps = len(weighted) // self._step
        whole = weighted[: steps * self._step].reshape(steps, self._step * self.channels)
        self._powers += (np.square(whole).sum(axis=1) / self._step).tolist()
        self._rest = weighted[steps * self._step :]

    @property
    def lufs(self) -> float:
        """Loudness of what is above the two gates, in LUFS; -inf where nothing is."""
        powers = np.asarray(self._powers)
        if len(powers) < _STEPS:
            return -inf
        blocks = np.convolve(powers, np.full(_STEPS, 1 / _STEPS), "valid")
        loud = blocks[blocks > _power(_GATE_LUFS)]
        if not len(loud):
            return -inf
        gate = max(_power(_GATE_LUFS), float(loud.mean()) * 10 ** (-_GATE_BELOW_LU / 10))
        return _lufs(float(blocks[blocks > gate].mean()))


def loudness(blocks: Iterable[Block], rate: int) -> float:
    """Integrated loudness in LUFS of blocks (n_i, channels) of one sound."""
    meter: LoudnessMeter | None = None
    for block in blocks:
        meter = meter or LoudnessMeter(rate, block.shape[1])
        meter.push(block)
    return meter.lufs if meter else -inf


def level(samples: Block | Samples, rate: int) -> float:
    """K-weighted mean level in LUFS without gates: for a line, which is short and all speech."""
    if not len(samples):
        return -inf
    weighted: NDArray[np.float64] = samples.reshape(len(samples), -1).astype(np.float64)
    for b, a in _weighting(rate):
        weighted = lfilter(b, a, weighted, axis=0)
    return _lufs(float(np.square(weighted).sum(axis=1).mean()))


def decibels(factor: float) -> float:
    """A factor of the samples in dB; -inf for 0."""
    return 20 * log10(factor) if factor > 0 else -inf


def factor_of(gain_db: float) -> float:
    """The inverse of ``decibels``."""
    return float(10 ** (gain_db / 20))


@dataclass
class PeakMeter:
    """True peaks of one stream, four times oversampled, for each frame of ``frame`` samples.

    A peak stands at the frame whose samples come last into it, up to 12 samples late.
    """

    frame: int
    channels: int

    def __post_init__(self) -> None:
        reach = _PHASES * _TAPS // 2
        times = np.arange(-reach, reach) / _PHASES
        window = np.kaiser(2 * reach + 1, 8.0)[:-1]
        kernel = (np.sinc(times) * window).reshape(_TAPS, _PHASES)
        self._kernel = kernel[::-1].astype(np.float32)
        self._tail = np.zeros((_TAPS - 1, self.channels), np.float32)
        self._rest = np.zeros(0, np.float32)
        self._peaks: list[Samples] = []

    def push(self, block: Block) -> None:
        """Listen to the next samples (n, channels)."""
        if not len(block):
            return
        joined = np.concatenate([self._tail, block])
        self._tail = joined[len(joined) - _TAPS + 1 :]
        windows = np.lib.stride_tricks.sliding_window_view(joined, _TAPS, axis=0)
        # (n, channels, taps) @ (taps, phases): the sample itself is the phase without a delay.
        highest = np.abs(windows @ self._kernel).max(axis=(1, 2))
        highest = np.concatenate([self._rest, highest])
        frames = len(highest) // self.frame
        self._peaks.append(highest[: frames * self.frame].reshape(frames, self.frame).max(axis=1))
        self._rest = highest[frames * self.frame :]

    @property
    def peaks(self) -> Samples:
        """The peak of each frame (frames,), the last one shorter."""
        last = [self._rest.max(keepdims=True)] if len(self._rest) else []
        return np.concatenate([*self._peaks, *last]) if self._peaks else np.zeros(0, np.float32)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))


def _lufs(power: float) -> float:
    return _OFFSET + 10 * log10(power) if power > 0 else -inf
