"""The same arithmetic as functions, operators and parameters of a module's own: unseen by hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flopscan.testing.conformance.case import Case, Shape

GROUP = "functions"


class Apply(nn.Module):
    """A function of tensors as a module; ``count`` operands, by name, since a tracer sees no starred ones.

    Its parameter computes nothing: some counters ask a model's first one for a device.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, a: Tensor) -> Any:
        """What the function gives."""
        return self.function(a)


class ApplyToTwo(Apply):
    """The same of two."""

    def forward(self, a: Tensor, b: Tensor) -> Any:
        """What the function gives."""
        return self.function(a, b)


class ApplyToThree(Apply):
    """The same of three."""

    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Any:
        """What the function gives."""
        return self.function(a, b, c)


class Parameters(nn.Module):
    """A product with a parameter of its own, no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(16, 12))

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return x @ self.weight


class LowRank(nn.Module):
    """A linear layer and a low-rank correction beside it, as LoRA has it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(64, 64)
        self.down, self.up = nn.Parameter(torch.rand(64, 4)), nn.Parameter(torch.rand(4, 64))

    def forward(self, x: Tensor) -> Tensor:
        """The layer and its correction."""
        return self.base(x) + (x @ self.down) @ self.up


class Kept(nn.Module):
    """Layers in a plain list: they compute, but are nobody's children."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.layers = [nn.Linear(16, 16), nn.Linear(16, 16)]

    def forward(self, x: Tensor) -> Tensor:
        """Through both."""
        for layer in self.layers:
            x = layer(x)
        return x * self.scale


class Attention(nn.Module):
    """Attention written with products and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        """Four heads of eight channels."""
        b, l, d = x.shape
        q, k, v = self.qkv(x).reshape(b, l, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, l, d))


def _of(function: Callable[..., Any], count: int) -> Callable[[], nn.Module]:
    return lambda: (Apply, ApplyToTwo, ApplyToThree)[count - 1](function)


def _case(
    name: str, function: Callable[..., Any], shapes: tuple[Shape, ...], macs: int, derivation: str, *also: int
) -> Case:
    return Case(name, GROUP, _of(function, len(shapes)), shapes, macs, derivation, also)


_HEADS = ((1, 4, 32, 16),) * 3
_PAIRS = 32 * 33 // 2

CASES = (
    _case("F.linear", F.linear, ((2, 5, 16), (12, 16), (12,)), 2 * 5 * 16 * 12, "b l k n = 2*5*16*12"),
    _case(
        "F.conv2d", lambda x, w: F.conv2d(x, w, padding=1), ((2, 8, 12, 12), (4, 8, 3, 3)), 2 * 144 * 4 * 8 * 9,
        "b h w c_out c_in 3*3 = 2*144*4*8*9",
    ),
    _case("a @ b", lambda a, b: a @ b, ((5, 6), (6, 7)), 5 * 6 * 7, "m k n = 5*6*7"),
    _case("torch.matmul, broadcast", torch.matmul, ((20, 10), (7, 10, 30)), 7 * 20 * 10 * 30, "b m k n = 7*20*10*30"),
    _case("torch.matmul with a vector", torch.matmul, ((3, 5, 6), (6,)), 3 * 5 * 6, "b m k = 3*5*6"),
    _case("torch.bmm", torch.bmm, ((3, 5, 6), (3, 6, 7)), 3 * 5 * 6 * 7, "b m k n = 3*5*6*7"),
    _case("torch.addmm", torch.addmm, ((7,), (5, 6), (6, 7)), 5 * 6 * 7, "m k n = 5*6*7"),
    _case("torch.baddbmm", torch.baddbmm, ((3, 5, 7), (3, 5, 6), (3, 6, 7)), 3 * 5 * 6 * 7, "b m k n = 3*5*6*7"),
    _case(
        "torch.einsum", lambda a, b: torch.einsum("bhik,bhjk->bhij", a, b), ((2, 3, 5, 6), (2, 3, 7, 6)),
        2 * 3 * 5 * 7 * 6, "b h i j k = 2*3*5*7*6",
    ),
    _case(
        "torch.tensordot", lambda a, b: torch.tensordot(a, b, dims=2), ((5, 4, 3), (4, 3, 7)), 5 * 12 * 7,
        "m, two axes summed, n = 5*(4*3)*7",
    ),
    _case(
        "scaled_dot_product_attention", F.scaled_dot_product_attention, _HEADS, 4 * 32 * 32 * 16 * 2,
        "scores and their sum: 2 h q s d = 2*4*32*32*16",
    ),
    _case(
        "the same, causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), _HEADS,
        4 * _PAIRS * 16 * 2, "32*33/2 pairs that the mask leaves: 2*4*528*16; all 32*32 are right for a kernel that"
        " computes them", 4 * 32 * 32 * 16 * 2,
    ),
    _case(
        "the same, 4 queries to a key head",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        ((1, 8, 32, 16), (1, 2, 32, 16), (1, 2, 32, 16)), 8 * 32 * 32 * 16 * 2, "2 h q s d over the query heads",
    ),
    Case("a parameter of the module's own", GROUP, Parameters, ((2, 5, 16),), 2 * 5 * 16 * 12, "b l k n = 2*5*16*12"),
    Case(
        "linear with a low-rank correction", GROUP, LowRank, ((8, 64),), 8 * 64 * 64 + 2 * 8 * 64 * 4,
        "b k n, and two products of rank 4: 8*64*64 + 2*8*64*4",
    ),
    Case("layers in a plain list", GROUP, Kept, ((3, 16),), 2 * 3 * 16 * 16, "2 b k n = 2*3*16*16"),
    Case(
        "attention by hand", GROUP, Attention, ((2, 9, 32),), 2 * (4 * 9 * 32 * 32 + 2 * 9 * 9 * 32),
        "projections, scores and their sum: b(4 l d d + 2 l l d) = 2*(4*9*32*32 + 2*9*9*32)",
    ),
    _case("elementwise alone", lambda a: (a.exp() + 1).log() * a, ((8, 64),), 0, "no product of matrices"),
)  # fmt: skip
