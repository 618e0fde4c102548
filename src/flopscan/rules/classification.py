"""Losses of class labels. Labels are values: none is taken to be skipped by ``ignore_index``."""

from __future__ import annotations

import itertools
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, maximum, select, total
from flopscan.core.trace import Call, TensorSpec, itemsize
from flopscan.rules import rule
from flopscan.rules.losses import MEAN, NONE, REDUCTIONS


def _sizes(call: Call) -> dict[str, Any]:
    gradient = call.get("grad_output")
    return {
        "n": call["target"].numel,
        "classes": call["self"].shape[1 if len(call["self"].shape) > 1 else 0],
        "has_weight": call.get("weight") is not None,
        "q": 1 if gradient is None else gradient.numel,
    }


def _read(call: Call, *names: str) -> int:
    return sum(spec.nbytes for name in names if isinstance(spec := call.get(name), TensorSpec))


def _nll_moves(call: Call) -> tuple[int, int]:
    """One number of each row is read, that of its label."""
    picked = call["target"].numel * itemsize(call["self"].dtype)
    return picked + _read(call, "target", "weight"), sum(spec.nbytes for spec in call.outputs)


def _nll_backward_moves(call: Call) -> tuple[int, int]:
    """The gradient of every class is written, most of them as 0; the input is not read."""
    return _read(call, "grad_output", "target", "weight", "total_weight"), call.out.nbytes


def _places(target: Array, batched: bool) -> list[tuple[tuple[int, ...], int]]:
    """Where the number of each label stands: the sample's index, the class after its first axis."""
    places = []
    for i, label in zip(itertools.product(*map(range, target.shape)), target.data, strict=True):
        places.append(((*i[:1], label, *i[1:]) if batched else (label,), label))
    return places


def _nll(self: Array, target: Array, weight: Array | None, reduction: int) -> tuple[Array, Array | None]:
    values, weights = [], []
    for place, label in _places(target, len(self.shape) > 1):
        x = -self[place]
        values.append(x if weight is None else x * weight[label])
        weights.append(1.0 if weight is None else weight[label])
    if reduction == NONE:
        return Array(target.shape, values), None
    size = total(weights)
    return Array((), [total(values) / size if reduction == MEAN else total(values)]), Array((), [size])


def _labelled(m: int, n: int, *space: int, reduction: int, weight: bool) -> dict[str, Any]:
    return {
        "self": TensorSpec((m, n, *space), "float64"),
        "target": TensorSpec((m, *space), "int64"),
        "weight": TensorSpec((n,), "float64") if weight else None,
        "reduction": reduction,
        "ignore_index": -100,
    }


@rule(
    "aten::nll_loss_forward",
    sizes=_sizes, moves=_nll_moves, reference=_nll,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False): _labelled(
        m, n, reduction=reduction, weight=weight
    ),
)  # fmt: skip
@rule(
    "aten::nll_loss2d_forward",
    sizes=_sizes, moves=_nll_moves, reference=_nll,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False): _labelled(
        m, n, 2, 1, reduction=reduction, weight=weight
    ),
)  # fmt: skip
def nll_loss(n: Any, has_weight: Any, reduction: Any) -> Cost:
    """Minus the number of each label, times its weight (n mul); their sum and that of the weights; a mean divides."""
    cost = Cost(mul=n * has_weight)
    if reduction == NONE:
        return cost
    return cost + Cost(add=(n - 1) * (1 + has_weight), div=int(reduction == MEAN))


def _nll_backward(
    grad_output: Array, self: Array, target: Array, weight: Array | None, reduction: int, total_weight: Array
) -> Array:
    result = Array(self.shape, [0.0] * len(self.data))
    gradients = grad_output.data
    if reduction == MEAN:
        gradients = [gradients[0] / total_weight.data[0]]
    for i, (place, label) in enumerate(_places(target, len(self.shape) > 1)):
        g = -gradients[i if reduction == NONE else 0]
        result[place] = g if weight is None else g * weight[label]
    return result


def _labelled_backward(m: int, n: int, *space: int, reduction: int, weight: bool) -> dict[str, Any]:
    operands = _labelled(m, n, *space, reduction=reduction, weight=weight)
    shape = operands["target"].shape if reduction == NONE else ()
    return {**operands, "grad_output": TensorSpec(shape, "float64"), "total_weight": TensorSpec((), "float64")}


