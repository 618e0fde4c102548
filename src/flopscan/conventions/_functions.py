"""The multiply-adds of products written as functions, exactly: what a counter that sees them all would add."""

from __future__ import annotations

import math

from flopscan.conventions import _einsum, _products
from flopscan.core.convention import Handle
from flopscan.core.trace import Call


def product(call: Call) -> int:
    """The output's elements times the axis that is summed, whatever is broadcast."""
    return call.out.numel * call["input"].shape[-1]


def linear(call: Call) -> int:
    """b*l*k*n."""
    return call["input"].numel * call["weight"].shape[0]


def einsum_of_two(call: Call) -> int:
    """The axes of the result, and those that both operands have: an axis of one alone is summed before the product."""
    terms, result, sizes = _einsum.axes(call)
    if len(terms) != 2:
        return 0
    given = _einsum.operands(call)
    wide = [
        {axis for axis, size in zip(t, o.shape, strict=True) if size > 1} for t, o in zip(terms, given, strict=True)
    ]
    return math.prod(sizes[axis] for axis in set(result) | (wide[0] & wide[1]))


def with_sum(call: Call) -> int:
    """A product that is added to something: the product alone."""
    left = call.get("mat1", call.get("batch1"))
    right = call.get("mat2", call.get("batch2"))
    return left.numel * right.shape[-1]


PRODUCTS: dict[str, Handle] = {
    **dict.fromkeys(("torch::matmul", "torch::mm", "torch::bmm"), product),
    **dict.fromkeys(("torch::addmm", "torch::baddbmm", "torch::addbmm"), with_sum),
    "torch::linear": linear,
    "torch::einsum": _einsum.macs,
    _products.ATTENTION: _products.attention,
}
