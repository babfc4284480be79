"""Linear layers with 8-bit weights: decoding one token costs what reading the weights costs.

Only weights are quantised, activations stay in bfloat16. The product is a core torch operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

#: Up to this many rows the 8-bit operator is faster, bound by reading the weights; with more, the
#: work is arithmetic, and a bfloat16 product of the widened codes is (they cross at 12 to 20).
FEW_ROWS = 16
#: Codes widened at a time: as bfloat16 they stay in the processor's cache.
_TILE_WEIGHTS = 1 << 21
#: Rows are filled up to a multiple of this, so that fewer shapes occur: oneDNN compiles a kernel
#: for each and keeps a thousand. A few rows, as of a short question, are worth a finer step.
_ROWS, _FINE_ROWS, _FINE_UP_TO = 16, 8, 32
#: The operator reads this many weights of a row at once, and past the end of an odd row.
_WIDTH = 32


class Linear(Protocol):
    """A matrix product with a bias: (n, in) -> (n, out)."""

    def __call__(self, rows: Tensor) -> Tensor:
        """The product for `rows`."""
        ...


@dataclass(frozen=True, eq=False)
class PlainLinear:
    """Weights (out, in) and a bias (out,) as they are."""

    weights: Tensor
    bias: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        """The product for `rows` (n, in) -> (n, out)."""
        return F.linear(rows, self.weights, self.bias)


@dataclass(frozen=True, eq=False)
class Int8Linear:
    """Codes (out, in) int8 with one scale (out,) bfloat16 for each output, and a bias (out,)."""

    codes: Tensor
    scales: Tensor
    bias: Tensor | None = None

    @classmethod
    def of(cls, weights: Tensor, bias: Tensor | None = None) -> Int8Linear:
        """Quantise `weights` (out, in) to the nearest of 255 steps, symmetric around zero."""
        rows = weights.float()
        least = torch.finfo(torch.bfloat16).tiny  # any scale serves a row of zeros
        scales = (rows.abs().amax(1) / 127).clamp(min=least).bfloat16()
        # The codes belong to the scale as it is kept, rounded.
        codes = (rows / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        return cls(codes, scales, bias)

    def __call__(self, rows: Tensor) -> Tensor:
        """The product for `rows` (n, in) bfloat16 -> (n, out)."""
        if rows.shape[0] <= FEW_ROWS:
            product: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales)
        else:
            product = self._widened(rows)
        return product if self.bias is None else product + self.bias

    def _widened(self, rows: Tensor) -> Tensor:
        """The product by way of bfloat16, tile after tile in one buffer."""
        out, width = self.codes.shape
        count = rows.shape[0]
        step = _FINE_ROWS if count <= _FINE_UP_TO else _ROWS
        rows = F.pad(rows, (0, 0, 0, -count % step))
        height = min(out, max(1, _TILE_WEIGHTS // width))
        tile = torch.empty(height, width, dtype=rows.dtype)
        product = torch.empty(rows.shape[0], out, dtype=rows.dtype)
        for start in range(0, out, height):
            codes = self.codes[start : start + height]
            product[:, start : start + height] = F.linear(rows, tile[: len(codes)].copy_(codes))
        return product[:count].mul_(self.scales)


def fits_int8(weights: Tensor) -> bool:
    """Whether the operator takes the shape (out, in) of `weights`."""
    return weights.shape[1] % _WIDTH == 0
