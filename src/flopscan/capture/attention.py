"""Scaled-dot-product attention as one operator, forward and backward, whatever backend would be chosen.

On plain meta tensors torch decomposes it (products and softmax apart, four products backward instead of five), and on
each device it picks another kernel; the count shall not depend on that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flopscan.capture.shapes import broadcast

FORWARD = "flopscan::scaled_dot_product_attention"
BACKWARD = "flopscan::scaled_dot_product_attention_backward"

_OPERANDS = (
    "Tensor query, Tensor key, Tensor value, Tensor? attn_mask, float dropout_p, bool is_causal, bool enable_gqa"
)
_library = torch.library.Library("flopscan", "FRAGMENT")
_library.define(f"scaled_dot_product_attention({_OPERANDS}) -> Tensor")
_library.define(
    f"scaled_dot_product_attention_backward(Tensor grad, {_OPERANDS}, bool[4] needs)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def _forward_shape(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    if query.dim() == 4:  # as the fused kernels lay it out: heads inside
        b, h, n, _ = query.shape
        return query.new_empty((max(b, key.shape[0]), n, max(h, value.shape[1]), value.shape[-1])).transpose(1, 2)
    batch = broadcast([query.shape[:-2], key.shape[:-2]]) or ()
    return query.new_empty((*batch, query.shape[-2], value.shape[-1]))


def _backward_shape(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *rest: Any) -> Any:
    needs = rest[-1]
    wanted = (query, key, value, mask if mask is not None else query)
    return tuple(torch.empty_like(t) if need else t.new_empty(0) for t, need in zip(wanted, needs, strict=True))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *operands: Any) -> Tensor:
        ctx.save_for_backward(*operands[:4])
        ctx.rest = operands[4:]
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.flopscan.scaled_dot_product_attention(*operands)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        needs = ctx.needs_input_grad[:4]
        grads = torch.ops.flopscan.scaled_dot_product_attention_backward(
            grad, *ctx.saved_tensors, *ctx.rest, list(needs)
        )
        return (*(g if need else None for g, need in zip(grads, needs, strict=True)), None, None, None)


_library.impl("scaled_dot_product_attention", _forward_shape, "Meta")
_library.impl("scaled_dot_product_attention", _Attention.apply, "Autograd")
_library.impl("scaled_dot_product_attention_backward", _backward_shape, "Meta")


def shape_only(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The result of `F.scaled_dot_product_attention` on meta tensors, seen by the dispatcher as one operator."""
    return torch.ops.flopscan.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, enable_gqa
    )
