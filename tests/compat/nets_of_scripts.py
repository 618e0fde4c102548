"""Small models for scripts that are run with a tool's call and with flopscan's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Small(nn.Module):
    """A convolution, a norm, an activation, a mean and a classifier; a layer that is not used, and one that is nothing.

    On 2x3x8x8: convolution 2*8*6*6*27 = 15,552 multiply-adds, 576 outputs; classifier 2*8*10 = 160.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.ModuleDict({"fc": nn.Sequential(nn.Linear(8, 10, bias=False))})
        self.unused = nn.Linear(3, 3)
        self.nothing = nn.Identity()
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.nothing(self.head["fc"](self.body(x).mean((2, 3)))))


class Shared(nn.Module):
    """One linear layer under three names."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(3, 3)
        self.a = nn.Sequential(layer, nn.ReLU())
        self.b = nn.Sequential(layer, nn.LayerNorm(3))
        self.c = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)))


class Functions(nn.Module):
    """Work without modules."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        scores = torch.einsum("bcl,bdl->bcd", flat, flat)
        mixed = F.softmax(scores @ scores.transpose(1, 2), -1) @ flat
        return F.interpolate(mixed.view_as(x), scale_factor=2, mode="bilinear").sigmoid() + 1


class Attention(nn.Module):
    """A block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


CASES: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "small": (Small, (2, 3, 8, 8)),
    "shared": (Shared, (2, 3)),
    "functions": (Functions, (2, 4, 5, 5)),
    "attention": (Attention, (2, 9, 16)),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """The model of a case, in evaluation mode, and its input."""
    cls, shape = CASES[name]
    torch.manual_seed(0)
    return cls().eval(), torch.rand(shape)


def state(model: nn.Module) -> list[object]:
    """What a call must leave as it was: attributes, hooks, mode and the very parameters of every module."""
    return [
        (name, m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks), sorted(m.__dict__),
         [(k, id(p)) for k, p in m._parameters.items()], [(k, id(b)) for k, b in m._buffers.items()])
        for name, m in model.named_modules()
    ]  # fmt: skip
