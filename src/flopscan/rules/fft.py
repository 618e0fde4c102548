"""Fourier transforms: 5 n log2(n) operations for n complex numbers, half of that for n real ones.

For n a power of two that is exactly what the radix-2 transform does, trivial factors multiplied like all others
(n/2 log2(n) butterflies of 4 mul and 6 add). For other n it is the measure that FFTW's benchmarks use for any
algorithm (https://www.fftw.org/speed/method.html), rounded.
"""

from __future__ import annotations

import cmath
import itertools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Pair
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule


def transform(n: int, halves: int = 2) -> Cost:
    """One transform of length n: 2 n log2(n) mul and 3 n log2(n) add; ``halves=1`` where one side is real."""
    steps = halves * n * math.log2(n) if n > 1 else 0
    return Cost(mul=round(steps), add=round(1.5 * steps))


def _along(shape: tuple[int, ...], axes: Any) -> Cost:
    """Complex transforms along ``axes`` of a tensor of ``shape``."""
    lines = {axis: math.prod(shape) // max(shape[axis], 1) for axis in axes}
    return sum((transform(shape[axis]) * count for axis, count in lines.items()), Cost())


def _radix2(x: list[Any], sign: int) -> list[Any]:
    n = len(x)
    if n == 1:
        return x
    even, odd = _radix2(x[::2], sign), _radix2(x[1::2], sign)
    turned = [cmath.exp(sign * 2j * math.pi * k / n) for k in range(n // 2)]
    products = [b * w for b, w in zip(odd, turned, strict=True)]
    low = [a + b for a, b in zip(even, products, strict=True)]
    return low + [a - b for a, b in zip(even, products, strict=True)]


def _c2c(self: Array, dim: list[int], normalization: int, forward: bool) -> Array:
    """Along each axis in turn, then the scale: none, 1/sqrt(n) or 1/n."""
    result = Array(self.shape, self.data)
    for axis in dim:
        others = [range(1) if a == axis else range(s) for a, s in enumerate(self.shape)]
        for start in itertools.product(*others):
            line = [(*start[:axis], k, *start[axis + 1 :]) for k in range(self.shape[axis])]
            for at, value in zip(line, _radix2([result[at] for at in line], -1 if forward else 1), strict=True):
                result[at] = value
    n = math.prod(self.shape[axis] for axis in dim)
    scale = {1: n**-0.5, 2: 1 / n}.get(normalization)
    return result if scale is None else result.map(lambda x: Pair(x.re * scale, x.im * scale))


def _example(
    m: Any = (1, 2, 4), n: Any = (1, 2, 8), dim: Any = ((0,), (1,), (0, 1)), normalization: Any = (0, 1, 2),
    forward: Any = (True, False),
) -> dict[str, Any]:  # fmt: skip
    operands = {"dim": list(dim), "normalization": normalization, "forward": forward}
    return {"self": TensorSpec((m, n), "complex128"), **operands}


def _unchanged(cost: Cost) -> Cost:
    """The formulas are in real operations already."""
    return cost


@rule("aten::_fft_c2c", reference=_c2c, example=_example, complex=_unchanged)
def c2c(call: Call, dim: Any, normalization: int) -> Cost:
    """A transform along each axis, 2 n log2(n) mul and 3 n log2(n) add; a scale is 2 mul per element."""
    shape = call.out.shape
    return _along(shape, dim) + Cost(mul=2 * call.out.numel if normalization else 0)


@rule("aten::_fft_r2c", complex=_unchanged)
def r2c(call: Call, dim: Any, normalization: int) -> Cost:
    """Half a transform along the last axis named, whole ones along the others on the half spectrum that is kept."""
    real, last = call["self"].shape, dim[-1]
    half = tuple(s // 2 + 1 if a == last % len(real) else s for a, s in enumerate(real))
    lines = call["self"].numel // max(real[last], 1)
    scaled = 2 * math.prod(half) if normalization else 0
    return transform(real[last], halves=1) * lines + _along(half, dim[:-1]) + Cost(mul=scaled)


@rule("aten::_fft_c2r", complex=_unchanged)
def c2r(call: Call, dim: Any, normalization: int) -> Cost:
    """Whole transforms along all axes but the last named, then half a transform along that."""
    real, last = call.out.shape, dim[-1]
    lines = call.out.numel // max(real[last], 1)
    scaled = call.out.numel if normalization else 0
    return _along(call["self"].shape, dim[:-1]) + transform(real[last], halves=1) * lines + Cost(mul=scaled)
