"""Whole transformer layers as one operator: the fast path of nn.TransformerEncoder and nn.MultiheadAttention."""

from __future__ import annotations

import math
from typing import Any

from flopscan import rules
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import product
from flopscan.rules.attention import forward_cost


def _sizes(call: Call) -> dict[str, Any]:
    query, key = call.get("query") or call["src"], call.get("key") or call["src"]
    mask = call.get("mask")
    kind = "" if mask is None else "boolean" if mask.dtype == "bool" else "additive"
    return {
        "b": math.prod(query.shape[:-2]), "queries": query.shape[-2], "keys": key.shape[-2], "d": call["embed_dim"],
        "h": call.get("num_head") or call["num_heads"], "masked": kind,
    }  # fmt: skip


def attention_cost(b: Any, queries: Any, keys: Any, d: Any, h: Any, masked: str = "") -> Cost:
    """The projections of queries, keys and values, h heads of d/h channels, and the projection of the result."""
    rows = b * h * queries
    return Cost(fma=b * (2 * queries + 2 * keys) * d * d) + forward_cost(rows, rows * keys, d // h, d // h, masked)


@product("aten::_native_multi_head_attention", sizes=_sizes)
def multi_head_attention(
    b: Any, queries: Any, keys: Any, d: Any, h: Any, masked: str = "", need_weights: bool = True,
    average_attn_weights: bool = True,
) -> Cost:  # fmt: skip
    """`attention_cost`; the average of the weights over the heads is h-1 additions and a division per pair."""
    averaged = b * queries * keys if need_weights and average_attn_weights else 0
    return attention_cost(b, queries, keys, d, h, masked) + Cost(add=averaged * (h - 1), div=averaged)


def _part(op: str, source: TensorSpec, **operands: Any) -> Cost:
    """The arithmetic of an operator that keeps the shape of ``source``."""
    found = rules.find(op)
    price = None if found is None else found.price(Call(op, operands, (source,)))
    if price is None or price.ideal is None:
        raise ContractError(f"no rule for {op}, which is a part of it")
    return Cost(**price.ideal.arithmetic())


@product("aten::_transformer_encoder_layer_fwd", sizes=_sizes)
def encoder_layer(
    call: Call, b: Any, queries: Any, d: Any, h: Any, masked: str = "", use_gelu: bool = False
) -> Cost:  # fmt: skip
    """`attention_cost`, two layer norms, two residual additions, d*f and f*d fma around the activation per row."""
    source = call["src"]
    hidden = TensorSpec((b * queries, call["ffn_weight_1"].shape[0]), source.dtype)
    weight = TensorSpec((d,), source.dtype)
    norm = _part(
        "aten::native_layer_norm", source, input=source, normalized_shape=(d,), weight=weight, bias=weight, eps=1e-5
    )
    activation = _part("aten::gelu", hidden, self=hidden, approximate="none") if use_gelu else Cost(cmp=hidden.numel)
    rows = b * queries
    wide = Cost(fma=2 * rows * d * hidden.shape[-1], add=2 * rows * d)
    return attention_cost(b, queries, queries, d, h, masked) + norm * 2 + wide + activation