@rule(
    "aten::nll_loss_backward",
    sizes=_sizes, moves=_nll_backward_moves, reference=_nll_backward,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False): _labelled_backward(
        m, n, reduction=reduction, weight=weight
    ),
)  # fmt: skip
@rule(
    "aten::nll_loss2d_backward",
    sizes=_sizes, moves=_nll_backward_moves, reference=_nll_backward,
    example=lambda m, n, reduction=REDUCTIONS, weight=(True, False): _labelled_backward(
        m, n, 2, 1, reduction=reduction, weight=weight
    ),
)  # fmt: skip
def nll_loss_backward(n: Any, has_weight: Any, reduction: Any) -> Cost:
    """Minus the gradient at each label, times its weight (n mul); of a mean divided by the sum of weights once."""
    return Cost(mul=n * has_weight, div=int(reduction == MEAN))


def _margins(row: Array, label: int, margin: Any) -> list[tuple[int, Any]]:
    """What each class but the right one lacks to the margin, where it is positive."""
    base = margin - row[label]
    return [(i, maximum(base + x, 0.0)) for i, x in enumerate(row) if i != label]


def _multi_margin(
    self: Array, target: Array, p: Any = 1, margin: Any = 1, weight: Array | None = None, reduction: int = MEAN
) -> Array:
    values = []
    for row, label in zip(self, target.data, strict=True):
        value = total([z * z if p == 2 else z for _, z in _margins(row, label, margin)]) * (1.0 / len(row))
        values.append(value if weight is None else value * weight[label])
    if reduction == NONE:
        return Array(target.shape, values)
    return Array((), [total(values) / len(values) if reduction == MEAN else total(values)])


def _margin_operands(m: int, n: int, p: int, weight: bool, reduction: int) -> dict[str, Any]:
    return {
        "self": TensorSpec((m, n + 1), "float64"),
        "target": TensorSpec((m,), "int64"),
        "p": p,
        "margin": 0.5,
        "weight": TensorSpec((n + 1,), "float64") if weight else None,
        "reduction": reduction,
    }


@rule(
    "aten::multi_margin_loss",
    sizes=_sizes,
    reference=_multi_margin,
    example=lambda m, n, p=(1, 2), weight=(True, False), reduction=REDUCTIONS: _margin_operands(
        m, n, p, weight, reduction
    ),
)
def multi_margin_loss(n: Any, classes: Any, has_weight: Any, p: Any = 1, reduction: Any = MEAN) -> Cost:
    """Of the other classes ``max(margin - x[label] + x[i], 0)**p``, their sum by a constant and the weight.

    A sample takes 1 + (classes - 1) + (classes - 2) additions.
    """
    others = n * (classes - 1)
    cost = Cost(add=2 * others, mul=others * (p == 2) + n + n * has_weight, cmp=others)
    if reduction == NONE:
        return cost
    return cost + Cost(add=n - 1, div=int(reduction == MEAN))


def _multi_margin_backward(
    grad_output: Array, self: Array, target: Array, p: Any, margin: Any, weight: Array | None = None,
    reduction: int = MEAN,
) -> Array:  # fmt: skip
    samples, classes = self.shape if len(self.shape) > 1 else (1, self.shape[0])
    constant = p / classes / (samples if reduction == MEAN else 1)
    gradients = [g * constant for g in grad_output.data]
    result = Array(self.shape, [0.0] * len(self.data))
    for i, label in enumerate(target.data):
        g = gradients[i if reduction == NONE else 0]
        g = g if weight is None else g * weight[label]
        base = margin - self[i, label]
        slopes = []
        for j in range(classes):
            if j != label:
                z = base + self[i, j]
                slopes.append(select(z > 0, z * g if p == 2 else g, 0.0))
                result[i, j] = slopes[-1]
        result[i, label] = -total(slopes)
    return result


@rule(
    "aten::multi_margin_loss_backward",
    sizes=_sizes,
    reference=_multi_margin_backward,
    example=lambda m, n, p=(1, 2), weight=(True, False), reduction=REDUCTIONS: {
        **_margin_operands(m, n, p, weight, reduction),
        "grad_output": TensorSpec((m,) if reduction == NONE else (), "float64"),
    },
)
def multi_margin_loss_backward(n: Any, q: Any, classes: Any, has_weight: Any, p: Any) -> Cost:
    """The gradient by a constant (q mul) and the weight; at each other class where z > 0, and minus their sum."""
    others = n * (classes - 1)
    return Cost(add=2 * others, mul=q + n * has_weight + others * (p == 2), cmp=others)
