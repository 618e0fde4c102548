"""What counters that ask numpy for the cost of an einsum read from its report.

Facts from numpy/_core/einsumfunc.py: `einsum_path` with "optimal" tries every order of pairwise contractions whose
results are no larger than the largest of operands and result; a contraction of n terms costs the product of its axes
times max(1, n - 1), and once more where an axis is summed; 1 is added, and four digits are printed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from flopscan.core.trace import Call, TensorSpec

Terms = tuple[frozenset[str], ...]


def printed_flops(call: Call) -> int:
    """The FLOPs of an einsum as numpy prints them."""
    return int(float(f"{flops(call) + 1:.3e}"))


def flops(call: Call) -> int:
    """The FLOPs of an einsum in numpy's best order."""
    return _cost(call)[0]


def macs(call: Call) -> int:
    """The multiply-adds of the products in that order, one by one."""
    return _cost(call)[1]


def operands(call: Call) -> tuple[TensorSpec, ...]:
    """The tensors of an einsum, however they were given."""
    given = call["operands"]
    if isinstance(call["equation"], TensorSpec):
        return call["equation"], *given[1::2]
    return given[0] if len(given) == 1 and isinstance(given[0], tuple) else given


def axes(call: Call) -> tuple[list[str], str, dict[str, int]]:
    """The terms and the result of an einsum as strings of axes, dots spelled out, and the size of each axis."""
    given, sizes = operands(call), dict[str, int]()
    if isinstance(call["equation"], TensorSpec):
        terms, result = _listed(call["operands"])
    else:
        terms, result = _spelled_out(str(call["equation"]), given)
    for term, operand in zip(terms, given, strict=True):
        for axis, size in zip(term, operand.shape, strict=True):
            sizes[axis] = max(size, sizes.get(axis, 1))
    return terms, result, sizes


def _spelled_out(equation: str, given: tuple[TensorSpec, ...]) -> tuple[list[str], str]:
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms, most = [], ""
    for term, operand in zip(left.split(","), given, strict=True):
        extra = len(operand.shape) - len(term.replace("...", "")) if "..." in term else 0
        dots = "".join(chr(0x391 + i) for i in reversed(range(extra)))  # the last of the dots are the same axes
        most = max(most, dots, key=len)
        terms.append(term.replace("...", dots))
    if not arrow:
        result = "..." + _once(terms, most)
    return terms, result.replace("...", most)


def _listed(given: tuple[Any, ...]) -> tuple[list[str], str]:
    """``given`` after the first operand: its axes, then operands and their axes in turn, then perhaps the result's."""
    lists = ["".join(chr(ord("a") + axis) for axis in value) for value in given if not isinstance(value, TensorSpec)]
    tensors = 1 + sum(isinstance(value, TensorSpec) for value in given)
    return lists[:tensors], lists[tensors] if len(lists) > tensors else _once(lists, "")


def _once(terms: list[str], but: str) -> str:
    every = "".join(terms)
    return "".join(sorted(a for a in set(every) - set(but) if every.count(a) == 1))


def _cost(call: Call) -> tuple[int, int]:
    """FLOPs and multiply-adds of the cheapest order."""
    terms, written, sizes = axes(call)
    left, result = tuple(map(frozenset, terms)), frozenset(written)
    if len(terms) < 3 or frozenset().union(*left) == result:
        return _contraction(left, result, sizes)[1]
    largest = max(_size(axes, sizes) for axes in (*terms, written))
    orders: list[tuple[int, int, Terms]] = [(0, 0, left)]
    while len(orders[0][2]) > 1:
        longer = []
        for flops, macs, terms_left in orders:
            for pair in itertools.combinations(range(len(terms_left)), 2):
                others = tuple(t for i, t in enumerate(terms_left) if i not in pair)
                made, cost = _contraction(tuple(terms_left[i] for i in pair), result.union(*others), sizes)
                if _size(made, sizes) <= largest:
                    longer.append((flops + cost[0], macs + cost[1], (*others, made)))
        if not longer:  # every pair makes too large a result: what is left is contracted at once
            flops, macs, terms_left = min(orders, key=lambda order: order[0])
            _, cost = _contraction(terms_left, result, sizes)
            return flops + cost[0], macs + cost[1]
        orders = longer
    return min(orders, key=lambda order: order[0])[:2]


def _contraction(
    terms: Terms, kept: frozenset[str], sizes: Mapping[str, int]
) -> tuple[frozenset[str], tuple[int, int]]:
    """The axes of the result of contracting ``terms`` at once, and its FLOPs and multiply-adds."""
    every: frozenset[str] = frozenset().union(*terms)
    made, whole, products = every & kept, _size(every, sizes), len(terms) - 1
    return made, (whole * (max(1, products) + (made != every)), whole * products)


def _size(axes: Iterable[str], sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[axis] for axis in axes)
