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
from flopscan.core.tally import Array, exp, log, maximum, select, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.reduction import along, groups, lines_along, sizes


def _exponentials(line: list[Any]) -> tuple[Any, list[Any], list[Any]]:
    """The largest number, the line less it, and the exponentials of that."""
    largest = functools.reduce(maximum, line)
    shifted = [x - largest for x in line]
    return largest, shifted, [exp(x) for x in shifted]


def _softmax_line(line: list[Any]) -> list[Any]:
    _, _, powers = _exponentials(line)
    norm = total(powers)
    return [x / norm for x in powers]


def _log_softmax_line(line: list[Any]) -> list[Any]:
    _, shifted, powers = _exponentials(line)
    norm = log(total(powers))
    return [x - norm for x in shifted]


def _safe_softmax_line(line: list[Any]) -> list[Any]:
    empty = functools.reduce(max, (x.value for x in line)) == -math.inf
    result = _softmax_line(line)
    result[0].tally["cmp"] += 1  # is the largest number -inf? then the whole line is 0
    return [x * 0 for x in result] if empty else result


def _example(**scalars: Any) -> Callable[..., dict[str, Any]]:
    return lambda m, n, k=(1, 3), dim=(0, 1, 2, -1): {"self": TensorSpec((m, n, k), "float64"), "dim": dim, **scalars}


def _whole_line(call: Call) -> dict[str, Any]:
    dim = call.get("dim")
    found = lines_along(Call(call.op, {**call.args, "dim": -1 if dim is None else dim}, call.outputs))
    return found


@rule(
    "aten::_softmax",
    sizes=lines_along,
    reference=lambda self, dim: along(dim, _softmax_line, self),
    example=_example(half_to_float=False),
)
def softmax(n: Any, r: Any) -> Cost:
    """Of a line: maximum, n subtractions, n exponentials, their sum, n divisions."""
    return Cost(add=2 * n - r, div=n, exp=n, cmp=n - r)
