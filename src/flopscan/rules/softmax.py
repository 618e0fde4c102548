"""Softmax and its relatives, along r lines of n numbers in all.

The largest number of a line is subtracted before the exponentials: without it the function overflows where torch's does
not, so it belongs to the operator. Sums of products are counted as multiplications and additions, as in every norm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import exp, log, maximum, select, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.reduction import along, lines_along, reduce_by, sizes

_FLOAT64 = 7  # torch's number for the dtype


def _exponentials(line: list[Any]) -> tuple[Any, list[Any], list[Any]]:
    """The largest number, the line less it, and the exponentials of that."""
    largest = functools.reduce(maximum, line)
    shifted = [x - largest for x in line]
    return largest, shifted, [exp(x) for x in shifted]


def _softmax_line(line: list[Any]) -> list[Any]:
    _, _, powers = _exponentials(line)
    norm = total(powers)
    return [x / norm for x in powers]


def _safe_softmax_line(line: list[Any]) -> list[Any]:
    largest, _, powers = _exponentials(line)
    norm, empty = total(powers), largest == -math.inf
    return [select(empty, 0.0, x / norm) for x in powers]


def _log_softmax_line(line: list[Any]) -> list[Any]:
    _, shifted, powers = _exponentials(line)
    norm = log(total(powers))
    return [x - norm for x in shifted]


def _logsumexp_line(line: list[Any]) -> Any:
    largest, _, powers = _exponentials(line)
    return largest + log(total(powers))


def _example(dims: Any = (0, 1, 2, -1), **scalars: Any) -> Callable[..., dict[str, Any]]:
    return lambda m, n, k=(1, 3), dim=dims: {"self": TensorSpec((m, n, k), "float64"), "dim": dim, **scalars}


def _example_backward(m: int, n: int, k: Any = (1, 3), dim: Any = (0, 1, 2, -1)) -> dict[str, Any]:
    pair = {name: TensorSpec((m, n, k), "float64") for name in ("grad_output", "output")}
    return {**pair, "dim": dim, "input_dtype": _FLOAT64}


def _last_line(call: Call) -> dict[str, Any]:
    dim = call.get("dim")
    return lines_along(Call(call.op, {**call.args, "dim": -1 if dim is None else dim}, call.outputs))


@rule(
    "aten::_softmax",
    sizes=lines_along,
    reference=lambda self, dim: along(dim, _softmax_line, self),
    example=_example(half_to_float=False),
)
def softmax(n: Any, r: Any) -> Cost:
    """Of a line: its maximum, n subtractions, n exponentials, their sum, n divisions."""
    return Cost(add=2 * n - r, div=n, exp=n, cmp=n - r)


@rule(
    "aten::_safe_softmax",
    sizes=lines_along,
    reference=lambda self, dim: along(dim, _safe_softmax_line, self),
    example=_example(),
)
def safe_softmax(n: Any, r: Any) -> Cost:
    """A softmax, and a comparison a line: one that is -inf throughout gives zeros."""
    return softmax(n, r) + Cost(cmp=r)


@rule("aten::_masked_softmax", sizes=_last_line, source="a selection by the mask, then the softmax")
def masked_softmax(n: Any, r: Any) -> Cost:
    """n selections by the mask, and a softmax."""
    return softmax(n, r) + Cost(cmp=n)


@rule(
    "aten::_log_softmax",
    sizes=lines_along,
    reference=lambda self, dim: along(dim, _log_softmax_line, self),
    example=_example(half_to_float=False),
)
def log_softmax(n: Any, r: Any) -> Cost:
    """Of a line: its maximum, n subtractions, n exponentials, their sum and its logarithm, n subtractions."""
    return Cost(add=3 * n - r, exp=n + r, cmp=n - r)


@rule(
    "aten::logsumexp",
    sizes=sizes,
    reference=reduce_by(_logsumexp_line),
    example=_example(dims=([0], [1], [0, 2], [-1], [0, 1, 2])),
)
def logsumexp(n: Any, r: Any) -> Cost:
    """Of each result: a maximum, subtractions, exponentials, their sum and its logarithm, an addition."""
    return Cost(add=2 * n, exp=n + r, cmp=n - r)


def _softmax_gradient(gradient: list[Any], y: list[Any]) -> list[Any]:
    inner = total([g * p for g, p in zip(gradient, y, strict=True)])
    return [p * (g - inner) for g, p in zip(gradient, y, strict=True)]


@rule(
    "aten::_masked_softmax_backward", sizes=_last_line, source="where the mask is set the result is 0, as the gradient"
)
@rule(
    "aten::_softmax_backward_data",
    sizes=lines_along,
    reference=lambda grad_output, output, dim: along(dim, _softmax_gradient, grad_output, output),
    example=_example_backward,
)
def softmax_backward(n: Any, r: Any) -> Cost:
    """``y * (g - sum(g * y))``."""
    return Cost(add=2 * n - r, mul=2 * n)


def _log_softmax_gradient(gradient: list[Any], y: list[Any]) -> list[Any]:
    inner = total(gradient)
    return [g - exp(x) * inner for g, x in zip(gradient, y, strict=True)]


@rule(
    "aten::_log_softmax_backward_data",
    sizes=lines_along,
    reference=lambda grad_output, output, dim: along(dim, _log_softmax_gradient, grad_output, output),
    example=_example_backward,
)
def log_softmax_backward(n: Any, r: Any) -> Cost:
    """``g - exp(y) * sum(g)``."""
    return Cost(add=2 * n - r, mul=n, exp=n)
