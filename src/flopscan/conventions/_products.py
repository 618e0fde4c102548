"""Multiply-adds of products and convolutions as the dispatcher sees them: what most conventions have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flopscan.core.convention import Handle
from flopscan.core.trace import Call

ATTENTION = "flopscan::scaled_dot_product_attention"
ATTENTION_BACKWARD = "flopscan::scaled_dot_product_attention_backward"


def matrices(call: Call) -> int:
    """b*m*k*n of a product of matrices, added to something or not."""
    left = call.get("batch1") or call.get("mat1") or call["self"]
    right = call.get("batch2") or call["mat2"]
    return int(left.numel * right.shape[-1])


def convolution(call: Call) -> int:
    """b * the weight's elements * the positions of the output, or of the input where it is transposed."""
    spatial = (call["input"] if call["transposed"] else call.out).shape[2:]
    return int(call["input"].shape[0] * math.prod(spatial) * call["weight"].numel)


def attention(call: Call) -> int:
    """Two products over all pairs of positions and all query heads, whatever the mask: pairs * (d + the values' d)."""
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    return int((call.out.numel // value[-1]) * key[-2] * (query[-1] + value[-1]))


def scaled(factor: int, handles: Mapping[str, Handle]) -> dict[str, Handle]:
    """The handles, each times ``factor``."""
    return {name: lambda call, handle=handle: factor * handle(call) for name, handle in handles.items()}  # type: ignore[misc]


MACS: dict[str, Handle] = {
    **dict.fromkeys(("aten::mm", "aten::addmm", "aten::bmm"), matrices),
    **dict.fromkeys(("aten::convolution", "aten::_convolution"), convolution),
}
