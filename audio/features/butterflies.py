"""Small DFTs in plain Python, which the CPU kernel and the CUDA kernel each compile."""

import math

import numpy as np

_C1, _C2 = (np.float32(math.cos(2 * math.pi * k / 5)) for k in (1, 2))
_S1, _S2 = (np.float32(math.sin(2 * math.pi * k / 5)) for k in (1, 2))


def dft4(a, b):  # type: ignore[no-untyped-def]
    """Four-point DFT of a + ib: the four real parts and the four imaginary parts."""
    s0, s1, d0, d1 = a[0] + a[2], a[1] + a[3], a[0] - a[2], a[1] - a[3]
    t0, t1, e0, e1 = b[0] + b[2], b[1] + b[3], b[0] - b[2], b[1] - b[3]
    return (s0 + s1, d0 + e1, s0 - s1, d0 - e1), (t0 + t1, e0 - d1, t0 - t1, e0 + d1)


def dft5(a, b):  # type: ignore[no-untyped-def]
    """Five-point DFT of a + ib: the five real parts and the five imaginary parts."""
    s1, s2, d1, d2 = a[1] + a[4], a[2] + a[3], a[1] - a[4], a[2] - a[3]
    t1, t2, e1, e2 = b[1] + b[4], b[2] + b[3], b[1] - b[4], b[2] - b[3]
    m1, m2 = a[0] + _C1 * s1 + _C2 * s2, a[0] + _C2 * s1 + _C1 * s2
    n1, n2 = b[0] + _C1 * t1 + _C2 * t2, b[0] + _C2 * t1 + _C1 * t2
    p1, p2 = _S1 * e1 + _S2 * e2, _S2 * e1 - _S1 * e2
    q1, q2 = _S1 * d1 + _S2 * d2, _S2 * d1 - _S1 * d2
    real = (a[0] + s1 + s2, m1 + p1, m2 + p2, m2 - p2, m1 - p1)
    return real, (b[0] + t1 + t2, n1 - q1, n2 - q2, n2 + q2, n1 + q1)
