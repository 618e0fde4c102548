"""Activation functions and their derivatives.

A piecewise function costs all of its pieces and the comparisons between them: a count never depends on the data.
Constants of the function (1/6, sqrt(2/pi), alpha * scale) are folded beforehand.
"""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, erf, exp, expm1, log, log1p, maximum, minimum, select, tanh
from flopscan.core.trace import TensorSpec
from flopscan.rules import pointwise, rule
from flopscan.rules.elementwise import clamped, sigmoid

_SQRT_2_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715
_SIXTH = 0.1666666716337204  # in single precision, as torch keeps it


def _example(*tensors: str, **scalars: Any) -> Any:
    return lambda m, n: {**{name: TensorSpec((m, n), "float64") for name in tensors}, **scalars}


def _scaled(x: Any, factor: Any) -> Any:
    return x if factor == 1 else x * factor


pointwise("aten::relu")(lambda self: maximum(self, 0.0))
pointwise("aten::hardtanh", example=_example("self", min_val=0.4, max_val=0.6))(
    lambda self, min_val=-1, max_val=1: clamped(self, min_val, max_val)
)


@pointwise("aten::hardtanh_backward", example=_example("grad_output", "self", min_val=0.4, max_val=0.6))
def hardtanh_backward(grad_output: Any, self: Any, min_val: Any, max_val: Any) -> Any:
    """The gradient between the bounds, 0 outside: two comparisons."""
    return select(self <= min_val, 0.0, select(self >= max_val, 0.0, grad_output))


@pointwise("aten::threshold", example=_example("self", threshold=0.5, value=0.1))
def threshold(self: Any, threshold: Any, value: Any) -> Any:
    """``x`` above the threshold, ``value`` below."""
    return select(self <= threshold, value, self)


@pointwise("aten::threshold_backward", example=_example("grad_output", "self", threshold=0.5))
def threshold_backward(grad_output: Any, self: Any, threshold: Any) -> Any:
    """The gradient above the threshold, 0 below: that of relu, among others."""
    return select(self <= threshold, 0.0, grad_output)


@pointwise("aten::leaky_relu")
def leaky_relu(self: Any, negative_slope: Any = 0.01) -> Any:
    """``x`` or ``slope * x``: a comparison and a multiplication."""
    return select(self > 0, self, self * negative_slope)


@pointwise(
    "aten::leaky_relu_backward", example=_example("grad_output", "self", negative_slope=0.1, self_is_result=False)
)
def leaky_relu_backward(grad_output: Any, self: Any, negative_slope: Any) -> Any:
    """``g`` or ``slope * g``: a comparison and a multiplication."""
    return select(self > 0, grad_output, grad_output * negative_slope)


