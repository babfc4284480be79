"""The fused log-mel kernel for CUDA: sixteen frames of a row to a block, ten threads to a frame.

The real FFT of 400 points is one of 20 x 20 (Cooley and Tukey 1965). A frame's samples are 20
columns, column c the samples c, c + 20, ... c + 380. Each column, and then each row of what comes
out, goes through a DFT of 20 points in the registers of one thread, so that a frame passes through
shared memory only once on the way. Two real columns make one complex DFT, and ten rows are enough:
row q has the bins q + 20 k, whose mirror images are the bins of row 20 - q; rows 0 and 10, each its
own mirror image, together are a real DFT of 40 points. Each of a frame's ten threads thus has one
complex DFT in each half.

Neighbouring threads have neighbouring frames, and shared memory is laid out so that the 32 threads
of a warp (two columns or rows of sixteen frames) read and write 32 different banks. Sizes, offsets
and loop bounds are compile-time constants, so that the loops unroll and each thread's points become
registers. Masks tell the compiler that an index is not negative, which spares Numba's wrap-around.
"""

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from audio.features.butterflies import dft4, dft5
from audio.features.reference import FLOOR, HOP, N_FFT

TILE = 16  # frames to a block
GROUPS = 10  # threads to a frame
THREADS = TILE * GROUPS
CARRY = N_FFT - HOP  # samples that a frame shares with the next ones
POINTS = 20  # of one DFT
SINES = 11 * POINTS  # where the twiddles' imaginary parts begin, see ``twiddles``
_BINS = N_FFT // 2 + 1

# A tile's samples in lines of HOP; the lines are 162 floats apart, so that two neighbouring columns
# of sixteen frames lie in even and odd banks. Later the power takes their place, bin by bin.
_LINES = TILE + 2
_PITCH = HOP + 2
_SCRATCH = max(_LINES * _PITCH, _BINS * TILE)

# Between the two halves: ten rows of 20 values of sixteen frames, real parts, then imaginary parts.
# The rows are 21 values apart, so that two of them have all the banks.
_ROW = (POINTS + 1) * TILE
_IMAG = GROUPS * _ROW
_EXCHANGE = 2 * _IMAG

_NOT_NEGATIVE = 0x7FFFFFFF
_LOWEST = np.float32(FLOOR)
_ZERO, _QUARTER = np.float32(0.0), np.float32(0.25)

_device: Any = cuda.jit(device=True, fastmath=True)
_kernel: Any = cuda.jit(fastmath=True, cache=True)


_dft4, _dft5 = _device(dft4), _device(dft5)


@_device
def _place(k):  # type: ignore[no-untyped-def]
    """Where ``_dft20`` leaves value k of its result."""
    return (5 * (k % 4) + 4 * (k % 5)) % 20


@_device
def _dft20(x, y):  # type: ignore[no-untyped-def]
    """DFT of the 20 points x + iy in place, in the order of ``_place``.

    4 and 5 have no common factor, so that 4 x 5 needs no twiddles (Good 1958, Thomas 1963).
    """
    for n in range(5):
        i, j, k, m = 4 * n, (4 * n + 5) % 20, (4 * n + 10) % 20, (4 * n + 15) % 20
        real, imag = _dft4((x[i], x[j], x[k], x[m]), (y[i], y[j], y[k], y[m]))
        x[i], x[j], x[k], x[m] = real
        y[i], y[j], y[k], y[m] = imag
    for n in range(4):
        i, j, k = 5 * n, (5 * n + 4) % 20, (5 * n + 8) % 20
        m, o = (5 * n + 12) % 20, (5 * n + 16) % 20
        real, imag = _dft5((x[i], x[j], x[k], x[m], x[o]), (y[i], y[j], y[k], y[m], y[o]))
        x[i], x[j], x[k], x[m], x[o] = real
        y[i], y[j], y[k], y[m], y[o] = imag


@_device
def _load(scratch, sound, skip, thread):  # type: ignore[no-untyped-def]
    """A tile's samples from ``skip`` on: those of ``sound``, then zeros."""
    end = min(sound.shape[0] + skip, _LINES * HOP)
    for line in range(_LINES):
        at = line * HOP + thread
        if at >= skip:
            value = _ZERO
            if at < end:
                value = sound[at - skip]
            scratch[line * _PITCH + thread] = value


