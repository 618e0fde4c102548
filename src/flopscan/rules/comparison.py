"""Comparison, selection and rounding, element by element: one ``cmp`` each, with the selection that it feeds.

A complex number is two real ones: it takes two comparisons to tell it from another, two selections to choose it.
Logic on truth values is integer work; a floating-point operand of it is first compared with zero.
"""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Pair, Truth, maximum, minimum, select, special
from flopscan.core.trace import TensorSpec
from flopscan.rules import pointwise, rule
from flopscan.rules.elementwise import clamped, rounded


def _integers(*names: str) -> Any:
    return lambda m, n: {name: TensorSpec((m, n), "int64") for name in names}


def _equal(x: Any, y: Any) -> Truth:
    if not isinstance(x, Pair) and not isinstance(y, Pair):
        return x == y
    x, y = Pair.of(x), Pair.of(y)
    same = [a == (0.0 if b is None else b) for a, b in ((x.re, y.re), (x.im, y.im))]
    return Truth(all(same))


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    if not isinstance(yes, Pair) and not isinstance(no, Pair):
        return select(condition, yes, no)
    yes, no = Pair.of(yes), Pair.of(no)
    imaginary = [0.0 if part is None else part for part in (yes.im, no.im)]
    return Pair(select(condition, yes.re, no.re), select(condition, *imaginary))


def _truth(x: Any) -> bool:
    """Whether ``x`` is not zero; a truth value is known already."""
    return x if isinstance(x, bool) else not _equal(x, 0)


@pointwise("aten::where")
def where(condition: Any, self: Any, other: Any) -> Any:
    """One selection by a stored mask."""
    return _choose(condition, self, other)


@pointwise("aten::masked_fill", example=lambda m, n: {
    "self": TensorSpec((m, n), "float64"), "mask": TensorSpec((n,), "bool"), "value": -1.0,
})  # fmt: skip
def masked_fill(self: Any, mask: Any, value: Any) -> Any:
    """One selection by a stored mask."""
    return _choose(mask, value, self)


def _pair_operands(m: int, n: int, dtype: Any = ("float64", "complex128")) -> dict[str, Any]:
    return {"self": TensorSpec((m, n), dtype), "other": TensorSpec((n,), dtype)}


pointwise("aten::eq", example=_pair_operands)(lambda self, other: _equal(self, other))
pointwise("aten::ne", example=_pair_operands)(lambda self, other: Truth(not _equal(self, other)))
pointwise("aten::lt")(lambda self, other: self < other)
pointwise("aten::le")(lambda self, other: self <= other)
pointwise("aten::gt")(lambda self, other: self > other)
pointwise("aten::ge")(lambda self, other: self >= other)
pointwise("aten::isnan")(lambda self: Truth(not _equal(self, self)))
pointwise("aten::isinf")(lambda self: abs(self) == math.inf)
pointwise("aten::isposinf")(lambda self: self == math.inf)
pointwise("aten::isneginf")(lambda self: self == -math.inf)
pointwise("aten::signbit")(lambda self: self < 0)
pointwise("aten::maximum", "aten::fmax")(lambda self, other: maximum(self, other))
pointwise("aten::minimum", "aten::fmin")(lambda self, other: minimum(self, other))
pointwise("aten::nextafter")(lambda self, other: special("cmp", math.nextafter)(self, other))
pointwise("aten::sign")(lambda self: special("cmp", _sign)(self))
pointwise("aten::logical_not")(lambda self: _equal(self, 0))
pointwise("aten::logical_and")(lambda self, other: Truth(all([_truth(self), _truth(other)])))
pointwise("aten::logical_or")(lambda self, other: Truth(any([_truth(self), _truth(other)])))
pointwise("aten::logical_xor")(lambda self, other: Truth(_truth(self) != _truth(other)))


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


