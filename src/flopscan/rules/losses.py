"""Loss functions and their gradients: the n elements, then for a sum n - 1 additions, for a mean a division more.

The gradient of a mean is scaled by 1/n (a constant) once for each of the q incoming gradients, mostly one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, exp, log, log1p, maximum, select, special, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.elementwise import clamped

NONE, MEAN, SUM = 0, 1, 2
REDUCTIONS = (NONE, MEAN, SUM)


def _reduced(n: Any, reduction: Any) -> Cost:
    if reduction == NONE:
        return Cost()
    return Cost(add=max(n - 1, 0), div=int(reduction == MEAN))


def _reduce(values: list[Any], reduction: int, shape: tuple[int, ...]) -> Array:
    if reduction == NONE:
        return Array(shape, values)
    return Array((), [total(values) / len(values) if reduction == MEAN else total(values)])


def _sizes(call: Call) -> dict[str, Any]:
    gradient = call.get("grad_output")
    given = {f"has_{name}": call.get(name) is not None for name in ("weight", "pos_weight")}
    return {"n": call["self"].numel, "q": 1 if gradient is None else gradient.numel, **given}


def _loss(element: Callable[..., Any]) -> Callable[..., Array]:
    """The reference of a loss whose elements are ``element(x, y, beta or delta)``."""

    def reference(self: Array, target: Array, reduction: int = MEAN, beta: Any = 1.0, delta: Any = 1.0) -> Array:
        scale = beta if delta == 1.0 else delta
        return _reduce(
            [element(x, y, scale) for x, y in zip(self.data, target.data, strict=True)], reduction, self.shape
        )

    return reference


def _example(m: int, n: int, reduction: int, *names: str, **options: Any) -> dict[str, Any]:
    operands = {name: TensorSpec((m, n), "float64") for name in names if name != "grad_output"}
    if "grad_output" in names:
        operands["grad_output"] = TensorSpec((m, n) if reduction == NONE else (), "float64")
    return {**operands, "reduction": reduction, **options}


def _smooth_l1(x: Any, y: Any, beta: Any) -> Any:
    z = abs(x - y)
    return z if beta == 0 else select(z < beta, z * z * (0.5 / beta), z - 0.5 * beta)


def _huber(x: Any, y: Any, delta: Any) -> Any:
    z = abs(x - y)
    return select(z < delta, z * z * 0.5, (z - 0.5 * delta) * delta)


@rule(
    "aten::mse_loss",
    sizes=_sizes,
    reference=_loss(lambda x, y, _: (d := x - y) * d),
    example=lambda m, n, reduction=REDUCTIONS: _example(m, n, reduction, "self", "target"),
)
def mse_loss(n: Any, reduction: Any = MEAN) -> Cost:
    """``(x - y)**2``."""
    return Cost(add=n, mul=n) + _reduced(n, reduction)


@rule(
    "aten::smooth_l1_loss",
    sizes=_sizes,
    reference=_loss(_smooth_l1),
    example=lambda m, n, reduction=REDUCTIONS, beta=(1.0, 0.3, 0.0): _example(
        m, n, reduction, "self", "target", beta=beta
    ),
)
def smooth_l1_loss(n: Any, beta: Any = 1.0, reduction: Any = MEAN) -> Cost:
    """``z = |x - y|``, then ``z*z * 0.5/beta`` or ``z - beta/2``; with beta 0 the difference alone."""
    return (Cost(add=2 * n, mul=2 * n, cmp=n) if beta else Cost(add=n)) + _reduced(n, reduction)


@rule(
    "aten::huber_loss",
    sizes=_sizes,
    reference=_loss(_huber),
    example=lambda m, n, reduction=REDUCTIONS, delta=(1.0, 0.3): _example(
        m, n, reduction, "self", "target", delta=delta
    ),
)
def huber_loss(n: Any, reduction: Any = MEAN) -> Cost:
    """``z = |x - y|``, then ``z*z / 2`` or ``delta * (z - delta/2)``."""
    return Cost(add=2 * n, mul=3 * n, cmp=n) + _reduced(n, reduction)


@rule(
    "aten::soft_margin_loss",
    sizes=_sizes,
    reference=_loss(lambda x, y, _: log1p(exp(-(x * y)))),
    example=lambda m, n, reduction=REDUCTIONS: _example(m, n, reduction, "self", "target"),
)
def soft_margin_loss(n: Any, reduction: Any = MEAN) -> Cost:
    """``log(1 + exp(-x * y))``."""
    return Cost(mul=n, exp=2 * n) + _reduced(n, reduction)


def _gradient(
    element: Callable[..., Any], scale: Callable[[Any, bool, int], Any] | None = None
) -> Callable[..., Array]:
    """The reference of a gradient ``element(g, x, y, beta or delta)``, g being scaled by 1/n for a mean."""

    def reference(
        grad_output: Array, self: Array, target: Array, reduction: int, beta: Any = 1.0, delta: Any = 1.0
    ) -> Array:
        n, mean = len(self.data), reduction == MEAN
        if scale is not None:
            gradients = [scale(g, mean, n) for g in grad_output.data]
        else:
            gradients = [g * (1.0 / n) if mean else g for g in grad_output.data]
        spread = gradients if len(gradients) == n else gradients * n
        option = beta if delta == 1.0 else delta
        triples = zip(spread, self.data, target.data, strict=True)
        return Array(self.shape, (element(g, x, y, option) for g, x, y in triples))

    return reference


def _scaling(q: Any, reduction: Any) -> Cost:
    return Cost(mul=q) if reduction == MEAN else Cost()


_OF_THREE = ("grad_output", "self", "target")


@rule(
    "aten::mse_loss_backward",
    sizes=_sizes,
    reference=_gradient(lambda g, x, y, _: g * (x - y), lambda g, mean, n: g * (2.0 / n if mean else 2.0)),
    example=lambda m, n, reduction=REDUCTIONS: _example(m, n, reduction, *_OF_THREE),
)
def mse_loss_backward(n: Any, q: Any) -> Cost:
    """``(2 g) * (x - y)``, for a mean with 2/n for 2."""
    return Cost(add=n, mul=n + q)


def _smooth_l1_slope(g: Any, x: Any, y: Any, beta: Any) -> Any:
    d = x - y
    if beta == 0:
        return special("cmp", lambda value: float((value > 0) - (value < 0)))(d) * g
    return clamped(d if beta == 1 else d * (1.0 / beta), -1.0, 1.0) * g


@rule(
    "aten::smooth_l1_loss_backward",
    sizes=_sizes,
    reference=_gradient(_smooth_l1_slope),
    example=lambda m, n, reduction=REDUCTIONS, beta=(1.0, 0.3, 0.0): _example(m, n, reduction, *_OF_THREE, beta=beta),
)
def smooth_l1_loss_backward(n: Any, q: Any, beta: Any, reduction: Any) -> Cost:
    """``g * clamp((x - y) / beta, -1, 1)``; with beta 0 the sign of the difference."""
    cost = Cost(add=n, mul=n, cmp=2 * n if beta else n) + _scaling(q, reduction)
    return cost + Cost(mul=n) if beta not in (0, 1) else cost


@rule(
    "aten::huber_loss_backward",
    sizes=_sizes,
    reference=_gradient(lambda g, x, y, delta: clamped(x - y, -delta, delta) * g),
    example=lambda m, n, reduction=REDUCTIONS, delta=(1.0, 0.3): _example(m, n, reduction, *_OF_THREE, delta=delta),
)
def huber_loss_backward(n: Any, q: Any, reduction: Any) -> Cost:
    """``g * clamp(x - y, -delta, delta)``."""
    return Cost(add=n, mul=n, cmp=2 * n) + _scaling(q, reduction)


@rule(
    "aten::soft_margin_loss_backward",
    sizes=_sizes,
    reference=_gradient(lambda g, x, y, _: -(y * g) / (1.0 + exp(x * y))),
    example=lambda m, n, reduction=REDUCTIONS: _example(m, n, reduction, *_OF_THREE),
)
def soft_margin_loss_backward(n: Any, q: Any, reduction: Any) -> Cost:
    """``-y * g / (1 + exp(x * y))``."""
    return Cost(add=n, mul=2 * n, div=n, exp=n) + _scaling(q, reduction)


def _weighted(values: list[Any], weight: Array | None) -> list[Any]:
    return values if weight is None else [x * w for x, w in zip(values, weight.data, strict=True)]


def _bce(self: Array, target: Array, weight: Array | None = None, reduction: int = MEAN) -> Array:
    values = []
    for x, y in zip(self.data, target.data, strict=True):
        yes, no = maximum(log(x), -100.0), maximum(log1p(-x), -100.0)
        values.append(-(no + y * (yes - no)))
    return _reduce(_weighted(values, weight), reduction, self.shape)


def _bce_operands(
    m: int, n: int, reduction: Any = REDUCTIONS, weight: Any = (True, False), gradient: bool = False
) -> dict[str, Any]:
    names = ("self", "target", *(("weight",) if weight else ()), *(("grad_output",) if gradient else ()))
    return _example(m, n, reduction, *names)


@rule(
    "aten::binary_cross_entropy",
    sizes=_sizes,
    reference=_bce,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False): _bce_operands(m, n, reduction, weight),
)
def binary_cross_entropy(n: Any, has_weight: Any, reduction: Any = MEAN) -> Cost:
    """``-(l0 + y * (l1 - l0))``, l1 and l0 the logarithms of x and 1 - x, not less than -100; the weight n mul."""
    return Cost(add=2 * n, mul=n + n * has_weight, exp=2 * n, cmp=2 * n) + _reduced(n, reduction)


def _bce_backward(
    grad_output: Array, self: Array, target: Array, weight: Array | None = None, reduction: int = MEAN
) -> Array:
    def element(g: Any, x: Any, y: Any, _: Any) -> Any:
        return g * (x - y) / maximum((1.0 - x) * x, 1e-12)

    gradients = _gradient(element)(grad_output, self, target, reduction)
    return Array(self.shape, _weighted(gradients.data, weight))


@rule(
    "aten::binary_cross_entropy_backward",
    sizes=_sizes,
    reference=_bce_backward,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False): _bce_operands(m, n, reduction, weight, True),
)
def binary_cross_entropy_backward(n: Any, q: Any, has_weight: Any, reduction: Any = MEAN) -> Cost:
    """``g * (x - y) / max((1 - x) * x, 1e-12)``; the weight n mul."""
    return Cost(add=2 * n, mul=2 * n + n * has_weight, div=n, cmp=n) + _scaling(q, reduction)


def _bce_with_logits(
    self: Array, target: Array, weight: Array | None = None, pos_weight: Array | None = None, reduction: int = MEAN
) -> Array:
    slopes = None if pos_weight is None else [p - 1.0 for p in pos_weight.data]
    values = []
    for i, (x, y) in enumerate(zip(self.data, target.data, strict=True)):
        if slopes is None:
            values.append(maximum(x, 0.0) - x * y + log1p(exp(-abs(x))))
        else:
            rest = log1p(exp(-abs(x))) + maximum(-x, 0.0)
            values.append((1.0 - y) * x + (slopes[i % len(slopes)] * y + 1.0) * rest)
    return _reduce(_weighted(values, weight), reduction, self.shape)


@rule(
    "aten::binary_cross_entropy_with_logits",
    sizes=lambda call: {**_sizes(call), "k": p.numel if (p := call.get("pos_weight")) is not None else 0},
    reference=_bce_with_logits,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False), positive=(True, False): {
        **_bce_operands(m, n, reduction, weight), "pos_weight": TensorSpec((n,), "float64") if positive else None,
    },
)  # fmt: skip
def binary_cross_entropy_with_logits(
    n: Any, k: Any, has_weight: Any, has_pos_weight: Any, reduction: Any = MEAN
) -> Cost:
    """``max(x, 0) - x*y + log1p(exp(-|x|))``; with positive weights p (k of them)
    ``(1 - y)*x + ((p - 1)*y + 1) * (log1p(exp(-|x|)) + max(-x, 0))``; the weight n mul.
    """
    cost = Cost(add=4 * n + k, mul=3 * n) if has_pos_weight else Cost(add=2 * n, mul=n)
    return cost + Cost(mul=n * has_weight, exp=2 * n, cmp=n) + _reduced(n, reduction)
