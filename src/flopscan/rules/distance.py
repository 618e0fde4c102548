"""Pairwise distances between the rows of two matrices."""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, fma, select, sqrt, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import product, rule


def _sizes(call: Call) -> dict[str, Any]:
    """Pairs of rows over the whole batch, and the length of a row."""
    return {"pairs": call.out.numel, "k": call["x1"].shape[-1]}


def _cdist(x1: Array, x2: Array, p: float, compute_mode: Any = None) -> Array:
    def distance(i: int, j: int) -> Any:
        gaps = [a - b for a, b in zip(x1[i], x2[j], strict=True)]
        if p == 1:
            return total(abs(g) for g in gaps)
        if p == math.inf:
            largest = abs(gaps[0])
            for g in gaps[1:]:
                largest = select(abs(g) > largest, abs(g), largest)
            return largest
        squares: Any = 0.0
        for g in gaps:
            squares = fma(g, g, squares)
        return sqrt(squares)

    return Array.make((x1.shape[0], x2.shape[0]), distance)


def _example(m: int, n: int, k: int, p: Any = (1.0, 2.0, math.inf)) -> dict[str, Any]:
    return {"x1": TensorSpec((m, k), "float64"), "x2": TensorSpec((n, k), "float64"), "p": p, "compute_mode": None}


@rule("aten::_cdist_forward", sizes=_sizes, reference=_cdist, example=_example)
def cdist(pairs: Any, k: Any, p: Any) -> Cost:
    """Per pair k subtractions, then: p=2 k fma and a root, p=1 k-1 additions, p=inf k-1 comparisons."""
    each = {2: Cost(add=k, fma=k, sqrt=1), 1: Cost(add=2 * k - 1), math.inf: Cost(add=k, cmp=k - 1)}.get(p)
    if each is None:
        raise ContractError(f"distances of order p={p} have no formula; expected 1, 2 or inf")
    return each * pairs


@rule("aten::_pdist_forward", sizes=lambda call: {"pairs": call.out.numel, "k": call["self"].shape[-1]})
def pdist(pairs: Any, k: Any, p: Any = 2) -> Cost:
    """`cdist` over each pair of rows of one matrix."""
    return cdist(pairs, k, p)


def _sizes_euclidean(call: Call) -> dict[str, Any]:
    return {**_sizes(call), "left": call["x1"].numel, "right": call["x2"].numel}


def _executed_euclidean(pairs: Any, k: Any, left: Any, right: Any) -> Cost:
    """|x|^2 - 2 x.y + |y|^2 as one product of length k+2: the norms, -2x, the product, a clamp and a root per pair."""
    return Cost(fma=left + right + pairs * (k + 2), mul=left, cmp=pairs, sqrt=pairs)


@product("aten::_euclidean_dist", sizes=_sizes_euclidean, executed=_executed_euclidean)
def euclidean(pairs: Any, k: Any) -> Cost:
    """Per pair k subtractions, k fma and a root: the distance by its definition."""
    return Cost(add=k, fma=k, sqrt=1) * pairs


def _cdist_backward(grad: Array, x1: Array, x2: Array, p: float, cdist: Array) -> Array:
    rows, k = x1.shape

    def element(i: int) -> list[Any]:
        sums: list[Any] = [0.0] * k
        for j in range(x2.shape[0]):
            weight = grad[i, j] / cdist[i, j]
            sums = [fma(weight, x1[i, c] - x2[j, c], s) for c, s in enumerate(sums)]
        return sums

    return Array((rows, k), [x for i in range(rows) for x in element(i)])


def _example_backward(m: int, n: int, k: int, p: Any = (2.0,)) -> dict[str, Any]:
    shapes = {"grad": (m, n), "x1": (m, k), "x2": (n, k), "cdist": (m, n)}
    return {**{name: TensorSpec(shape, "float64") for name, shape in shapes.items()}, "p": p}


@rule("aten::_cdist_backward", sizes=lambda call: {"pairs": call["cdist"].numel, "k": call["x1"].shape[-1]},
      reference=_cdist_backward, example=_example_backward)  # fmt: skip
def cdist_backward(pairs: Any, k: Any, p: Any) -> Cost:
    """For p=2, per pair: grad / distance (1 div), then k subtractions and k multiply-adds."""
    if p != 2:
        raise ContractError(f"the gradient of distances of order p={p} has no formula; expected 2")
    return Cost(div=1, add=k, fma=k) * pairs
