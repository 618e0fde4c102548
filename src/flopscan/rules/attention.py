"""Scaled-dot-product attention: each query meets the keys that its mask lets it see, whatever kernel runs.

The ideal count has only those pairs; ``executed`` has every pair, which is what a kernel without a causal path runs.
Every query head is counted, also where several share one key head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, dot, exp, fma, select, total
from flopscan.core.trace import Call, TensorSpec, itemsize
from flopscan.errors import ContractError
from flopscan.rules import rule


def seen_pairs(queries: int, keys: int, first: int, left: int | None = None) -> int:
    """Pairs of a query and a key that it sees: query i sees keys up to i + first, and at most ``left`` before that."""

    def up_to(last: int) -> int:
        """The sum over queries i of the keys 0..i+last, where there are ``keys`` of them."""
        start = max(0, -1 - last)  # the first query that sees any
        full = min(max(keys - 1 - last, start), queries)  # the first query that sees them all
        partial = full - start
        if partial < 0:
            return 0
        return partial * (start + last + 1) + partial * (partial - 1) // 2 + (queries - full) * keys

    return up_to(first) - (0 if left is None else up_to(first - left - 1))


def forward_cost(
    rows: Any, pairs: Any, dk: Any, dv: Any, *, mask: str = "", dropout: bool = False, scale: bool = True
) -> Cost:
    """The cost of ``pairs`` scores in ``rows`` softmax rows.

    Scores: dk fma and the scale (1 mul) per pair; an additive mask 1 add, a boolean one 1 cmp. Softmax: pairs - rows
    comparisons for the maxima, a subtraction, an exponential and a division per pair, pairs - rows additions.
    Result: dv fma per pair. Dropout: a selection and the rescaling per pair; drawing the numbers is not arithmetic.
    """
    return Cost(
        fma=pairs * (dk + dv),
        mul=pairs * (bool(scale) + bool(dropout)),
        add=2 * pairs - rows + (pairs if mask == "additive" else 0),
        exp=pairs,
        div=pairs,
        cmp=pairs - rows + (pairs if mask == "boolean" else 0) + (pairs if dropout else 0),
    )


def backward_cost(
    rows: Any, pairs: Any, dk: Any, dv: Any, *, mask: str = "", dropout: bool = False,
    needs: Any = (True, True, True, False), mask_size: Any = 0,
) -> Cost:  # fmt: skip
    """The gradients, with the probabilities computed again from the scores and the log of each row's sum.

    Per pair: the score (dk fma, a mul, the mask), p = exp(score - log sum) (an add, an exp). Then dv += p * g (dv fma);
    dp = g . v (dv fma), ds = p * (dp - delta) (an add, a mul) with delta = g . out (dv fma per row), the scale (a mul),
    dq += ds * k and dk += ds * q (dk fma each). A mask's gradient is ds, summed over the axes that it lacks.
    """
    to_query, to_key, to_value, to_mask = (bool(need) for need in (*needs, False)[:4])
    scores = Cost(
        fma=pairs * dk, mul=pairs, add=pairs + (pairs if mask == "additive" else 0), exp=pairs,
        cmp=pairs if mask == "boolean" else 0,
    )  # fmt: skip
    cost = scores + Cost(fma=pairs * dv * to_value)
    if dropout:
        cost += Cost(mul=pairs * (to_value + (to_query or to_key or to_mask)), cmp=pairs)
    if to_query or to_key or to_mask:
        cost += Cost(fma=pairs * dv + rows * dv, add=pairs, mul=pairs)
    if to_query or to_key:
        cost += Cost(mul=pairs, fma=pairs * dk * (to_query + to_key))
    if to_mask:
        cost += Cost(add=pairs - mask_size)
    return cost


def _mask_of(call: Call) -> tuple[str, int]:
    mask = call.get("attn_mask") or call.get("attn_bias") or call.get("bias")
    if not isinstance(mask, TensorSpec) or not mask.numel:
        return "", 0
    return ("boolean" if mask.dtype == "bool" else "additive"), mask.numel


def _sizes(call: Call, axes: tuple[int, int] = (-3, -2)) -> dict[str, Any]:
    """``axes``: where heads and length are; before them batch axes, after them channels."""
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    heads, length = axes
    queries, keys = query[length], key[length]
    group = call.out.numel // max(queries * value[-1], 1)  # batch and heads of the result: the broadcast of all three
    if call.op.endswith("backward"):
        group = (call.get("grad") or call.get("grad_out") or call["grad_out_"]).numel // max(queries * value[-1], 1)
    mask, mask_size = _mask_of(call)
    causal = call.get("is_causal", False)
    pairs = seen_pairs(queries, keys, 0) if causal else queries * keys
    return {
        "rows": group * queries, "pairs": group * pairs, "dense": group * queries * keys, "dk": query[-1],
        "dv": value[-1], "mask": mask, "mask_size": mask_size, "dropout": bool(call.get("dropout_p")),
    }  # fmt: skip


def _sizes_unpadded(call: Call) -> dict[str, Any]:
    """Kernels that take (batch, length, heads, channels), with windows and with masks aligned at either end."""
    for name in ("cum_seq_q", "cu_seqlens_q", "seqlen_k", "seqused_k"):
        if isinstance(call.get(name), TensorSpec):
            raise ContractError(f"{call.op}: the lengths of the sequences are values of '{name}', not shapes")
    sizes = _sizes(call, (-2, -3))
    queries, keys = call["query"].shape[-3], call["key"].shape[-3]
    group = sizes["rows"] // max(queries, 1)
    end = keys - queries
    if call.op.startswith("aten::_efficient"):
        kind = call.get("custom_mask_type", 0)
        first, left = {0: (None, None), 1: (0, None), 2: (end, None)}[kind]
        window = call.get("window_size")
        left = window - 1 if window and first is not None else left
    else:
        first = end if call.get("is_causal") else None
        left = call.get("window_size_left")
        right = call.get("window_size_right")
        if right is not None and right >= 0 and first is None:
            first = end + right
        if left is not None and left >= 0:
            left += 0 if call.get("is_causal") else (right if right is not None and right >= 0 else 0)
            first = end if first is None else first
        else:
            left = None
    pairs = queries * keys if first is None else seen_pairs(queries, keys, first, left)
    return {**sizes, "pairs": group * pairs}


def _forward(rows: Any, pairs: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False) -> Cost:
    """`forward_cost` of the pairs that the mask leaves."""
    return forward_cost(rows, pairs, dk, dv, mask=mask, dropout=dropout)


def _forward_dense(rows: Any, dense: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False) -> Cost:
    """`forward_cost` of every pair."""
    return forward_cost(rows, dense, dk, dv, mask=mask, dropout=dropout)
