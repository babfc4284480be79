"""The fused log-mel kernel in Numba: sixteen frames side by side in the vector lanes.

One tile of ``LANES`` frames goes through window, real FFT of 400 points, power, mel filters and
logarithm in a scratch of 75 KB that stays in the cache; only the result leaves it. A real FFT of
400 points is a complex one of 200 (radix 5, 5 and 8, decimation in frequency) and a split of the
even and odd samples' spectra (Cooley and Tukey 1965; Sorensen et al. 1987, "Real-valued fast
Fourier transform algorithms"). Every lane goes through the same instructions, so that a frame's
value does not depend on which frames are computed with it.
"""

import math
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from audio.features.butterflies import dft4, dft5
from audio.features.lanes import LANES, larger, load, splat, split_exponent, store, transpose
from audio.features.plan import check_room, mel_plan, window
from audio.features.reference import FLOOR, HOP, N_FFT, RANGE
from audio.pcm import Samples

_POINTS = N_FFT // 2  # of the complex FFT
_BINS = N_FFT // 2 + 1
_COLUMNS = LANES + 2  # of HOP samples each; frame l begins in column l and ends in column l + 2

# The scratch, in floats: the samples transposed to (HOP, _COLUMNS), then rows of lanes: the
# points (real and imaginary part after each other), then power.
_POINT = 2 * LANES
_FFT = HOP * _COLUMNS
_POWER = _FFT + _POINTS * _POINT
_SCRATCH = _POWER + _BINS * LANES

# The split of even and odd samples gives twice the spectrum; halving is exact.
_WINDOW = window() * np.float32(0.5)


def _twiddles(points: int, columns: int) -> NDArray[np.float32]:
    """exp(-2 pi i j q / points) for j < columns, q < 5: (columns, 5, 2), real and imaginary."""
    angle = -2.0 * np.pi * np.outer(np.arange(columns), np.arange(5)) / points
    return np.stack((np.cos(angle), np.sin(angle)), axis=-1).astype(np.float32)


