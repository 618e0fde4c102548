"""Elementwise arithmetic: one definition per operator, on scalars; its tally is its cost.

A quotient by a number is a division and stays one; a sign flip and an absolute value are free (operand modifiers).
"""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import (
    Array,
    Num,
    Pair,
    complex_exp,
    cos,
    erf,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    maximum,
    rsqrt,
    select,
    sin,
    special,
    sqrt,
    tan,
    tanh,
)
from flopscan.core.trace import TensorSpec
from flopscan.rules import pointwise, rule

_M_N = ("float64", "complex128")


def times(x: Any, y: Any) -> Any:
    """The product, the complex factor first: it knows how to meet a real one."""
    return Pair.of(y) * x if isinstance(y, (Pair, complex)) else x * y


def minus(x: Any, y: Any, alpha: Any = 1) -> Any:
    """``x - alpha * y``."""
    y = y if alpha == 1 else times(alpha, y)
    return -(Pair.of(y) - x) if isinstance(y, (Pair, complex)) else x - y


def _unary(op: str, definition: Any) -> None:
    pointwise(f"aten::{op}")(lambda self: definition(self))


def _operands(m: int, n: int, left: Any = _M_N, right: Any = _M_N, alpha: Any = (1, 2.5)) -> dict[str, Any]:
    return {"self": TensorSpec((m, n), left), "other": TensorSpec((n,), right), "alpha": alpha}


@pointwise("aten::add", example=_operands)
def add(self: Any, other: Any, alpha: Any = 1) -> Any:
    """One addition; a multiplication more where ``alpha`` scales a tensor."""
    other = other if alpha == 1 else times(alpha, other)
    return Pair.of(other) + self if isinstance(other, (Pair, complex)) else self + other


@pointwise("aten::sub", example=_operands)
def sub(self: Any, other: Any, alpha: Any = 1) -> Any:
    """One subtraction; a multiplication more where ``alpha`` scales a tensor."""
    return minus(self, other, alpha)


@pointwise("aten::rsub", example=_operands)
def rsub(self: Any, other: Any, alpha: Any = 1) -> Any:
    """``other - alpha * self``."""
    return minus(other, self, alpha)


@pointwise("aten::mul", example=lambda m, n, left=_M_N, right=_M_N: {
    "self": TensorSpec((m, n), left), "other": TensorSpec((n,), right),
})  # fmt: skip
def mul(self: Any, other: Any) -> Any:
    """One multiplication; of complex numbers four and two additions, of a complex and a real number two."""
    return times(self, other)


@pointwise(
    "aten::div",
    example=lambda m, n, dtype=_M_N, rounding_mode=(None, "floor", "trunc"): {
        "self": TensorSpec((m, n), "float64" if rounding_mode else dtype),
        "other": TensorSpec((m, n), "float64" if rounding_mode else dtype),
        **({"rounding_mode": rounding_mode} if rounding_mode else {}),
    },
)
def div(self: Any, other: Any, rounding_mode: Any = None) -> Any:
    """One division, and a rounding where ``rounding_mode`` asks for it."""
    quotient = self / other
    if rounding_mode is None:
        return quotient
    return rounded(math.floor if rounding_mode == "floor" else math.trunc, quotient)


def rounded(how: Any, x: Any) -> Any:
    """``how(x)`` as one rounding."""
    return special("cmp", lambda value: float(how(value)))(x)


@pointwise("aten::floor_divide")
def floor_divide(self: Any, other: Any) -> Any:
    """A division and a rounding."""
    return rounded(math.floor, self / other)


@pointwise("aten::remainder")
def remainder(self: Any, other: Any) -> Any:
    """``self - floor(self / other) * other``."""
    return self - rounded(math.floor, self / other) * other


@pointwise("aten::fmod")
def fmod(self: Any, other: Any) -> Any:
    """``self - trunc(self / other) * other``."""
    return self - rounded(math.trunc, self / other) * other


@pointwise("aten::reciprocal")
def reciprocal(self: Any) -> Any:
    """One division; of a complex number its conjugate over its squared size."""
    if isinstance(self, Pair):
        size = self.re * self.re + self.im * self.im
        return Pair(self.re / size, -(self.im / size))
    return 1.0 / self


def raised(x: Any, p: Any) -> Any:
    """``x`` to the power ``p``: a known whole or half power by squaring, any other as exp(p * log x).

    x**2 is one multiplication, x**3 two, a negative power one division more, x**0.5 and x**-0.5 a square root.
    """
    known = isinstance(p, (int, float)) and math.isfinite(p) and float(2 * p).is_integer()
    if not known:
        return exp(p * log(x))
    if p < 0:
        return rsqrt(x) if p == -0.5 else reciprocal(raised(x, -p))
    power = None
    for bit in bin(math.floor(p))[2:] if p >= 1 else "":
        power = x if power is None else power * power
        if bit == "1" and power is not x:
            power = power * x
    if not float(p).is_integer():
        return sqrt(x) if power is None else power * sqrt(x)
    return 1.0 if power is None else power


