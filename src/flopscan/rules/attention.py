"""Scaled-dot-product attention: each query meets the keys that its mask lets it see, whatever kernel runs.

The ideal count has only those pairs; ``executed`` has every pair, which is what a kernel without a causal path runs.
Every query head is counted, also where several share one key head.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import moved
from flopscan.core.tally import Array, dot, exp, fma, maximum, select, total
from flopscan.core.trace import Call, TensorSpec, itemsize
from flopscan.errors import ContractError
from flopscan.rules import product


def seen(queries: int, keys: int, lower: int | None = None, upper: int | None = None) -> tuple[int, int]:
    """The queries that see any key, and the pairs: query i sees keys i + lower to i + upper (None: no bound)."""

    def up_to(bound: int) -> int:
        """The sum over queries i of the keys from 0 to i + bound, where there are ``keys`` of them."""
        start = min(max(0, -bound), queries)  # the first query that sees any
        full = min(max(keys - bound, start), queries)  # the first that has as many as there are, whatever comes
        return (full - start) * bound + (full * (full + 1) - start * (start + 1)) // 2 + (queries - full) * keys

    first = 0 if upper is None else max(0, -upper)
    last = queries if lower is None else min(queries, keys - lower)
    pairs = (queries * keys if upper is None else up_to(upper)) - (0 if lower is None else up_to(lower - 1))
    return max(0, last - first), pairs


def forward_cost(rows: Any, pairs: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False) -> Cost:
    """The cost of ``pairs`` scores in ``rows`` softmax rows.

    Scores: dk fma and the scale (1 mul) per pair; an additive mask 1 add, a boolean one 1 cmp. Softmax: pairs - rows
    comparisons for the maxima, a subtraction, an exponential and a division per pair, pairs - rows additions.
    Result: dv fma per pair. Dropout: a selection and the rescaling per pair; drawing the numbers is not arithmetic.
    """
    return Cost(
        fma=pairs * (dk + dv),
        mul=pairs * (1 + bool(dropout)),
        add=2 * pairs - rows + (pairs if mask == "additive" else 0),
        exp=pairs,
        div=pairs,
        cmp=pairs - rows + (pairs if mask == "boolean" else 0) + (pairs if dropout else 0),
    )


def backward_cost(
    rows: Any, pairs: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False,
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


def _sizes(call: Call, lengths: int = -2) -> dict[str, Any]:
    """``lengths``: the axis of queries and keys. Batch and heads of the result are the broadcast of all operands."""
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    queries, keys = query[lengths], key[lengths]
    result = call.get("out") or call.get("grad") or call.get("grad_out") or call.out
    group = result.numel // max(queries * value[-1], 1)
    mask, mask_size = _mask_of(call)
    rows, pairs = seen(queries, keys, *_bounds(call, queries, keys))
    return {
        "rows": group * rows, "pairs": group * pairs, "all_rows": group * queries, "dense": group * queries * keys,
        "dk": query[-1], "dv": value[-1], "mask": mask, "mask_size": mask_size, "dropout": bool(call.get("dropout_p")),
    }  # fmt: skip


def _bounds(call: Call, queries: int, keys: int) -> tuple[int | None, int | None]:
    """The first and the last key that query 0 sees: ``is_causal`` of scaled_dot_product_attention aligns at the top."""
    end = keys - queries
    if call.op.startswith("aten::_efficient_attention"):
        kind = call.get("custom_mask_type", 0)  # 0 none, 1 causal from the top left, 2 causal from the bottom right
        upper = {0: None, 1: 0}.get(kind, end)
        window = call.get("window_size")
        return (upper - window + 1 if upper is not None and window else None), upper
    if call.op.startswith("aten::_flash_attention"):
        left, right = call.get("window_size_left"), call.get("window_size_right")
        if call.get("is_causal"):
            right = 0
        lower = None if left is None or left < 0 else end - left
        return lower, None if right is None or right < 0 else end + right
    return None, 0 if call.get("is_causal") else None


def _sizes_kernel(call: Call) -> dict[str, Any]:
    """Kernels below scaled_dot_product_attention. With packed sequences their lengths are values: no count."""
    for name in ("cum_seq_q", "cu_seqlens_q", "seqlen_k", "seqused_k", "block_table"):
        if isinstance(lengths := call.get(name), TensorSpec) and lengths.numel:
            raise ContractError(f"{call.op}: the lengths of the sequences are values of '{name}', not shapes")
    return _sizes(call, -2 if "cudnn" in call.op else -3)  # cuDNN takes (batch, heads, length, channels)


def _forward(rows: Any, pairs: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False) -> Cost:
    """`forward_cost` of the pairs that the causal mask leaves."""
    return forward_cost(rows, pairs, dk, dv, mask, dropout)


def _forward_dense(all_rows: Any, dense: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False) -> Cost:
    """`forward_cost` of every pair."""
    return forward_cost(all_rows, dense, dk, dv, mask, dropout)


def _backward(
    rows: Any, pairs: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False, mask_size: Any = 0,
    needs: Any = None, grad_input_mask: Any = None, bias_requires_grad: Any = False,
) -> Cost:  # fmt: skip
    """`backward_cost` of the pairs that the causal mask leaves."""
    wanted = needs or grad_input_mask or (True, True, True, bias_requires_grad)
    return backward_cost(rows, pairs, dk, dv, mask, dropout, wanted, mask_size)


def _backward_dense(
    all_rows: Any, dense: Any, dk: Any, dv: Any, mask: str = "", dropout: bool = False, mask_size: Any = 0,
    needs: Any = None, grad_input_mask: Any = None, bias_requires_grad: Any = False,
) -> Cost:  # fmt: skip
    """`backward_cost` of every pair."""
    wanted = needs or grad_input_mask or (True, True, True, bias_requires_grad)
    return backward_cost(all_rows, dense, dk, dv, mask, dropout, wanted, mask_size)


def _visible(mask: Array | None, causal: bool, at: tuple[int, ...], keys: int) -> list[tuple[int, Any]]:
    """The keys that the query ``at`` sees, each with its entry of the mask."""
    last = min(at[-1] + 1, keys) if causal else keys

    def entry(j: int) -> Any:
        assert mask is not None
        index = (*at, j)[len(at) + 1 - len(mask.shape) :]
        return mask[tuple(0 if s == 1 else i for i, s in zip(index, mask.shape, strict=True))]

    return [(j, None if mask is None else entry(j)) for j in range(last)]


def _score(query: Array, key: Array, scale: float, entry: Any) -> Any:
    score = scale * dot(query, key)
    if isinstance(entry, bool):
        return select(entry, score, -math.inf)
    return score if entry is None else score + entry


def attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, is_causal: bool = False
) -> tuple[Array]:
    """Attention by its definition: batch, heads, length, channels."""
    (batch, heads, queries, dk), dv = query.shape, value.shape[-1]
    groups, value_groups = heads // key.shape[1], heads // value.shape[1]

    def row(b: int, h: int, i: int) -> list[Any]:
        visible = _visible(attn_mask, is_causal, (b, h, i), key.shape[2])
        scores = [_score(query[b, h, i], key[b, h // groups, j], dk**-0.5, entry) for j, entry in visible]
        largest = functools.reduce(maximum, scores)
        weights = [exp(s - largest) for s in scores]
        norm = total(weights)
        shares = [w / norm for w in weights]
        return [dot(shares, [value[b, h // value_groups, j, c] for j, _ in visible]) for c in range(dv)]

    places = itertools.product(range(batch), range(heads), range(queries))
    return (Array((batch, heads, queries, dv), [x for place in places for x in row(*place)]),)


def attention_backward(
    grad_out: Array, query: Array, key: Array, value: Array, out: Array, logsumexp: Array, is_causal: bool = False,
    attn_mask: Array | None = None, needs: Any = (True, True, True, False),
) -> tuple[Array | None, ...]:  # fmt: skip
    """The gradients of attention from its result and the log of the sum of each row: the softmax gradient."""
    scale, groups, value_groups = query.shape[-1] ** -0.5, *(query.shape[1] // x.shape[1] for x in (key, value))
    grads = [Array.make(x.shape, lambda *_: 0.0) for x in (query, key, value)]
    to_mask = None if attn_mask is None else Array.make(attn_mask.shape, lambda *_: 0.0)

    def accumulate(target: Array, start: tuple[int, ...], weight: Any, vector: Array) -> None:
        for c, x in enumerate(vector):
            at = (*start, c)
            target[at] = fma(weight, x, target[at])

    for b, h, i in itertools.product(*map(range, query.shape[:3])):
        g, q = grad_out[b, h, i], query[b, h, i]
        delta = dot(g, out[b, h, i]) if needs[0] or needs[1] or needs[3] else None
        for j, entry in _visible(attn_mask, is_causal, (b, h, i), key.shape[2]):
            k, v = key[b, h // groups, j], value[b, h // value_groups, j]
            p = exp(_score(q, k, scale, entry) - logsumexp[b, h, i])
            if needs[2]:
                accumulate(grads[2], (b, h // value_groups, j), p, g)
            if delta is None:
                continue
            ds = p * (dot(g, v) - delta)
            if needs[3] and to_mask is not None:
                index = (b, h, i, j)[4 - len(to_mask.shape) :]
                index = tuple(0 if s == 1 else x for x, s in zip(index, to_mask.shape, strict=True))
                to_mask[index] = ds if isinstance(to_mask[index], float) else to_mask[index] + ds
            if needs[0] or needs[1]:
                ds = ds * scale
            if needs[0]:
                accumulate(grads[0], (b, h, i), ds, k)
            if needs[1]:
                accumulate(grads[1], (b, h // groups, j), ds, q)
    results: list[Array | None] = [*grads, to_mask]
    return tuple(x if need else None for x, need in zip(results, needs, strict=True))


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


def _example(
    b: Any = (1, 2), h: Any = (1, 2), queries: Any = (1, 2, 5), keys: Any = (1, 3, 4), d: Any = (1, 3),
    shared: Any = (1, 2), is_causal: Any = (False, True), masked: Any = (False, True),
) -> dict[str, Any]:  # fmt: skip
    specs = {"query": _f64(b, h * shared, queries, d), "key": _f64(b, h, keys, d), "value": _f64(b, h, keys, d)}
    mask = _f64(queries, keys) if masked and not is_causal else None
    return {**specs, "dropout_p": 0.0, "is_causal": is_causal, "attn_mask": mask}


def _example_backward(
    b: Any = (1, 2), h: Any = (1, 2), queries: Any = (1, 2, 5), keys: Any = (1, 3, 4), d: Any = (1, 3),
    is_causal: Any = (False, True), masked: Any = (False, True),
) -> dict[str, Any]:  # fmt: skip
    rest = _example(b, h, queries, keys, d, 1, is_causal, masked)
    tensors = {name: rest.pop(name) for name in ("query", "key", "value")}
    out = _f64(b, h, queries, d)
    return {"grad_out": out, **tensors, "out": out, "logsumexp": _f64(b, h, queries), **rest}


product("aten::_scaled_dot_product_flash_attention_for_cpu", sizes=_sizes, reference=attention, example=_example,
     executed=_forward_dense)(_forward)  # fmt: skip
product("flopscan::scaled_dot_product_attention", "aten::scaled_dot_product_attention",
     "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_efficient_attention",
     "aten::_scaled_dot_product_cudnn_attention", "aten::_scaled_dot_product_fused_attention_overrideable",
     "aten::_scaled_dot_product_attention_math", "aten::_scaled_dot_product_attention_math_for_mps",
     sizes=_sizes, reference=attention, executed=_forward_dense)(_forward)  # fmt: skip
product("aten::_flash_attention_forward", "aten::_flash_attention_forward_no_dropout_inplace",
     "aten::_efficient_attention_forward", "aten::_cudnn_attention_forward", sizes=_sizes_kernel,
     executed=_forward_dense)(_forward)  # fmt: skip
product("aten::_scaled_dot_product_flash_attention_for_cpu_backward", sizes=_sizes, reference=attention_backward,
     example=_example_backward, executed=_backward_dense)(_backward)  # fmt: skip
product("aten::_scaled_dot_product_flash_attention_backward", "aten::_scaled_dot_product_efficient_attention_backward",
     "aten::_scaled_dot_product_cudnn_attention_backward",
     "aten::_scaled_dot_product_fused_attention_overrideable_backward", sizes=_sizes,
     executed=_backward_dense)(_backward)  # fmt: skip
product("aten::_flash_attention_backward", "aten::_efficient_attention_backward", "aten::_cudnn_attention_backward",
     sizes=_sizes_kernel, executed=_backward_dense)(_backward)  # fmt: skip


def _moved_backward(call: Call) -> tuple[int, int]:
    """The operands, and the result and the log of the sum of each row (at least float32) that the forward kept."""
    read, written = moved(call)
    grad = call["grad"]
    rows = grad.numel // max(grad.shape[-1], 1)
    return read + grad.nbytes + rows * max(itemsize(grad.dtype), 4), written


product("flopscan::scaled_dot_product_attention_backward", sizes=_sizes, reference=attention_backward,
     moves=_moved_backward, executed=_backward_dense)(_backward)  # fmt: skip
