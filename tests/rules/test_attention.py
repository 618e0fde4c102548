"""Attention: causal masks, shared heads, masks and gradients; every kernel of torch by one formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from flopscan import rules
from flopscan.analysis import price
from flopscan.capture import shape_only
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules.attention import seen
from proving import prove

FORWARD, BACKWARD = "flopscan::scaled_dot_product_attention", "flopscan::scaled_dot_product_attention_backward"


def test_pairs_are_those_of_the_mask() -> None:
    for queries, keys in ((1, 1), (4, 4), (3, 5), (5, 3), (1, 6), (6, 1)):
        for lower in (None, -9, -2, 0, 1, 9):
            for upper in (None, -9, -1, 0, 2, 9):
                if None not in (lower, upper) and lower > upper:
                    continue
                visible = [
                    sum(
                        1
                        for j in range(keys)
                        if (lower is None or j >= i + lower) and (upper is None or j <= i + upper)
                    )
                    for i in range(queries)
                ]
                assert seen(queries, keys, lower, upper) == (sum(map(bool, visible)), sum(visible))


CASES = [
    {"queries": 4, "keys": 4, "causal": True},
    {"queries": 3, "keys": 5, "causal": True},
    {"queries": 5, "keys": 3, "causal": True},
    {"heads": 4, "key_heads": 2, "causal": True},
    {"heads": 4, "key_heads": 1, "value_heads": 2},
    {"mask": (3, 4)},
    {"mask": (2, 1, 3, 4)},
    {"mask": (3, 4), "boolean": True},
    {"channels": 2, "values": 5},
]


def _operands(
    queries: int = 3, keys: int = 4, heads: int = 2, key_heads: int = 0, value_heads: int = 0, channels: int = 3,
    values: int = 3, causal: bool = False, mask: tuple[int, ...] = (), boolean: bool = False,
) -> dict[str, Any]:  # fmt: skip
    torch.manual_seed(0)
    f64 = torch.float64
    attn_mask = None
    if mask:
        attn_mask = torch.rand(mask) < 0.7 if boolean else torch.rand(mask, dtype=f64)
    if boolean:
        attn_mask[..., 0] = True
    key_heads = key_heads or heads
    return {
        "query": torch.rand(2, heads, queries, channels, dtype=f64),
        "key": torch.rand(2, key_heads, keys, channels, dtype=f64),
        "value": torch.rand(2, value_heads or key_heads, keys, values, dtype=f64),
        "attn_mask": attn_mask, "is_causal": causal,
    }  # fmt: skip


def _shared(tensors: dict[str, Any]) -> dict[str, Any]:
    """The operands with the key and value heads repeated, as torch defines shared heads."""
    heads = tensors["query"].shape[1]
    repeat = {n: tensors[n].repeat_interleave(heads // tensors[n].shape[1], 1) for n in ("key", "value")}
    return {**tensors, **repeat}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case: dict[str, Any]) -> None:
    operands = _operands(**case)
    prove(FORWARD, operands, F.scaled_dot_product_attention(**_shared(operands)))


def _gradients() -> list[Any]:
    """Each case with the gradients that it can have: a mask's only where there is one that adds."""
    wanted = [(1, 1, 1, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 1), (1, 1, 1, 1)]
    additive = [bool(case.get("mask")) and not case.get("boolean") for case in CASES]
    return [
        (case, needs) for case, mask in zip(CASES, additive, strict=True) for needs in wanted if mask or not needs[3]
    ]


@pytest.mark.parametrize(("case", "needs"), _gradients(), ids=str)
def test_backward(case: dict[str, Any], needs: tuple[int, ...]) -> None:
    operands = _operands(**case)
    names = ("query", "key", "value", "attn_mask")
    for name, need in zip(names, needs, strict=True):
        if need:
            operands[name].requires_grad_()
    shared = _shared(operands)
    out = F.scaled_dot_product_attention(**shared)
    grad = torch.rand_like(out)
    wanted = [operands[n] for n, need in zip(names, needs, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, grad))
    scores = shared["query"] @ shared["key"].mT * shared["query"].shape[-1] ** -0.5
    if operands["is_causal"]:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    mask = operands["attn_mask"]
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
    kept = {"grad_out": grad, "grad": grad, "out": out.detach(), "logsumexp": scores.logsumexp(-1).detach()}
    operands = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in operands.items()}
    expected = tuple(next(found) if need else None for need in needs)
    prove(BACKWARD, {**operands, **kept, "needs": [bool(n) for n in needs]}, expected)


def _kernel(op: str, shape: tuple[int, ...], **settings: Any) -> Any:
    """The price of a kernel on float16 operands of one shape; backwards get a gradient too."""
    spec = TensorSpec(shape, "float16")
    operands = {"query": spec, "key": spec, "value": spec, **settings}
    if op.endswith("backward"):
        operands |= {"grad_out": spec, "out": spec}
    rule = rules.find(op)
    assert rule is not None
    return rule.price(Call(op, operands, (spec,)))


def _kernels() -> list[str]:
    """Every attention operator of torch that has this formula."""
    found = {op for op, rule in rules.load().items() if rule.cost.__module__ == "flopscan.rules.attention"}
    return sorted(op for op in found if op.startswith("aten::_"))


@pytest.mark.parametrize("op", _kernels())
def test_every_kernel_counts_the_same(op: str) -> None:
    # 2 x 3 heads of 8 positions and 4 channels. Causal pairs: 6 * (1 + .. + 8) = 216 of 6 * 64 = 384; 48 rows.
    # Forward: 216 * (4 + 4) fma. Backward: 216 * 5 * 4 fma in five products, and 48 * 4 for delta.
    inside = op.startswith(("aten::_flash", "aten::_efficient"))
    settings = {"custom_mask_type": 1} if op.startswith("aten::_efficient") else {"is_causal": True}
    found = _kernel(op, (2, 8, 3, 4) if inside else (2, 3, 8, 4), **settings)
    backward = op.endswith("backward")
    assert found.ideal.fma == (216 * 5 * 4 + 48 * 4 if backward else 216 * 8)
    assert found.executed.fma == (384 * 5 * 4 + 48 * 4 if backward else 384 * 8)


def test_windows() -> None:
    # 8 positions, each sees itself and the 2 before: 1 + 2 + 6 * 3 = 21 pairs for each of 6 heads, 8 fma a pair.
    flash = _kernel("aten::_flash_attention_forward", (2, 8, 3, 4), is_causal=True, window_size_left=2)
    efficient = _kernel("aten::_efficient_attention_forward", (2, 8, 3, 4), custom_mask_type=1, window_size=3)
    assert flash.ideal.fma == efficient.ideal.fma == 21 * 6 * 8


def test_packed_sequences_are_left_uncounted() -> None:
    found = _kernel("aten::_flash_attention_forward", (9, 3, 4), cum_seq_q=TensorSpec((3,), "int32"), is_causal=False)
    assert found.ideal is None and "values of 'cum_seq_q'" in found.note


def test_a_module_with_shared_heads_and_its_gradient() -> None:
    def model(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)

    q = torch.empty(2, 8, 16, 4, device="meta", requires_grad=True)
    k = torch.empty(2, 2, 16, 4, device="meta", requires_grad=True)
    ledger = price(shape_only.trace(model, (q, k), {}))
    # 2 * 8 query heads, 16 * 17 / 2 pairs each, 4 + 4 fma a pair; the keys are shared, the work is not.
    assert ledger.cost().fma == 2 * 8 * 136 * 8
    assert ledger.executed().fma == 2 * 8 * 256 * 8