@pointwise(
    "aten::pow",
    example=lambda m, n, base=(2.0, None), exponent=(2, 3, 7, 1, 0, -1, -2, 0.5, -0.5, 2.5, 0.3, None): {
        "self": base if base and exponent is None else TensorSpec((m, n), "float64"),
        "exponent": TensorSpec((n,), "float64") if exponent is None else exponent,
    },
)
def pow(self: Any, exponent: Any) -> Any:
    """A known whole or half power by squaring; a power of a known base one exponential; any other exp(p * log x)."""
    if not isinstance(self, (Num, Pair)):
        return special("exp", lambda p: self**p)(exponent)
    return raised(self, exponent)


atan2 = special("trig", math.atan2)
_unary("neg", lambda x: -x)
_unary("abs", abs)
_unary("_conj_physical", lambda x: Pair(x.re, -x.im) if isinstance(x, Pair) else x)
_unary("sqrt", sqrt)
_unary("rsqrt", rsqrt)
_unary("exp", lambda x: complex_exp(x) if isinstance(x, Pair) else exp(x))
_unary("exp2", exp2)
_unary("expm1", expm1)
_unary("log2", log2)
_unary("log10", log10)
_unary("log1p", log1p)
_unary("sin", sin)
_unary("cos", cos)
_unary("tan", tan)
_unary("asin", special("trig", math.asin))
_unary("acos", special("trig", math.acos))
_unary("atan", special("trig", math.atan))
_unary("sinh", special("trig", math.sinh))
_unary("cosh", special("trig", math.cosh))
_unary("asinh", special("trig", math.asinh))
_unary("atanh", special("trig", math.atanh))
_unary("tanh", tanh)
_unary("erf", erf)
_unary("erfc", special("trig", math.erfc))
_unary("lgamma", special("trig", math.lgamma))
_unary("deg2rad", lambda x: x * (math.pi / 180.0))
_unary("rad2deg", lambda x: x * (180.0 / math.pi))

pointwise("aten::atan2")(lambda self, other: atan2(self, other))
pointwise("aten::copysign")(lambda self, other: self)  # a sign flip


@pointwise("aten::log", example=lambda m, n, dtype=_M_N: {"self": TensorSpec((m, n), dtype)})
def logarithm(self: Any) -> Any:
    """One logarithm; of a complex number half that of its squared size, and its angle."""
    if isinstance(self, Pair):
        return Pair(0.5 * log(self.re * self.re + self.im * self.im), atan2(self.im, self.re))
    return log(self)


@pointwise("aten::sigmoid")
def sigmoid(self: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + exp(-self))


@pointwise("aten::hypot")
def hypot(self: Any, other: Any) -> Any:
    """``sqrt(x * x + y * y)``."""
    return sqrt(self * self + other * other)


@pointwise("aten::lerp")
def lerp(self: Any, end: Any, weight: Any) -> Any:
    """``start + weight * (end - start)``."""
    return self + weight * (end - self)


def _three(m: int, n: int, value: Any = (1, 0.5)) -> dict[str, Any]:
    names = ("self", "tensor1", "tensor2")
    return {**{name: TensorSpec((m, n), "float64") for name in names}, "value": value}