@pointwise("aten::sgn", example=lambda m, n, dtype=("float64", "complex128"): {"self": TensorSpec((m, n), dtype)})
def sgn(self: Any) -> Any:
    """The sign; of a complex number ``z / |z|``, and 0 at 0."""
    if not isinstance(self, Pair):
        return special("cmp", _sign)(self)
    size = abs(self)
    zero = size == 0
    return Pair(select(zero, 0.0, self.re / size), select(zero, 0.0, self.im / size))


@pointwise("aten::heaviside")
def heaviside(self: Any, values: Any) -> Any:
    """0 below zero, 1 above, ``values`` at zero: two comparisons."""
    return select(self == 0, values, select(self > 0, 1.0, 0.0))


@pointwise(
    "aten::clamp",
    example=lambda m, n, min=(0.4, None), max=(0.6, "tensor"): {
        "self": TensorSpec((m, n), "float64"),
        "min": TensorSpec((1,), "float64") if min and max == "tensor" else min,
        "max": TensorSpec((n,), "float64") if max == "tensor" else max,
    },
)
def clamp(self: Any, min: Any = None, max: Any = None) -> Any:
    """One comparison a bound."""
    return clamped(self, min, max)


pointwise("aten::clamp_min")(lambda self, min: maximum(self, min))
pointwise("aten::clamp_max")(lambda self, max: minimum(self, max))


@pointwise("aten::nan_to_num")
def nan_to_num(self: Any) -> Any:
    """Three comparisons: with itself (NaN) and with both infinities."""
    finite = select(self == math.inf, math.inf, select(self == -math.inf, -math.inf, self))
    return select(self != self, 0.0, finite)


pointwise("aten::floor")(lambda self: rounded(math.floor, self))
pointwise("aten::ceil")(lambda self: rounded(math.ceil, self))
pointwise("aten::trunc")(lambda self: rounded(math.trunc, self))
pointwise("aten::frac")(lambda self: self - rounded(math.trunc, self))


@pointwise("aten::round", example=lambda m, n, decimals=(None, 1): {
    "self": TensorSpec((m, n), "float64"), **({} if decimals is None else {"decimals": decimals}),
})  # fmt: skip
def round_(self: Any, decimals: Any = 0) -> Any:
    """One rounding; to ``decimals`` places scaled up before and divided back after."""
    return rounded(round, self) if decimals == 0 else rounded(round, self * 10.0**decimals) / 10.0**decimals


def _member(x: Any, candidates: Array) -> bool:
    found = [bool(x == y) for y in candidates.data]  # all of them, so that the count does not depend on the data
    return any(found)


@rule(
    "aten::isin",
    sizes=lambda call: {
        "n": call["elements"].numel if "elements" in call.args else 1,
        "k": call["test_elements"].numel if "test_elements" in call.args else 1,
    },
    reference=lambda elements, test_elements: elements.map(lambda x: _member(x, test_elements)),
    example=lambda m, n: {"elements": TensorSpec((m,), "float64"), "test_elements": TensorSpec((n,), "float64")},
)
def isin(n: Any, k: Any) -> Cost:
    """Each of n elements is compared with each of k candidates."""
    return Cost(cmp=n * k)


# Integers and truth values alone: no floating-point arithmetic.
pointwise("aten::bitwise_not", example=_integers("self"))(lambda self: ~self)
pointwise("aten::bitwise_and", example=_integers("self", "other"))(lambda self, other: self & other)
pointwise("aten::bitwise_or", example=_integers("self", "other"))(lambda self, other: self | other)
pointwise("aten::bitwise_xor", example=_integers("self", "other"))(lambda self, other: self ^ other)
pointwise("aten::bitwise_left_shift", "aten::__lshift__", example=_integers("self", "other"))(
    lambda self, other: self << other
)
pointwise("aten::bitwise_right_shift", "aten::__rshift__", example=_integers("self", "other"))(
    lambda self, other: self >> other
)
pointwise("aten::gcd", example=_integers("self", "other"))(lambda self, other: math.gcd(self, other))
pointwise("aten::lcm", example=_integers("self", "other"))(lambda self, other: math.lcm(self, other))
