"""The `xla` convention beside XLA's cost analysis of the same arithmetic, written with JAX's primitives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flopscan

pytestmark = pytest.mark.peers
jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax
ROW, IMAGE = (8, 64), (2, 8, 12, 12)
Shapes = tuple[tuple[int, ...], ...]


def softmax(x: Any) -> Any:
    """Along the last axis."""
    powers = lax.exp(x - lax.reduce(x, -jnp.inf, lax.max, (x.ndim - 1,))[..., None])
    return powers / powers.sum(-1, keepdims=True)


def attention(q: Any, k: Any, v: Any) -> Any:
    """Written out."""
    return softmax(jnp.einsum("bhqd,bhkd->bhqk", q, k) * 0.25) @ v


def pool(x: Any, start: float, step: Any, size: int, stride: int, padding: int) -> Any:
    """A window of ``size`` by ``size`` over the last two axes."""
    pads = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    return lax.reduce_window(x, start, step, (1, 1, size, size), (1, 1, stride, stride), pads)


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Shapes]] = {
    "product": (torch.mm, lambda a, b: a @ b, ((5, 6), (6, 7))),
    "batched product": (torch.bmm, lambda a, b: a @ b, ((3, 5, 6), (3, 6, 7))),
    "linear": (F.linear, lambda x, w, b: x @ w.T + b, (ROW, (128, 64), (128,))),
    "linear, no bias": (F.linear, lambda x, w: x @ w.T, (ROW, (128, 64))),
    "add": (torch.add, lambda a, b: a + b, (ROW, ROW)),
    "add a row": (torch.add, lambda a, b: a + b, (ROW, (64,))),
    "multiply": (torch.mul, lambda a, b: a * b, (ROW, ROW)),
    "divide": (torch.div, lambda a, b: a / b, (ROW, ROW)),
    "larger": (torch.maximum, lambda a, b: lax.max(a, b), (ROW, ROW)),
    "negative": (torch.neg, lambda a: -a, (ROW,)),
    "absolute": (torch.abs, lambda a: lax.abs(a), (ROW,)),
    "greater": (torch.gt, lambda a, b: a > b, (ROW, ROW)),
    "choose": (lambda a, b: torch.where(a > b, a, b), lambda a, b: jnp.where(a > b, a, b), (ROW, ROW)),
    "square": (lambda a: a**2, lambda a: a**2, (ROW,)),
    "relu": (F.relu, lambda a: lax.max(a, 0.0), (ROW,)),
    "sigmoid": (torch.sigmoid, jax.nn.sigmoid, (ROW,)),
    "silu": (F.silu, jax.nn.silu, (ROW,)),
    "exp is apart": (torch.exp, jnp.exp, (ROW,)),
    "tanh is apart": (torch.tanh, jnp.tanh, (ROW,)),
    "sqrt is apart": (torch.sqrt, jnp.sqrt, (ROW,)),
    "to half": (lambda a: a.half(), lambda a: a.astype(jnp.float16), (ROW,)),
    "sum": (lambda a: a.sum(-1), lambda a: a.sum(-1), (ROW,)),
    "mean": (lambda a: a.mean(-1), lambda a: a.mean(-1), (ROW,)),
    "largest of a row": (lambda a: a.amax(-1), lambda a: lax.reduce(a, -jnp.inf, lax.max, (1,)), (ROW,)),
    "softmax": (lambda a: a.softmax(-1), softmax, (ROW,)),
    "max pool": (nn.MaxPool2d(2), lambda x: pool(x, -jnp.inf, lax.max, 2, 2, 0), (IMAGE,)),
    "max pool with padding": (nn.MaxPool2d(3, 2, 1), lambda x: pool(x, -jnp.inf, lax.max, 3, 2, 1), (IMAGE,)),
    "average pool": (nn.AvgPool2d(2), lambda x: pool(x, 0.0, lax.add, 2, 2, 0) / 4, (IMAGE,)),
    "average pool with padding": (nn.AvgPool2d(3, 1, 1), lambda x: pool(x, 0.0, lax.add, 3, 1, 1) / 9, (IMAGE,)),
    "attention": (F.scaled_dot_product_attention, attention, ((2, 4, 6, 16), (2, 4, 9, 16), (2, 4, 9, 12))),
}  # fmt: skip


def theirs(function: Callable[..., Any], shapes: Shapes) -> int:
    """The FLOPs that XLA says of the function before it is optimized."""
    cost = jax.jit(function).lower(*(jnp.zeros(shape) for shape in shapes)).cost_analysis()
    return int(cost.get("flops", 0))


@pytest.mark.parametrize("case", CASES)
def test_functions(case: str) -> None:
    ours, its, shapes = CASES[case]
    assert flopscan.count(ours, *shapes).under("xla") == theirs(its, shapes)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 3, 2), (3, 2, 2)])
def test_convolutions(stride: int, padding: int, dilation: int, groups: int) -> None:
    model = nn.Conv2d(8, 12, 3, stride, padding, dilation, groups)

    def its(x: Any, w: Any, b: Any) -> Any:
        pads, twice = [(padding, padding)] * 2, (dilation, dilation)
        y = lax.conv_general_dilated(
            x, w, (stride, stride), pads, rhs_dilation=twice, feature_group_count=groups,
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )  # fmt: skip
        return y + b[None, :, None, None]

    expected = theirs(its, (IMAGE, tuple(model.weight.shape), (12,)))
    assert flopscan.count(model, IMAGE).under("xla") == expected


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 0, 3), (2, 0, 2), (2, 1, 3), (3, 1, 4)])
def test_transposed_convolutions(stride: int, padding: int, size: int) -> None:
    model = nn.ConvTranspose2d(8, 4, size, stride, padding, bias=False)

    def its(x: Any, w: Any) -> Any:
        pads = [(size - 1 - padding, size - 1 - padding)] * 2
        return lax.conv_general_dilated(
            x, w, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=("NCHW", "IOHW", "NCHW")
        )

    assert flopscan.count(model, IMAGE).under("xla") == theirs(its, (IMAGE, tuple(model.weight.shape)))


def test_a_gradient() -> None:
    x, w = torch.empty(8, 64), torch.empty(64, 128, requires_grad=True)

    def its(x: Any, w: Any) -> Any:
        return jax.vjp(lambda w: x @ w, w)[1](jnp.ones((8, 128)))

    counted = flopscan.count(torch.mm, x, w, backward=True).using("xla").by_phase()
    assert counted["backward"].value == theirs(its, ((8, 64), (64, 128)))
