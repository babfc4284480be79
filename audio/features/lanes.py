"""Sixteen float32 values side by side, as values of Numba code.

Numba leaves vectors to LLVM's loop vectoriser, which gives up where it can't prove that arrays do
not overlap, and never keeps a sum of rows in registers. Here ``<16 x float>`` is a type of its own:
one AVX-512 register, two of AVX, four of SSE or NEON. Each operation acts on every lane alike, so a
lane's result does not depend on its neighbours. (``numba.extending``, "Defining the data model".)
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
# Products and sums may fuse; they may not be reordered, so that results are the same everywhere.
_FLAGS = ("contract", "nsz")


class LanesType(types.Type):  # type: ignore[misc]
    """The Numba type of sixteen float32 values."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes_type = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _VECTOR)


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Pointer to sixteen values of the array (first argument) from the index (second) on."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    element = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(element, _VECTOR.as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    """The scalar in every lane."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _int32(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _int32(value: int) -> Any:
    return ir.Constant(ir.IntType(32), value)


@intrinsic  # type: ignore[misc]
def load(typing: Any, array: Any, index: Any) -> Any:
    """``array[index : index + 16]`` of a contiguous float32 array (n,); nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature, arguments), align=4)

    return lanes_type(array, types.intp), generate


@intrinsic  # type: ignore[misc]
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index : index + 16] = value``; nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type), generate


@intrinsic  # type: ignore[misc]
def transpose(typing: Any, source: Any, at: Any, pitch: Any, target: Any, to: Any, row: Any) -> Any:
    """Transpose a block of 16 x 16: ``target[to + row * i + j] = source[at + pitch * j + i]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at, pitch, target, to, row = arguments
        reads, writes = signature.args[:2], signature.args[3:5]
        rows = []
        for _ in range(LANES):
            address = _address(context, builder, types.void(*reads), (source, at))
            rows.append(builder.load(address, align=4))
            at = builder.add(at, pitch)
        for value in _transposed(builder, rows):
            address = _address(context, builder, types.void(*writes), (target, to))
            builder.store(value, address, align=4)
            to = builder.add(to, row)
        return context.get_dummy_value()

    integer = types.intp
    return types.void(source, integer, integer, target, integer, integer), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Swap the bits of row and lane numbers, one of the four at a time."""
    for bit in (1, 2, 4, 8):
        low = [lane ^ bit | LANES if lane & bit else lane for lane in range(LANES)]
        high = [lane | LANES if lane & bit else lane ^ bit for lane in range(LANES)]
        mask = ir.VectorType(ir.IntType(32), LANES)
        swapped = list(rows)
        for row in range(LANES):
            if not row & bit:
                pair = (rows[row], rows[row | bit])
                swapped[row] = builder.shuffle_vector(*pair, ir.Constant(mask, low))
                swapped[row | bit] = builder.shuffle_vector(*pair, ir.Constant(mask, high))
        rows = swapped
    return rows


@intrinsic  # type: ignore[misc]
def splat(typing: Any, value: Any) -> Any:
    """The float32 in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return lanes_type(types.float32), generate


@intrinsic  # type: ignore[misc]
def larger(typing: Any, left: Any, right: Any) -> Any:
    """The larger value of each lane; none may be NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = arguments
        return builder.select(builder.fcmp_ordered(">", left, right), left, right)

    return lanes_type(lanes_type, lanes_type), generate


@intrinsic  # type: ignore[misc]
def split_exponent(typing: Any, value: Any, lowest: Any) -> Any:
    """Each positive lane as m * 2**e: (m, e), m in lowest..2 * lowest given as float32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _INTEGERS)
        lowest = builder.bitcast(_splat(builder, builder.bitcast(arguments[1], _FLOAT)), _INTEGERS)
        mantissa_bits = ir.Constant(_INTEGERS, [23] * LANES)
        exponent = builder.ashr(builder.sub(bits, lowest), mantissa_bits)
        mantissa = builder.sub(bits, builder.shl(exponent, mantissa_bits))
        pair = (builder.bitcast(mantissa, _VECTOR), builder.sitofp(exponent, _VECTOR))
        return cgutils.pack_struct(builder, pair)

    result = types.UniTuple(lanes_type, 2)
    return result(lanes_type, types.int32), generate


def _arithmetic(symbol: Any, name: str) -> None:
    """Define an operator between lanes, and between lanes and a float32 on either side."""

    @intrinsic  # type: ignore[misc]
    def compute(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pair = zip(arguments, signature.args, strict=True)
            values = [v if t is lanes_type else _splat(builder, v) for v, t in pair]
            return getattr(builder, name)(*values, flags=_FLAGS)

        def fit(item: Any) -> Any:
            return item if isinstance(item, LanesType) else types.float32

        return lanes_type(fit(left), fit(right)), generate

    # Numba wants the overload's parameters written as its implementation's are, unannotated.
    @overload(symbol)
    def choose(left, right):  # type: ignore[no-untyped-def]
        if isinstance(left, LanesType) or isinstance(right, LanesType):
            return lambda left, right: compute(left, right)
        return None


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")
