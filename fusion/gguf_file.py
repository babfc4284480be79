"""Reads a GGUF file: its key-value header and its quantised tensors, straight from a memory map."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from fusion.errors import FusionError

#: Tensors are dequantised in pieces of this many weights, which stay in the processor's cache.
_PIECE_WEIGHTS = 1 << 18

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufTensor:
    """One tensor's place in the file; `shape` is in torch's order (rows first)."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    bytes: int


class GgufFile:
    """An open GGUF file (versions 2 and 3, little endian): `fields` and `tensors`.

    The `gguf` package's own reader builds an array object for every string, which takes 7.5 s for
    a vocabulary of 150,000; this one walks the header once (0.3 s). Format:
    ggml/docs/gguf.md of the ggml project.
    """

    def __init__(self, path: Path) -> None:
        """Read the header of `path`; a file that is not GGUF or is cut short is a FusionError."""
        self.path = path
        try:
            with path.open("rb") as handle:
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as problem:
            raise FusionError(f"expected a GGUF model at {path}, but {problem}") from None
        self._at = 0
        try:
            self.fields, self.tensors = self._read_header()
        except (struct.error, KeyError, UnicodeDecodeError, MemoryError) as problem:
            raise self._damaged(f"its header cannot be read ({problem})") from None
        for tensor in self.tensors.values():
            if tensor.offset + tensor.bytes > len(self._map):
                raise self._damaged(f"it ends inside the tensor {tensor.name}")

    def _damaged(self, why: str) -> FusionError:
        return FusionError(
            f"expected a whole GGUF model in {self.path.name}, but {why}; fetch the file again"
        )

    def _scalar(self, kind: int) -> int | float | bool:
        form = _SCALARS[kind]
        (value,) = struct.unpack_from(form, self._map, self._at)
        self._at += struct.calcsize(form)
        assert isinstance(value, (int, float))
        # The shortest decimal that gives the same float32: 1e-06, as the model's config said, and
        # not 9.999999974752427e-07.
        return float(str(np.float32(value))) if form == "<f" else value

    def _count(self) -> int:
        (value,) = struct.unpack_from("<Q", self._map, self._at)
        self._at += 8
        if value > len(self._map):
            raise struct.error(f"a length of {value} is longer than the file")
        return int(value)

    def _text(self) -> str:
        length = self._count()
        start, self._at = self._at, self._at + length
        if self._at > len(self._map):
            raise struct.error("a text runs past the end")
        return self._map[start : self._at].decode("utf-8")

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._scalar(kind)
        (inner,) = struct.unpack_from("<I", self._map, self._at)
        self._at += 4
        length = self._count()
        if inner == _STRING:
            return [self._text() for _ in range(length)]
        size = struct.calcsize(_SCALARS[inner])
        values = struct.unpack_from(f"<{length}{_SCALARS[inner][1]}", self._map, self._at)
        self._at += length * size
        return list(values)

    def _read_header(self) -> tuple[dict[str, object], dict[str, GgufTensor]]:
        magic, version = struct.unpack_from("<4sI", self._map, 0)
        if magic != b"GGUF" or version not in (2, 3):
            raise FusionError(
                f"expected a GGUF model (version 2 or 3), but {self.path.name} starts with "
                f"{magic!r} and version {version}"
            )
        self._at = 8
        n_tensors, n_fields = self._count(), self._count()
        fields: dict[str, object] = {}
        for _ in range(n_fields):
            key = self._text()
            fields[key] = self._value(int(self._scalar(4)))
        found = [self._tensor_info() for _ in range(n_tensors)]
        alignment = fields.get("general.alignment", 32)
        assert isinstance(alignment, int)
        start = -(-self._at // alignment) * alignment
        placed = (GgufTensor(t.name, t.shape, t.kind, t.offset + start, t.bytes) for t in found)
        return fields, {t.name: t for t in placed}

    def _tensor_info(self) -> GgufTensor:
        name = self._text()
        n_dims = int(self._scalar(4))
        shape = tuple(reversed([self._count() for _ in range(n_dims)]))
        code = int(self._scalar(4))
        try:
            kind = GGMLQuantizationType(code)
        except ValueError:
            raise struct.error(f"tensor {name} has the unknown type {code}") from None
        weights = int(np.prod(shape, dtype=np.int64))
        block, size = GGML_QUANT_SIZES[kind]
        if weights % block:
            raise struct.error(f"tensor {name} does not fill its blocks")
        return GgufTensor(name, shape, kind, self._count(), weights // block * size)

    def text(self, key: str) -> str:
        """The field `key` as text, or "" if absent."""
        value = self.fields.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str, default: float | None = None) -> float:
        """The field `key` as a number; FusionError where it is missing without a default."""
        value = self.fields.get(key, default)
        if not isinstance(value, (int, float)):
            raise self._damaged(f"the field {key} is missing")
        return value

    def items(self, key: str) -> list[object]:
        """The field `key` as a list; FusionError where it is missing."""
        value = self.fields.get(key)
        if not isinstance(value, list):
            raise self._damaged(f"the field {key} is missing")
        return value

    def pieces(self, tensor: GgufTensor) -> Iterator[tuple[int, int]]:
        """Ranges of blocks (start, stop) that make up `tensor`, each small enough for the cache."""
        block, size = GGML_QUANT_SIZES[tensor.kind]
        total = tensor.bytes // size
        step = max(1, _PIECE_WEIGHTS // block)
        yield from ((start, min(start + step, total)) for start in range(0, total, step))

    def dequantised(self, tensor: GgufTensor, start: int, stop: int) -> Tensor:
        """The weights of blocks `start` to `stop` of `tensor`, float32, flat."""
        _, size = GGML_QUANT_SIZES[tensor.kind]
        raw = np.frombuffer(
            self._map, np.uint8, (stop - start) * size, tensor.offset + start * size
        )
        if fast := _FAST.get(tensor.kind):
            return fast(torch.from_numpy(raw.copy()).view(stop - start, size))
        values = dequantize(raw.reshape(1, -1), tensor.kind)
        return torch.from_numpy(np.array(values, np.float32).reshape(-1))


def _q8_0(blocks: Tensor) -> Tensor:
    """ggml's Q8_0: a float16 scale and 32 signed bytes; blocks (n, 34) -> (n * 32,)."""
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    return (blocks[:, 2:].contiguous().view(torch.int8).float() * scale).view(-1)


def _q5_0(blocks: Tensor) -> Tensor:
    """ggml's Q5_0: scale, 32 high bits, 16 bytes of low nibbles; blocks (n, 22) -> (n * 32,)."""
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    bits = torch.arange(8, dtype=torch.uint8)
    high = ((blocks[:, 2:6, None] >> bits) & 1).reshape(-1, 32)
    low = torch.cat((blocks[:, 6:] & 15, blocks[:, 6:] >> 4), dim=1)
    codes = (low | (high << 4)).to(torch.int8) - 16
    return (codes.float() * scale).view(-1)


#: The two kinds that hold nine tenths of the embedded model, several times faster than numpy.
_FAST = {GGMLQuantizationType.Q8_0: _q8_0, GGMLQuantizationType.Q5_0: _q5_0}