@_device
def _columns(scratch, exchange, window, turns, lane, group):  # type: ignore[no-untyped-def]
    """Window and DFT of the columns ``group`` and ``group + 10`` of a frame, times twiddles."""
    x, y = cuda.local.array(POINTS, float32), cuda.local.array(POINTS, float32)
    for n in range(POINTS):
        at = (lane + n // 8) * _PITCH + POINTS * (n % 8) + group  # a line has eight rows of 20
        x[n] = scratch[at] * window[POINTS * n + group]
        y[n] = scratch[at + 10] * window[POINTS * n + group + 10]
    _dft20(x, y)
    for q in range(1, GROUPS):
        i, j = _place(q), _place(POINTS - q)
        at, turn = q * _ROW + group * TILE + lane, q * POINTS + group
        # The sum with the mirror image is twice one column's spectrum, the difference the other's.
        a, b, c, d = x[i] + x[j], y[i] - y[j], turns[turn], turns[SINES + turn]
        exchange[at] = a * c - b * d
        exchange[at + _IMAG] = a * d + b * c
        a, b, c, d = y[i] + y[j], x[j] - x[i], turns[turn + 10], turns[SINES + turn + 10]
        exchange[at + 10 * TILE] = a * c - b * d
        exchange[at + 10 * TILE + _IMAG] = a * d + b * c
    # Values 0 and 10 are real. Of all columns they are the frame folded to 40 points: their sum is
    # point ``group``, their difference point ``group + 20``. Even points become real parts, odd
    # points imaginary parts.
    i, j = _place(0), _place(10)
    at = (group % 2) * _IMAG + (group // 2) * TILE + lane
    exchange[at] = x[i] + x[j]
    exchange[at + 5 * TILE] = y[i] + y[j]
    exchange[at + 10 * TILE] = x[i] - x[j]
    exchange[at + 15 * TILE] = y[i] - y[j]


@_device
def _rows(exchange, power, turns, lane, group):  # type: ignore[no-untyped-def]
    """DFT of row ``group`` of a frame, and the power of its bins."""
    x, y = cuda.local.array(POINTS, float32), cuda.local.array(POINTS, float32)
    for n in range(POINTS):
        at = group * _ROW + n * TILE + lane
        x[n] = exchange[at]
        y[n] = exchange[at + _IMAG]
    _dft20(x, y)
    if group > 0:
        for k in range(10):
            i, j = _place(k), _place(k + 10)
            at, mirror = 20 * k + group, 200 - 20 * k - group
            power[at * TILE + lane] = x[i] * x[i] + y[i] * y[i]
            power[mirror * TILE + lane] = x[j] * x[j] + y[j] * y[j]
    else:
        for k in range(11):  # the spectra of the even and of the odd points
            i, j = _place(k), _place((20 - k) % 20)
            even_x, even_y, a, b = x[i] + x[j], y[i] - y[j], y[i] + y[j], x[j] - x[i]
            c, d = turns[k * POINTS + 10], turns[SINES + k * POINTS + 10]
            odd_x, odd_y = a * c - b * d, a * d + b * c
            a, b, c, d = even_x + odd_x, even_y + odd_y, even_x - odd_x, even_y - odd_y
            power[10 * k * TILE + lane] = _QUARTER * (a * a + b * b)
            power[(200 - 10 * k) * TILE + lane] = _QUARTER * (c * c + d * d)


@_device
def _bands(power, filters, weights, out, lane, group):  # type: ignore[no-untyped-def]
    """Mel filters and logarithm of a frame, for every tenth band; ``out`` (n_mels, frames)."""
    frame = (cuda.blockIdx.x & _NOT_NEGATIVE) * TILE + lane
    for band in range(group, out.shape[0], GROUPS):
        at = 3 * (band & _NOT_NEGATIVE)
        first = (filters[at] & _NOT_NEGATIVE) * TILE + lane
        second = first + TILE
        weight = filters[at + 1] & _NOT_NEGATIVE
        bins = filters[at + 2] & _NOT_NEGATIVE
        total, n = _ZERO, 0
        while n < bins:  # an even number of bins, see ``filter_tables``
            total += weights[weight + n] * power[first + n * TILE]
            total += weights[weight + n + 1] * power[second + n * TILE]
            n += 2
        if frame < out.shape[1]:
            out[band, frame] = math.log10(max(total, _LOWEST))


@_device
def _transform(scratch, thread, window, turns, filters, weights, out):  # type: ignore[no-untyped-def]
    """From a tile's samples in ``scratch`` to a row's ``out``."""
    exchange = cuda.shared.array(_EXCHANGE, float32)
    lane, group = thread % TILE, thread // TILE
    _columns(scratch, exchange, window, turns, lane, group)
    cuda.syncthreads()
    _rows(exchange, scratch, turns, lane, group)
    cuda.syncthreads()
    _bands(scratch, filters, weights, out, lane, group)


@_kernel
def batch_kernel(samples, window, turns, filters, weights, out):  # type: ignore[no-untyped-def]
    """Rows of sound (rows, n) to (rows, n_mels, frames); grid (tiles, rows), block THREADS."""
    scratch = cuda.shared.array(_SCRATCH, float32)
    thread, row = cuda.threadIdx.x & 255, cuda.blockIdx.y & _NOT_NEGATIVE
    begin = (cuda.blockIdx.x & _NOT_NEGATIVE) * TILE * HOP
    _load(scratch, samples[row, begin:], 0, thread)
    cuda.syncthreads()
    _transform(scratch, thread, window, turns, filters, weights, out[row])


@_kernel
def stream_kernel(chunks, carry, window, turns, filters, weights, out):  # type: ignore[no-untyped-def]
    """As ``batch_kernel``, of each stream's last 240 samples and then its chunk.

    ``carry`` (streams, 240) becomes the end of the chunk. Only the first block of a stream reads
    and writes it, and reads it to the end before it writes.
    """
    scratch = cuda.shared.array(_SCRATCH, float32)
    thread, row = cuda.threadIdx.x & 255, cuda.blockIdx.y & _NOT_NEGATIVE
    begin = (cuda.blockIdx.x & _NOT_NEGATIVE) * TILE * HOP
    chunk = chunks[row]
    if begin > 0:
        _load(scratch, chunk[begin - CARRY :], 0, thread)
        cuda.syncthreads()
    else:
        for n in range(thread, CARRY, THREADS):
            scratch[(n // HOP) * _PITCH + n % HOP] = carry[row, n]
        _load(scratch, chunk, CARRY, thread)
        cuda.syncthreads()
        for n in range(thread, CARRY, THREADS):
            at = chunk.shape[0] + n  # counted from the start of the old carry
            if at < CARRY:
                carry[row, n] = scratch[(at // HOP) * _PITCH + at % HOP]
            else:
                carry[row, n] = chunk[at - CARRY]
    _transform(scratch, thread, window, turns, filters, weights, out[row])