@pointwise(
    "aten::elu",
    example=lambda m, n, alpha=(1, 0.7), scale=(1, 1.1), input_scale=(1, 0.8): {
        "self": TensorSpec((m, n), "float64"), "alpha": alpha, "scale": scale, "input_scale": input_scale,
    },
)  # fmt: skip
def elu(self: Any, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Any:
    """``scale * x`` or ``scale * alpha * (exp(input_scale * x) - 1)``; factors of 1 are not multiplied."""
    negative = _scaled(expm1(_scaled(self, input_scale)), alpha * scale)
    return select(self > 0, _scaled(self, scale), negative)


@pointwise("aten::celu", example=_example("self", alpha=0.7))
def celu(self: Any, alpha: Any = 1.0) -> Any:
    """``x`` or ``alpha * (exp(x / alpha) - 1)``."""
    return elu(self, alpha, 1, 1.0 / alpha)


@pointwise(
    "aten::elu_backward",
    example=lambda m, n, alpha=(1, 0.7), scale=(1, 1.1), input_scale=(1, 0.8), is_result=(False, True): {
        "grad_output": TensorSpec((m, n), "float64"), "alpha": alpha, "scale": scale, "input_scale": input_scale,
        "is_result": is_result, "self_or_result": TensorSpec((m, n), "float64"),
    },
)  # fmt: skip
def elu_backward(
    grad_output: Any, alpha: Any, scale: Any, input_scale: Any, is_result: Any, self_or_result: Any
) -> Any:
    """``g * scale`` or ``g * (negative slope)``, the slope from the exponential or, free of it, from the result."""
    if is_result:
        slope = _scaled(self_or_result + alpha * scale, input_scale)
    else:
        slope = _scaled(exp(_scaled(self_or_result, input_scale)), alpha * scale * input_scale)
    return select(self_or_result > 0, _scaled(grad_output, scale), grad_output * slope)


def _gelu_inner(x: Any, square: Any) -> Any:
    return x * (_SQRT_2_PI + (_SQRT_2_PI * _CUBIC) * square)


_APPROXIMATE = ("none", "tanh")


@pointwise(
    "aten::gelu",
    example=lambda m, n, approximate=_APPROXIMATE: {"self": TensorSpec((m, n), "float64"), "approximate": approximate},
)
def gelu(self: Any, approximate: Any = "none") -> Any:
    """``x/2 * (1 + erf(x / sqrt(2)))``, or with ``tanh(c * (x + 0.044715 * x**3))`` for erf."""
    inner = tanh(_gelu_inner(self, self * self)) if approximate == "tanh" else erf(self * math.sqrt(0.5))
    return 0.5 * self * (1.0 + inner)


@pointwise(
    "aten::gelu_backward",
    example=lambda m, n, approximate=_APPROXIMATE: {
        "grad_output": TensorSpec((m, n), "float64"), "self": TensorSpec((m, n), "float64"), "approximate": approximate,
    },
)  # fmt: skip
def gelu_backward(grad_output: Any, self: Any, approximate: Any = "none") -> Any:
    """``g * (cdf + x * pdf)``; by tanh ``g/2 * (1 + t + x * (1 - t*t) * inner')``."""
    if approximate == "tanh":
        square = self * self
        t = tanh(_gelu_inner(self, square))
        slope = _SQRT_2_PI + (3 * _SQRT_2_PI * _CUBIC) * square
        return grad_output * (0.5 * (1.0 + t + self * (1.0 - t * t) * slope))
    u = self * math.sqrt(0.5)
    density = (self * math.sqrt(0.5 / math.pi)) * exp(-(u * u))
    return grad_output * (0.5 + 0.5 * erf(u) + density)


@pointwise("aten::silu")
def silu(self: Any) -> Any:
    """``x / (1 + exp(-x))``."""
    return self / (1.0 + exp(-self))


@pointwise("aten::silu_backward")
def silu_backward(grad_output: Any, self: Any) -> Any:
    """``g * s * (1 + x * (1 - s))`` with s the sigmoid of x."""
    s = sigmoid(self)
    return grad_output * s * (1.0 + self * (1.0 - s))


@pointwise("aten::sigmoid_backward")
def sigmoid_backward(grad_output: Any, output: Any) -> Any:
    """``g * y * (1 - y)``."""
    return grad_output * output * (1.0 - output)


@pointwise("aten::tanh_backward")
def tanh_backward(grad_output: Any, output: Any) -> Any:
    """``g * (1 - y * y)``."""
    return grad_output * (1.0 - output * output)


@pointwise("aten::mish")
def mish(self: Any) -> Any:
    """``x * tanh(log(1 + exp(x)))``."""
    return self * tanh(log1p(exp(self)))


@pointwise("aten::mish_backward")
def mish_backward(grad_output: Any, self: Any) -> Any:
    """``g * (t + x * s * (1 - t*t))`` with t = tanh(softplus(x)) and s the sigmoid, from one exponential."""
    e = exp(self)
    w = 1.0 + e
    t = tanh(log(w))
    return grad_output * (t + self * (e / w) * (1.0 - t * t))


def _softplus_example(*tensors: str) -> Any:
    return lambda m, n, beta=(1, 2.0), threshold=(20, 0.5): {
        **{name: TensorSpec((m, n), "float64") for name in tensors}, "beta": beta, "threshold": threshold,
    }  # fmt: skip


@pointwise("aten::softplus", example=_softplus_example("self"))
def softplus(self: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    """``log(1 + exp(beta * x)) / beta``, and ``x`` above the threshold."""
    x = _scaled(self, beta)
    return select(x > threshold, self, _scaled(log1p(exp(x)), 1.0 / beta))


@pointwise("aten::softplus_backward", example=_softplus_example("grad_output", "self"))
def softplus_backward(grad_output: Any, self: Any, beta: Any, threshold: Any) -> Any:
    """``g / (1 + exp(-beta * x))``, and ``g`` above the threshold."""
    x = _scaled(self, beta)
    return select(x > threshold, grad_output, grad_output / (1.0 + exp(-x)))


@pointwise("aten::hardsigmoid")
def hardsigmoid(self: Any) -> Any:
    """``clamp(x / 6 + 1 / 2, 0, 1)``."""
    return clamped(self * (1.0 / 6.0) + 0.5, 0.0, 1.0)


@pointwise("aten::hardsigmoid_backward")
def hardsigmoid_backward(grad_output: Any, self: Any) -> Any:
    """``g / 6`` between -3 and 3, 0 outside."""
    return select(self <= -3.0, 0.0, select(self >= 3.0, 0.0, grad_output * _SIXTH))


@pointwise("aten::hardswish")
def hardswish(self: Any) -> Any:
    """``x * clamp(x / 6 + 1 / 2, 0, 1)``."""
    return self * hardsigmoid(self)


@pointwise("aten::hardswish_backward")
def hardswish_backward(grad_output: Any, self: Any) -> Any:
    """``g * (x / 3 + 1 / 2)`` between -3 and 3, 0 below and ``g`` above."""
    inside = grad_output * (self * (1.0 / 3.0) + 0.5)
    return select(self <= -3.0, 0.0, select(self >= 3.0, grad_output, inside))


@pointwise("aten::softshrink", example=_example("self", lambd=0.4))
def softshrink(self: Any, lambd: Any = 0.5) -> Any:
    """``x - clamp(x, -lambda, lambda)``."""
    return self - clamped(self, -lambd, lambd)


@pointwise("aten::hardshrink", example=_example("self", lambd=0.4))
def hardshrink(self: Any, lambd: Any = 0.5) -> Any:
    """0 where ``|x| <= lambda``."""
    return select(abs(self) <= lambd, 0.0, self)


@pointwise("aten::softshrink_backward", example=_example("grad_output", "self", lambd=0.4))
def softshrink_backward(grad_output: Any, self: Any, lambd: Any) -> Any:
    """The gradient, and 0 where ``|x| <= lambda``."""
    return select(abs(self) <= lambd, 0.0, grad_output)


@pointwise("aten::hardshrink_backward", example=_example("grad_out", "self", lambd=0.4))
def hardshrink_backward(grad_out: Any, self: Any, lambd: Any) -> Any:
    """The gradient, and 0 where ``|x| <= lambda``."""
    return select(abs(self) <= lambd, 0.0, grad_out)


pointwise("aten::_prelu_kernel")(lambda self, weight: leaky_relu(self, weight))


@rule(
    "aten::_prelu_kernel_backward",
    sizes=lambda call: {"n": call["self"].numel},
    reference=lambda grad_output, self, weight: _prelu_gradients(grad_output, self, weight),
    example=_example("grad_output", "self", "weight"),
)
def prelu_backward(n: Any) -> Cost:
    """Of each element ``w * g`` for x, ``x * g`` for w, where x is negative: one comparison, two multiplications."""
    return Cost(mul=2 * n, cmp=n)


def _prelu_gradients(grad_output: Array, self: Array, weight: Array) -> tuple[Array, Array]:
    pairs = []
    for g, x, w in zip(grad_output.data, self.data, weight.data, strict=True):
        positive = x > 0
        pairs.append((select(positive, g, w * g), select(positive, 0.0, x * g)))
    return Array(self.shape, (a for a, _ in pairs)), Array(self.shape, (b for _, b in pairs))


@pointwise("aten::rrelu_with_noise", example=_example("self", "noise", lower=0.1, upper=0.3))
def rrelu_with_noise(self: Any, lower: Any = 0.125, upper: Any = 1 / 3) -> Any:
    """``x`` or ``slope * x``; in training the slope is drawn, which is not arithmetic."""
    return leaky_relu(self, (lower + upper) / 2)


@pointwise(
    "aten::rrelu_with_noise_backward",
    example=lambda m, n, training=(False, True): {
        **{name: TensorSpec((m, n), "float64") for name in ("grad_output", "self", "noise")},
        "lower": 0.1, "upper": 0.3, "training": training, "self_is_result": False,
    },
)  # fmt: skip
def rrelu_with_noise_backward(grad_output: Any, self: Any, noise: Any, lower: Any, upper: Any, training: Any) -> Any:
    """``g`` times the slope that was drawn; in evaluation that of leaky_relu."""
    return grad_output * noise if training else leaky_relu_backward(grad_output, self, (lower + upper) / 2)


def _log_sigmoid(self: Array) -> tuple[Array, None]:
    return self.map(lambda x: minimum(x, 0.0) - log1p(exp(-abs(x)))), None


@rule(
    "aten::log_sigmoid_forward",
    sizes=lambda call: {"n": call["self"].numel},
    reference=_log_sigmoid,
    example=_example("self"),
)
def log_sigmoid(n: Any) -> Cost:
    """``min(x, 0) - log1p(exp(-|x|))``."""
    return Cost(add=n, exp=2 * n, cmp=n)


def _log_sigmoid_backward(grad_output: Array, self: Array) -> Array:
    return Array(self.shape, map(lambda g, x: g / (1.0 + exp(x)), grad_output.data, self.data))


@rule(
    "aten::log_sigmoid_backward",
    sizes=lambda call: {"n": call["self"].numel},
    moves=lambda call: (call["grad_output"].nbytes + call["self"].nbytes, call.out.nbytes),
    reference=_log_sigmoid_backward,
)
def log_sigmoid_backward(n: Any) -> Cost:
    """``g / (1 + exp(x))``; the buffer of the forward, which not every device fills, is not needed."""
    return Cost(add=n, div=n, exp=n)


def _halves(array: Array, dim: int) -> tuple[Array, Array]:
    shape = list(array.shape)
    dim %= len(shape)
    shape[dim] //= 2

    def half(start: int) -> Array:
        return Array.make(shape, lambda *i: array[i[:dim] + (i[dim] + start,) + i[dim + 1 :]])  # noqa: RUF005

    return half(0), half(shape[dim])


def _glu(self: Array, dim: int) -> Array:
    a, b = _halves(self, dim)
    return Array(a.shape, map(lambda x, y: x / (1.0 + exp(-y)), a.data, b.data))


def _doubled(m: int, n: int, dim: int) -> TensorSpec:
    return TensorSpec((2 * m, n) if dim == 0 else (m, 2 * n), "float64")


@rule(
    "aten::glu",
    sizes=lambda call: {"n": call.out.numel},
    reference=_glu,
    example=lambda m, n, dim=(0, 1, -1): {"self": _doubled(m, n, dim), "dim": dim},
)
def glu(n: Any) -> Cost:
    """``a / (1 + exp(-b))`` for each element of the result."""
    return Cost(add=n, div=n, exp=n)


def _glu_backward(grad_output: Array, self: Array, dim: int) -> Array:
    gradients = Array(self.shape, self.data)
    a, _ = _halves(self, dim)
    dim %= len(self.shape)
    half = a.shape[dim]
    for i, g in zip(_indices(a.shape), grad_output.data, strict=True):
        other = (*i[:dim], i[dim] + half, *i[dim + 1 :])
        s = sigmoid(self[other])
        first = g * s
        gradients[other] = first * self[i] * (1.0 - s)
        gradients[i] = first
    return gradients


def _indices(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(Array.make(shape, lambda *i: i).data)


@rule(
    "aten::glu_backward",
    sizes=lambda call: {"n": call["grad_output"].numel},
    reference=_glu_backward,
    example=lambda m, n, dim=(0, 1, -1): {
        "grad_output": TensorSpec((m, n), "float64"), "self": _doubled(m, n, dim), "dim": dim,
    },
)  # fmt: skip
def glu_backward(n: Any) -> Cost:
    """``g * s`` for a and ``g * s * a * (1 - s)`` for b, s the sigmoid of b, for each element of the gradient."""
    return Cost(add=2 * n, mul=3 * n, div=n, exp=n)
