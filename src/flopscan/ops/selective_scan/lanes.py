"""Sixteen float32 numbers at once, as a type and functions for code that Numba compiles.

One such vector is a register of AVX-512, two of AVX2, four of NEON; LLVM splits it. Memory is addressed by integers: a
pointer and an offset in elements, so that a kernel takes operands of any strides and is compiled once.

Polynomials: least maximum of the relative error, by Lawson's iteration on Chebyshev points, rounded to float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LANES = 16
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)

_LOG2_E = math.log2(math.e)
# 2**r = 1 + r q(r) and e**r = 1 + r q(r), |r| up to a half and up to log(2) / 2: within 4e-9
_POWER = (
    0.6931471824645996, 0.24022649228572845, 0.05550357326865196, 0.009618237614631653, 0.0013390735257416964,
    0.00015403512225020677,
)  # fmt: skip
_EXPONENTIAL = (
    1.0, 0.4999999701976776, 0.1666650027036667, 0.0416671559214592, 0.008369778282940388, 0.0013888871762901545,
)  # fmt: skip
# log(1 + y) = y q(y), y from 0 to 1: within 5e-9
_LOGARITHM = (
    1.0, -0.4999990165233612, 0.3332996368408203, -0.24954134225845337, 0.1967593878507614, -0.15305590629577637,
    0.10603651404380798, -0.056959498673677444, 0.01985144428908825, -0.0032440212089568377,
)  # fmt: skip
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is log(2); the first has few bits


class Vector(types.Type):
    """The Numba type of sixteen float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


class _Emit:
    """LLVM instructions on vectors, of one builder."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def constant(self, value: float) -> Any:
        return ir.Constant(_VECTOR, [value] * LANES)

    def intrinsic(self, name: str, *operands: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(operands))
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"{name}.v{LANES}f32")
        return self.builder.call(function, operands)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return self.intrinsic("llvm.fmuladd", x, y, z)

    def add(self, x: Any, y: Any) -> Any:
        return self.builder.fadd(x, y)

    def mul(self, x: Any, y: Any) -> Any:
        return self.builder.fmul(x, y)

    def minimum(self, x: Any, most: float) -> Any:
        """x, at most ``most``; NaN stays."""
        limit = self.constant(most)
        return self.builder.select(self.builder.fcmp_ordered(">", x, limit), limit, x)

    def magnitude(self, x: Any) -> Any:
        return self.intrinsic("llvm.fabs", x)

    def negative(self, x: Any) -> Any:
        return self.builder.fsub(self.constant(-0.0), x)

    def polynomial(self, x: Any, coefficients: tuple[float, ...]) -> Any:
        *rest, total = map(self.constant, coefficients)
        for coefficient in reversed(rest):
            total = self.fma(total, x, coefficient)
        return total

    def split(self, x: Any) -> tuple[Any, Any]:
        """The nearest whole number to x, and 2 to that power."""
        magic = self.constant(1.5 * 2**23 + 127)  # added to a number, it leaves the whole part in the lowest bits
        shifted = self.add(x, magic)
        bits = self.builder.shl(self.builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return self.builder.fsub(shifted, magic), self.builder.bitcast(bits, _VECTOR)

    def or_zero(self, power: Any, x: Any) -> Any:
        """``power``, which is 2**x, and zero where that would not be normal; NaN stays."""
        small = self.builder.fcmp_ordered("<", x, self.constant(-126.0))
        return self.builder.select(small, self.constant(0.0), power)

    def exp2(self, x: Any) -> Any:
        x = self.minimum(x, 128.0)
        whole, scale = self.split(x)
        rest = self.builder.fsub(x, whole)
        power = self.fma(self.polynomial(rest, _POWER), rest, self.constant(1.0))
        return self.or_zero(self.mul(power, scale), x)

    def exp(self, x: Any) -> Any:
        """e**x, to the last bit but one however large x is: log(2) is taken off in two parts."""
        x = self.minimum(x, 128.0 / _LOG2_E)
        exponent = self.mul(x, self.constant(_LOG2_E))
        whole, scale = self.split(exponent)
        rest = self.fma(whole, self.constant(-_LN2_HIGH), x)
        rest = self.fma(whole, self.constant(-_LN2_LOW), rest)
        power = self.fma(self.polynomial(rest, _EXPONENTIAL), rest, self.constant(1.0))
        return self.or_zero(self.mul(power, scale), exponent)

    def softplus(self, x: Any) -> Any:
        """log(1 + e**x): the larger of x and 0, and the logarithm of 1 + e**-|x|."""
        y = self.exp(self.negative(self.magnitude(x)))
        positive = self.builder.select(self.builder.fcmp_ordered("<", x, self.constant(0.0)), self.constant(0.0), x)
        return self.fma(self.polynomial(y, _LOGARITHM), y, positive)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e**-x), by e**-|x| so that nothing overflows."""
        y = self.exp(self.negative(self.magnitude(x)))
        below = self.builder.fcmp_ordered("<", x, self.constant(0.0))
        upper = self.builder.select(below, y, self.constant(1.0))
        return self.builder.fdiv(upper, self.add(self.constant(1.0), y))


