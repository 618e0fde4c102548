"""Layers and functions on which every peer is compared with its convention: what is made, and the shapes it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]
IMAGE = (2, 8, 12, 12)


class Function(nn.Module):
    """A layer or function of one operand, called in a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor) -> Any:
        """What the function gives."""
        return self.function(a)


class OfTwo(Function):
    """The same of two; a tool that traces sees no starred operands."""

    def forward(self, a: Tensor, b: Tensor) -> Any:
        """What the function gives."""
        return self.function(a, b)


class OfThree(Function):
    """The same of three."""

    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Any:
        """What the function gives."""
        return self.function(a, b, c)


class Tied(nn.Module):
    """One linear that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Twice through it."""
        return self.linear(self.linear(x))


class Attention(nn.Module):
    """Self-attention written with products and a softmax."""

    def __init__(self, operator: bool) -> None:
        super().__init__()
        self.qkv, self.proj, self.operator = nn.Linear(16, 48), nn.Linear(16, 16), operator

    def forward(self, x: Tensor) -> Tensor:
        """Four heads of four."""
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if self.operator:
            y = (q * 0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        else:
            y = torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-2, -1)) * 0.5, dim=-1), v)
        return self.proj(y.transpose(1, 2).reshape(b, n, 16))


CASES: dict[str, tuple[Callable[[], Any], tuple[Shape, ...]]] = {
    "linear": (lambda: nn.Linear(64, 128), ((8, 64),)),
    "linear, no bias": (lambda: nn.Linear(64, 128, bias=False), ((8, 64),)),
    "linear, three axes": (lambda: nn.Linear(16, 12), ((2, 5, 16),)),
    "linear, three axes, no bias": (lambda: nn.Linear(16, 12, bias=False), ((2, 5, 16),)),
    "linear, one axis": (lambda: nn.Linear(16, 12), ((16,),)),
    "linear twice": (Tied, ((3, 16),)),
    "bilinear": (lambda: nn.Bilinear(6, 5, 4), ((3, 6), (3, 5))),
    "conv1d": (lambda: nn.Conv1d(8, 6, 3, stride=2, padding=1), ((2, 8, 15),)),
    "conv1d, depthwise": (lambda: nn.Conv1d(64, 64, 4, groups=64, padding=3), ((1, 64, 128),)),
    "conv2d": (lambda: nn.Conv2d(3, 16, 3, padding=1), ((1, 3, 32, 32),)),
    "conv2d, no bias": (lambda: nn.Conv2d(8, 16, 3, bias=False), (IMAGE,)),
    "conv2d, groups": (lambda: nn.Conv2d(8, 16, 3, groups=4), (IMAGE,)),
    "conv2d, dilated": (lambda: nn.Conv2d(8, 4, 3, dilation=2, padding=2), (IMAGE,)),
    "conv2d, same": (lambda: nn.Conv2d(8, 4, 3, padding="same"), (IMAGE,)),
    "conv2d, circular": (lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"), (IMAGE,)),
    "conv2d, no batch": (lambda: nn.Conv2d(8, 4, 3), ((8, 6, 6),)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3, padding=1), ((1, 2, 4, 6, 6),)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(8, 4, 3, 2), ((2, 8, 7),)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),)),
    "transposed conv2d, groups": (lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, groups=4), (IMAGE,)),
    "transposed conv2d, no bias": (lambda: nn.ConvTranspose2d(8, 6, 2, 2, bias=False), (IMAGE,)),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(2, 3, 2, 2), ((1, 2, 3, 4, 4),)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(8), ((4, 8),)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(16), ((1, 16, 32, 32),)),
    "batch norm 2d, not affine": (lambda: nn.BatchNorm2d(8, affine=False), (IMAGE,)),
    "batch norm 3d": (lambda: nn.BatchNorm3d(2), ((1, 2, 3, 4, 4),)),
    "layer norm": (lambda: nn.LayerNorm(64), ((8, 64),)),
    "layer norm, not affine": (lambda: nn.LayerNorm(64, elementwise_affine=False), ((8, 64),)),
    "group norm": (lambda: nn.GroupNorm(2, 8), (IMAGE,)),
    "instance norm": (lambda: nn.InstanceNorm2d(8), (IMAGE,)),
    "instance norm, affine": (lambda: nn.InstanceNorm2d(8, affine=True), (IMAGE,)),
    "rms norm": (lambda: nn.RMSNorm(64), ((8, 64),)),
    "relu": (nn.ReLU, ((1, 16, 32, 32),)),
    "relu in place": (lambda: nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(inplace=True)), (IMAGE,)),
    "relu, function": (lambda: F.relu, (IMAGE,)),
    "relu, method": (lambda: lambda x: x.relu(), (IMAGE,)),
    "gelu": (nn.GELU, ((1, 16, 32, 32),)),
    "silu": (nn.SiLU, (IMAGE,)),
    "silu, function": (lambda: F.silu, (IMAGE,)),
    "leaky relu": (lambda: nn.LeakyReLU(0.1), (IMAGE,)),
    "leaky relu in place": (lambda: nn.Sequential(nn.Conv2d(8, 4, 1), nn.LeakyReLU(inplace=True)), (IMAGE,)),
    "prelu": (nn.PReLU, (IMAGE,)),
    "sigmoid": (nn.Sigmoid, (IMAGE,)),
    "tanh": (nn.Tanh, (IMAGE,)),
    "hardswish": (nn.Hardswish, (IMAGE,)),
    "max pool": (lambda: nn.MaxPool2d(2), ((1, 16, 32, 32),)),
    "max pool, function": (lambda: lambda x: F.max_pool2d(x, 3, 2, 1), (IMAGE,)),
    "max pool 1d": (lambda: nn.MaxPool1d(2), ((2, 8, 12),)),
    "average pool": (lambda: nn.AvgPool2d(2), ((1, 16, 32, 32),)),
    "average pool 1d": (lambda: nn.AvgPool1d(3), ((2, 8, 12),)),
    "average pool 3d": (lambda: nn.AvgPool3d(2), ((1, 2, 4, 4, 4),)),
    "average pool, function": (lambda: lambda x: F.avg_pool2d(x, 2), (IMAGE,)),
    "adaptive average pool": (lambda: nn.AdaptiveAvgPool2d(1), ((1, 16, 32, 32),)),
    "adaptive average pool to 5": (lambda: nn.AdaptiveAvgPool2d(5), (IMAGE,)),
    "adaptive average pool 1d": (lambda: nn.AdaptiveAvgPool1d(3), ((2, 8, 12),)),
    "adaptive max pool": (lambda: nn.AdaptiveMaxPool2d(3), (IMAGE,)),
    "mean": (lambda: lambda x: x.mean((2, 3)), (IMAGE,)),
    "softmax": (lambda: nn.Softmax(-1), ((8, 64),)),
    "softmax, method": (lambda: lambda x: x.softmax(-1), ((8, 64),)),
    "softmax, function": (lambda: lambda x: F.softmax(x, dim=1), (IMAGE,)),
    "log softmax": (lambda: nn.LogSoftmax(1), ((8, 64),)),
    "dropout": (lambda: nn.Dropout(0.5), (IMAGE,)),
    "flatten": (nn.Flatten, (IMAGE,)),
    "nearest": (lambda: nn.Upsample(scale_factor=2), (IMAGE,)),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (IMAGE,)),
    "bicubic upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (IMAGE,)),
    "interpolate to a size": (lambda: lambda x: F.interpolate(x, size=(5, 7), mode="bilinear"), (IMAGE,)),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (IMAGE,)),
    "add": (lambda: lambda a, b: a + b, ((8, 64), (8, 64))),
    "add, function": (lambda: torch.add, ((8, 64), (8, 64))),
    "add of two axes": (lambda: lambda a, b: a + b, ((8, 1, 64), (5, 64))),
    "multiply": (lambda: lambda a, b: a * b, ((8, 64), (8, 64))),
    "multiply, function": (lambda: torch.mul, ((8, 64), (64,))),
    "multiply, method": (lambda: lambda a, b: a.mul(b), ((8, 64), (8, 64))),
    "divide": (lambda: lambda a, b: a / b, ((8, 64), (8, 64))),
    "subtract": (lambda: lambda a, b: a - b, ((8, 64), (8, 64))),
    "one minus": (lambda: lambda a: 1 - a, ((8, 64),)),
    "sum": (lambda: lambda a: a.sum(-1), ((8, 64),)),
    "exp": (lambda: lambda a: a.exp(), ((8, 64),)),
    "matmul": (lambda: torch.matmul, ((5, 6), (6, 7))),
    "matmul by sign": (lambda: lambda a, b: a @ b, ((5, 6), (6, 7))),
    "matmul, batched": (lambda: torch.matmul, ((3, 5, 6), (3, 6, 7))),
    "matmul, broadcast": (lambda: torch.matmul, ((20, 10), (7, 10, 30))),
    "matmul with a vector": (lambda: torch.matmul, ((3, 5, 6), (6,))),
    "dot product": (lambda: torch.matmul, ((6,), (6,))),
    "mm": (lambda: torch.mm, ((5, 6), (6, 7))),
    "bmm": (lambda: torch.bmm, ((3, 5, 6), (3, 6, 7))),
    "addmm": (lambda: torch.addmm, ((7,), (5, 6), (6, 7))),
    "baddbmm": (lambda: torch.baddbmm, ((3, 5, 7), (3, 5, 6), (3, 6, 7))),
    "einsum, a product": (lambda: lambda a, b: torch.einsum("bik,bkj->bij", a, b), ((3, 5, 6), (3, 6, 7))),
    "einsum of three": (lambda: lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), ((3, 4), (4, 5), (5, 6))),
    "einsum, an outer product": (lambda: lambda a, b: torch.einsum("i,j->ij", a, b), ((5,), (6,))),
    "functional linear": (lambda: F.linear, ((2, 5, 16), (12, 16), (12,))),
    "functional conv2d": (lambda: lambda x, w, b: F.conv2d(x, w, b, padding=1), (IMAGE, (4, 8, 3, 3), (4,))),
    "functional layer norm": (lambda: lambda x, w, b: F.layer_norm(x, (64,), w, b), ((8, 64), (64,), (64,))),
    "attention": (lambda: F.scaled_dot_product_attention, ((1, 4, 32, 16),) * 3),
    "attention, causal": (lambda: lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
                          ((1, 4, 128, 64),) * 3),
    "attention to others": (lambda: F.scaled_dot_product_attention, ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8))),
    "attention, three axes": (lambda: F.scaled_dot_product_attention, ((4, 12, 8),) * 3),
    "attention, wider values": (lambda: F.scaled_dot_product_attention, ((1, 4, 6, 8), (1, 4, 6, 8), (1, 4, 6, 12))),
    "attention by signs": (lambda: Attention(True), ((2, 9, 16),)),
    "attention by functions": (lambda: Attention(False), ((2, 9, 16),)),
    "multi-head attention": (lambda: SelfAttention(False), ((2, 9, 16),)),
    "multi-head attention with weights": (lambda: SelfAttention(True), ((2, 9, 16),)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), ((2, 9, 16),)),
    "lstm": (lambda: nn.LSTM(8, 16, batch_first=True), ((2, 9, 8),)),
    "lstm, two layers and directions": (lambda: nn.LSTM(8, 16, num_layers=2, bidirectional=True), ((9, 2, 8),)),
    "gru": (lambda: nn.GRU(8, 16, batch_first=True), ((2, 9, 8),)),
    "rnn": (lambda: nn.RNN(8, 16, batch_first=True), ((2, 9, 8),)),
    "lstm cell": (lambda: nn.LSTMCell(8, 16), ((2, 8),)),
    "gru cell": (lambda: nn.GRUCell(8, 16), ((2, 8),)),
    "grid sample": (lambda: lambda x, g: F.grid_sample(x, g, align_corners=False), (IMAGE, (2, 5, 5, 2))),
    "fold": (lambda: nn.Unfold(3), (IMAGE,)),
    "mse loss": (lambda: F.mse_loss, ((8, 64), (8, 64))),
}  # fmt: skip


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of one operand with itself."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(16, 4, batch_first=True), weights

    def forward(self, x: Tensor) -> Tensor:
        """What is attended to."""
        return self.attention(x, x, x, need_weights=self.weights)[0]


def made(case: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The case as a module around its layer or function, in eval mode, and operands for it."""
    make, shapes = CASES[case]
    model = (Function, OfTwo, OfThree)[len(shapes) - 1](make())
    return model.eval(), tuple(value(shape) for shape in shapes)


def value(shape: Shape) -> Tensor:
    """Small random numbers."""
    return torch.rand(shape)