@pointwise("aten::addcmul", example=_three)
def addcmul(self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    """``x + value * a * b``; a ``value`` of 1 is not multiplied."""
    product = tensor1 * tensor2
    return self + (product if value == 1 else value * product)


@pointwise("aten::addcdiv", example=_three)
def addcdiv(self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    """``x + value * a / b``; a ``value`` of 1 is not multiplied."""
    quotient = tensor1 / tensor2
    return self + (quotient if value == 1 else value * quotient)


@pointwise("aten::logaddexp")
def logaddexp(self: Any, other: Any) -> Any:
    """``max + log1p(exp(-|x - y|))``."""
    return maximum(self, other) + log1p(exp(-abs(self - other)))


@pointwise("aten::logaddexp2")
def logaddexp2(self: Any, other: Any) -> Any:
    """``max + log2(1 + 2 ** -|x - y|)``, the logarithm of one plus a number being one operation as log1p is."""
    rest = special("exp", lambda x: math.log2(1.0 + x))
    return maximum(self, other) + rest(exp2(-abs(self - other)))


@pointwise("aten::xlogy")
def xlogy(self: Any, other: Any) -> Any:
    """``x * log(y)``, and 0 where x is 0."""
    return _or_zero(self, self * log(other))


@pointwise("aten::special_xlog1py")
def special_xlog1py(self: Any, other: Any) -> Any:
    """``x * log1p(y)``, and 0 where x is 0."""
    return _or_zero(self, self * log1p(other))


def _or_zero(x: Any, product: Any) -> Any:
    return select(x == 0, 0.0, product)


@pointwise("aten::special_entr")
def special_entr(self: Any) -> Any:
    """``-x * log(x)``, 0 at 0 and -inf below."""
    return select(self < 0, -math.inf, select(self == 0, 0.0, -self * log(self)))


@pointwise("aten::sinc")
def sinc(self: Any) -> Any:
    """``sin(pi x) / (pi x)``, and 1 at 0."""
    x = math.pi * self
    return select(self == 0, 1.0, sin(x) / x)


@pointwise("aten::logit", example=lambda m, n, eps=(None, 0.3): {"self": TensorSpec((m, n), "float64"), "eps": eps})
def logit(self: Any, eps: Any = None) -> Any:
    """``log(x / (1 - x))``, of x clamped to [eps, 1 - eps] where ``eps`` is given."""
    x = self if eps is None else clamped(self, eps, 1.0 - eps)
    return log(x / (1.0 - x))


@pointwise(
    "aten::logit_backward",
    example=lambda m, n, eps=(None, 0.3): {
        "grad_output": TensorSpec((m, n), "float64"), "self": TensorSpec((m, n), "float64"), "eps": eps,
    },
)  # fmt: skip
def logit_backward(grad_output: Any, self: Any, eps: Any = None) -> Any:
    """``g / (x * (1 - x))``, and 0 outside of [eps, 1 - eps]."""
    slope = grad_output / (self * (1.0 - self))
    if eps is None:
        return slope
    return select(self < eps, 0.0, select(self > 1.0 - eps, 0.0, slope))


def clamped(x: Any, low: Any, high: Any) -> Any:
    """``x`` between the bounds that are given, one comparison a bound."""
    x = x if low is None else maximum(x, low)
    return x if high is None else special("cmp", min)(x, high)


@pointwise("aten::polar")
def polar(abs: Any, angle: Any) -> Any:
    """``size * cos(angle)`` and ``size * sin(angle)``."""
    return Pair(abs * cos(angle), abs * sin(angle))


@pointwise("aten::angle", example=lambda m, n, dtype=_M_N: {"self": TensorSpec((m, n), dtype)})
def angle(self: Any) -> Any:
    """The arc tangent of the two parts; of a real number 0 or pi."""
    return atan2(self.im, self.re) if isinstance(self, Pair) else select(self < 0, math.pi, 0.0)


pointwise("aten::complex")(lambda real, imag: Pair(real, imag))  # two numbers side by side: no arithmetic


@rule(
    "aten::frexp",
    sizes=lambda call: {"n": call["self"].numel},
    reference=lambda self: (self.map(lambda x: x.did("cmp", math.frexp(x.value)[0])), None),
    example=lambda m, n: {"self": TensorSpec((m, n), "float64")},
)
def frexp(n: Any) -> Cost:
    """Mantissa and exponent taken apart: one rounding each number."""
    return Cost(cmp=n)


def _cross(self: Array, other: Array) -> Array:
    rows = zip(*(iter(self.data),) * 3, strict=True), zip(*(iter(other.data),) * 3, strict=True)
    products = [(b * z - c * y, c * x - a * z, a * y - b * x) for (a, b, c), (x, y, z) in zip(*rows, strict=True)]
    return Array(self.shape, [value for row in products for value in row])


@rule(
    "aten::linalg_cross",
    sizes=lambda call: {"n": call.out.numel},
    reference=_cross,
    example=lambda m, n: {name: TensorSpec((m, n, 3), "float64") for name in ("self", "other")},
)
def cross(n: Any) -> Cost:
    """Two multiplications and a subtraction for each of three components."""
    return Cost(mul=2 * n, add=n)


@rule("aten::ldexp", sizes=lambda call: {"n": call.out.numel}, source="a power of two is an exponent, not a function")
def ldexp(n: Any) -> Cost:
    """One multiplication. Where torch has no operator of its own for it, it runs a power and a product."""
    return Cost(mul=n)


@rule(
    "aten::digamma", "aten::polygamma", "aten::mvlgamma", "aten::erfinv", "aten::acosh", "aten::i0", "aten::igamma",
    "aten::igammac", "aten::special_i0e", "aten::special_i1", "aten::special_i1e", "aten::special_erfcx",
    "aten::special_log_ndtr", "aten::special_ndtri", "aten::special_zeta", "aten::special_airy_ai",
    "aten::special_bessel_j0", "aten::special_bessel_j1", "aten::special_bessel_y0", "aten::special_bessel_y1",
    "aten::special_modified_bessel_i0", "aten::special_modified_bessel_i1", "aten::special_modified_bessel_k0",
    "aten::special_modified_bessel_k1", "aten::special_scaled_modified_bessel_k0",
    "aten::special_scaled_modified_bessel_k1", "aten::special_spherical_bessel_j0",
    sizes=lambda call: {"n": call.out.numel},
    source="a special function is one operation of its kind; Python has no implementation to run as a reference",
)  # fmt: skip
def special_functions(n: Any) -> Cost:
    """One special function an element."""
    return Cost(trig=n)