def _function(operands: int, emit: Callable[..., Any]) -> Any:
    """A function of so many vectors, as Numba calls it."""
    arguments = [vector] * operands

    def typed(*given: Any) -> Any:
        if list(given) != arguments:
            return None

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return emit(_Emit(builder), *values)

        return vector(*arguments), generate

    one, two, three = (
        lambda typing, x: typed(x),
        lambda typing, x, y: typed(x, y),
        lambda typing, x, y, z: typed(x, y, z),
    )
    return intrinsic((one, two, three)[operands - 1])


add = _function(2, _Emit.add)
mul = _function(2, _Emit.mul)
fma = _function(3, _Emit.fma)  # x y + z
exp2 = _function(1, _Emit.exp2)
softplus = _function(1, _Emit.softplus)
sigmoid = _function(1, _Emit.sigmoid)


def _place(builder: Any, pointer: Any, index: Any, kind: Any) -> Any:
    """The address of element ``index`` after the address ``pointer``, for a value of ``kind``."""
    base = builder.inttoptr(pointer, _FLOAT.as_pointer())
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())


@intrinsic
def splat(typing: Any, x: Any) -> Any:
    """Sixteen times the same number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), values[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, [0] * LANES))

    return vector(types.float32), generate


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum of the sixteen, in pairs."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values
        width = LANES
        while width > 1:
            width //= 2
            parts = (ir.Constant(ir.VectorType(_INT, width), list(range(i, i + width))) for i in (0, width))
            low, high = (builder.shuffle_vector(x, x, part) for part in parts)
            x = builder.fadd(low, high)
        return builder.extract_element(x, ir.Constant(_INT, 0))

    return types.float32(vector), generate


@intrinsic
def load(typing: Any, pointer: Any, index: Any) -> Any:
    """The vector at an address and an offset in elements."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_place(builder, *values, _VECTOR), align=4)

    return vector(types.int64, types.int64), generate


@intrinsic
def store(typing: Any, pointer: Any, index: Any, x: Any) -> Any:
    """Write a vector."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _place(builder, *values[:2], _VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vector), generate


@intrinsic
def get(typing: Any, pointer: Any, index: Any) -> Any:
    """The number at an address and an offset in elements."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_place(builder, *values, _FLOAT), align=4)

    return types.float32(types.int64, types.int64), generate


@intrinsic
def put(typing: Any, pointer: Any, index: Any, x: Any) -> Any:
    """Write a number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _place(builder, *values[:2], _FLOAT), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@intrinsic
def transpose(typing: Any, source: Any, row: Any, target: Any, column: Any) -> Any:
    """Write a square of sixteen rows, each ``row`` elements after the last, with rows and columns exchanged.

    ``target`` and ``column`` are the same of what is written. Four rounds of exchanges between pairs of rows.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, row, target, column = values

        def at(base: Any, step: Any, i: int) -> Any:
            return _place(builder, base, builder.mul(step, ir.Constant(step.type, i)), _VECTOR)

        rows = [builder.load(at(source, row, i), align=4) for i in range(LANES)]
        distance = LANES // 2
        while distance:
            low = [i + (LANES - distance) * bool(i & distance) for i in range(LANES)]
            high = [i + distance if not i & distance else i + LANES for i in range(LANES)]
            for i in range(LANES):
                if not i & distance:
                    x, y = rows[i], rows[i + distance]
                    rows[i] = builder.shuffle_vector(x, y, ir.Constant(_INTS, low))
                    rows[i + distance] = builder.shuffle_vector(x, y, ir.Constant(_INTS, high))
            distance //= 2
        for i, x in enumerate(rows):
            builder.store(x, at(target, column, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def totals(typing: Any, source: Any) -> Any:
    """The sums of sixteen vectors that lie one after the other, as one vector: halves are added pair by pair."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows = [
            builder.load(_place(builder, values[0], ir.Constant(_INT, i * LANES), _VECTOR), align=4)
            for i in range(LANES)
        ]
        distance = LANES // 2
        while distance:
            low = [i + (LANES - distance) * bool(i & distance) for i in range(LANES)]
            high = [i + distance if not i & distance else i + LANES for i in range(LANES)]
            rows = [
                builder.fadd(*(builder.shuffle_vector(x, y, ir.Constant(_INTS, picked)) for picked in (low, high)))
                for x, y in zip(rows[:distance], rows[distance:], strict=True)
            ]
            distance //= 2
        return rows[0]

    return vector(types.int64), generate