_TURN_200 = _twiddles(200, 40)
_TURN_40 = _twiddles(40, 8)
_SPLIT_ANGLE = -2.0 * np.pi * np.arange(_POINTS // 2 + 1) / N_FFT
_SPLIT_COS, _SPLIT_SIN = (f(_SPLIT_ANGLE).astype(np.float32) for f in (np.cos, np.sin))


def _positions() -> NDArray[np.int64]:
    """Where the FFT leaves each point (201,), in the scratch; point 200 is point 0 again."""
    position = np.zeros(_POINTS + 1, np.int64)
    for row in range(_POINTS):
        q1, rest = divmod(row, 40)
        q2, rest = divmod(rest, 8)
        q3, q4 = divmod(rest, 2)
        position[q1 + 5 * q2 + 25 * q3 + 100 * q4] = row
    return _FFT + position * _POINT


_POSITION = _positions()
_HALF_ROOT = np.float32(math.sqrt(0.5))

_JIT = {"nogil": True, "cache": True, "error_model": "numpy"}


_dft4, _dft5 = njit(**_JIT)(dft4), njit(**_JIT)(dft5)


@njit(**_JIT)
def _store_point(s, p, real, imag):  # type: ignore[no-untyped-def]
    store(s, p, real)
    store(s, p + LANES, imag)


@njit(**_JIT)
def _store5(s, p, step, values, turn):  # type: ignore[no-untyped-def]
    """Store five complex values, ``step`` apart, each times its twiddle."""
    (a0, a1, a2, a3, a4), (b0, b1, b2, b3, b4) = values
    _store_point(s, p, a0, b0)
    c, d = turn[1, 0], turn[1, 1]
    _store_point(s, p + step, a1 * c - b1 * d, a1 * d + b1 * c)
    c, d = turn[2, 0], turn[2, 1]
    _store_point(s, p + 2 * step, a2 * c - b2 * d, a2 * d + b2 * c)
    c, d = turn[3, 0], turn[3, 1]
    _store_point(s, p + 3 * step, a3 * c - b3 * d, a3 * d + b3 * c)
    c, d = turn[4, 0], turn[4, 1]
    _store_point(s, p + 4 * step, a4 * c - b4 * d, a4 * d + b4 * c)


@njit(**_JIT)
def _load(samples, at, frames, s):  # type: ignore[no-untyped-def]
    """Transpose the samples of ``frames`` frames; a column that no frame has is zero."""
    if frames < LANES:
        padded = s[_POWER : _POWER + HOP * _COLUMNS]  # where there is no power yet
        end = frames * HOP + N_FFT - HOP
        padded[:end] = samples[at : at + end]
        padded[end:] = np.float32(0)
        samples, at = padded, 0
    for r in range(0, HOP, LANES):
        transpose(samples, at + r, HOP, s, r * _COLUMNS, _COLUMNS)
    for c in range(LANES, _COLUMNS):
        for r in range(HOP if c == LANES else N_FFT - 2 * HOP):
            s[r * _COLUMNS + c] = samples[at + c * HOP + r]


@njit(**_JIT)
def _windowed(s, n):  # type: ignore[no-untyped-def]
    """Samples n, n + 80, ... n + 320 of every frame, n < 80, times the window."""
    p = n * _COLUMNS
    half = 80 * _COLUMNS
    return (
        load(s, p) * _WINDOW[n],
        load(s, p + half) * _WINDOW[n + 80],
        load(s, p + 1) * _WINDOW[n + 160],
        load(s, p + half + 1) * _WINDOW[n + 240],
        load(s, p + 2) * _WINDOW[n + 320],
    )


@njit(**_JIT)
def _fft(s):  # type: ignore[no-untyped-def]
    """Complex FFT of the points x[2n] + i x[2n + 1], windowed; left at ``_POSITION``."""
    for n in range(40):  # 40 DFTs of points 40 apart
        values = _dft5(_windowed(s, 2 * n), _windowed(s, 2 * n + 1))
        _store5(s, _FFT + n * _POINT, 40 * _POINT, values, _TURN_200[n])
    step = 8 * _POINT
    for n in range(8):  # in each of five blocks of 40 points, eight DFTs of points 8 apart
        for block in range(5):
            p = _FFT + (40 * block + n) * _POINT
            q, r, u, v = p + step, p + 2 * step, p + 3 * step, p + 4 * step
            real = (load(s, p), load(s, q), load(s, r), load(s, u), load(s, v))
            p, q, r, u, v = p + LANES, q + LANES, r + LANES, u + LANES, v + LANES
            imag = (load(s, p), load(s, q), load(s, r), load(s, u), load(s, v))
            _store5(s, p - LANES, step, _dft5(real, imag), _TURN_40[n])
    for block in range(25):
        _radix8(s, _FFT + 8 * block * _POINT)


@njit(**_JIT)
def _radix8(s, p):  # type: ignore[no-untyped-def]
    """DFT of eight neighbouring points: two of four points, the odd one turned."""
    k, j = 2 * _POINT, p + LANES
    even = _dft4(
        (load(s, p), load(s, p + k), load(s, p + 2 * k), load(s, p + 3 * k)),
        (load(s, j), load(s, j + k), load(s, j + 2 * k), load(s, j + 3 * k)),
    )
    i, j = p + _POINT, p + _POINT + LANES
    odd = _dft4(
        (load(s, i), load(s, i + k), load(s, i + 2 * k), load(s, i + 3 * k)),
        (load(s, j), load(s, j + k), load(s, j + 2 * k), load(s, j + 3 * k)),
    )
    (a0, a1, a2, a3), (b0, b1, b2, b3) = even
    (c0, c1, c2, c3), (d0, d1, d2, d3) = odd
    c1, d1 = (c1 + d1) * _HALF_ROOT, (d1 - c1) * _HALF_ROOT
    c3, d3 = (d3 - c3) * _HALF_ROOT, (c3 + d3) * -_HALF_ROOT
    _store_point(s, p, a0 + c0, b0 + d0)
    _store_point(s, p + _POINT, a0 - c0, b0 - d0)
    _store_point(s, p + 2 * _POINT, a1 + c1, b1 + d1)
    _store_point(s, p + 3 * _POINT, a1 - c1, b1 - d1)
    _store_point(s, p + 4 * _POINT, a2 + d2, b2 - c2)
    _store_point(s, p + 5 * _POINT, a2 - d2, b2 + c2)
    _store_point(s, p + 6 * _POINT, a3 + c3, b3 + d3)
    _store_point(s, p + 7 * _POINT, a3 - c3, b3 - d3)


@njit(**_JIT)
def _power(s):  # type: ignore[no-untyped-def]
    """The power of bins k and 200 - k from points k and 200 - k."""
    for k in range(_POINTS // 2 + 1):
        p, q = _POSITION[k], _POSITION[_POINTS - k]
        c, d = _SPLIT_COS[k], _SPLIT_SIN[k]
        a, b, g, h = load(s, p), load(s, p + LANES), load(s, q), load(s, q + LANES)
        even_r, even_i, odd_r, odd_i = a + g, b - h, b + h, g - a
        turned_r, turned_i = c * odd_r - d * odd_i, c * odd_i + d * odd_r
        x, y = even_r + turned_r, even_i + turned_i
        u, v = even_r - turned_r, even_i - turned_i
        store(s, _POWER + k * LANES, x * x + y * y)
        store(s, _POWER + (_POINTS - k) * LANES, u * u + v * v)


_LOWEST = np.float32(FLOOR)
_HALF_ROOT_BITS = np.int32(_HALF_ROOT.view(np.int32))
_RANGE, _FOUR, _QUARTER = (np.float32(value) for value in (RANGE, 4.0, 0.25))
_ONE, _LOG10_2 = np.float32(1.0), np.float32(math.log10(2.0))


def _log10_series() -> tuple[np.float32, ...]:
    """Coefficients c of log10(1 + t) = t (c0 + c1 t + ...) for t in sqrt(1/2) - 1..sqrt(2) - 1.

    Interpolated at Chebyshev's points, which is within a hair of the best polynomial there is.
    """
    low, high = math.sqrt(0.5) - 1.0, math.sqrt(2.0) - 1.0
    series = np.polynomial.Chebyshev.interpolate(
        lambda t: np.log1p(t) / (t * math.log(10.0)), 8, domain=[low, high]
    )
    return tuple(np.float32(c) for c in series.convert(kind=np.polynomial.Polynomial).coef)


_SERIES = _log10_series()


@njit(**_JIT)
def _log10(value):  # type: ignore[no-untyped-def]
    """Base-10 logarithm of positive lanes, to 3e-7; no lane takes a division."""
    m, exponent = split_exponent(value, _HALF_ROOT_BITS)
    t = m - _ONE
    total = t * _SERIES[8] + _SERIES[7]
    total = total * t + _SERIES[6]
    total = total * t + _SERIES[5]
    total = total * t + _SERIES[4]
    total = total * t + _SERIES[3]
    total = total * t + _SERIES[2]
    total = total * t + _SERIES[1]
    total = total * t + _SERIES[0]
    return exponent * _LOG10_2 + t * total


@njit(**_JIT)
def _mel(s, first_bin, bins, weights, out, column, frames):  # type: ignore[no-untyped-def]
    """Mel filters and logarithm; the first ``frames`` lanes become columns of ``out``."""
    columns = out.shape[1]
    flat = out.reshape(-1)
    rest = np.empty(LANES, np.float32)
    at = 0
    for m in range(first_bin.shape[0]):
        p = _POWER + first_bin[m] * LANES
        total = splat(np.float32(0))
        for _ in range(bins[m]):
            total = total + load(s, p) * weights[at]
            p += LANES
            at += 1
        value = _log10(larger(total, splat(_LOWEST)))
        if frames == LANES:
            store(flat, m * columns + column, value)
        else:
            store(rest, 0, value)
            for lane in range(frames):
                flat[m * columns + column + lane] = rest[lane]


def _log10_frames(samples, first_bin, bins, weights, out, column, frames):  # type: ignore[no-untyped-def]
    s = np.empty(_SCRATCH, np.float32)
    for frame in range(0, frames, LANES):
        count = min(LANES, frames - frame)
        _load(samples, frame * HOP, count, s)
        _fft(s)
        _power(s)
        _mel(s, first_bin, bins, weights, out, column + frame, count)


def _clamp(log10):  # type: ignore[no-untyped-def]
    """Whisper's scaling of a window, see ``log_mel.clamp``."""
    flat = log10.reshape(-1)
    whole = len(flat) // LANES * LANES
    peaks = np.full(LANES, flat[0])
    peak = load(peaks, 0)
    for i in range(0, whole, LANES):
        peak = larger(peak, load(flat, i))
    store(peaks, 0, peak)
    highest = peaks.max()
    for i in range(whole, len(flat)):
        highest = max(highest, flat[i])
    floor = highest - _RANGE
    for i in range(len(flat)):
        flat[i] = (max(flat[i], floor) + _FOUR) * _QUARTER


@cache
def _compiled() -> tuple[Any, Any]:
    """The kernels; what is not in Numba's cache yet is compiled by a process of its own.

    Code that was just compiled gives sums with other last bits than the same code read back from
    the cache, and a process that has compiled it keeps using it. So none computes with it.
    """
    if not is_compiled():
        _compile_elsewhere()
    return _from_numba()


def _compile_elsewhere() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _from_numba as f; f()"
    # Where no process can be started, it is compiled here after all.
    with suppress(OSError):
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)


def _from_numba() -> tuple[Any, Any]:
    """The kernels, compiled or read from the cache: one signature each, whoever owns arrays."""

    def read_only(item: Any) -> Any:
        return types.Array(item, 1, "C", readonly=True)

    reads = map(read_only, (types.float32, types.int64, types.int64, types.float32))
    out = types.Array(types.float32, 2, "C")
    frames = njit(types.void(*reads, out, types.intp, types.intp), **_JIT)(_log10_frames)
    return frames, njit(types.void(out), **_JIT)(_clamp)


def is_compiled() -> bool:
    """Whether the machine code is in Numba's cache, so that the first call is fast."""
    folder = Path(njit(**_JIT)(_clamp).stats.cache_path)
    source = Path(__file__).stat().st_mtime
    return any(index.stat().st_mtime >= source for index in folder.glob("cpu._clamp-*.nbi"))


def log10_frames(samples: Samples, out: Samples, column: int, frames: int) -> None:
    """Write the log10 mel power of ``frames`` frames to ``out[:, column : column + frames]``.

    samples (n,) float32, contiguous, n >= 160 * frames + 240; out (n_mels, columns) float32,
    contiguous. Runs in the calling thread, without the interpreter's lock. The first call ever
    compiles for some seconds.
    """
    check_room(samples, out, column, frames)
    plan = mel_plan(out.shape[0])
    _compiled()[0](samples, plan.first_bin, plan.bins, plan.weights, out, column, frames)


def clamp(log10: Samples) -> None:
    """Whisper's scaling of one window (n_mels, frames), contiguous, in place."""
    if log10.size:
        _compiled()[1](log10)


def compile_all() -> None:
    """Compile whatever is not compiled yet."""
    _compiled()
