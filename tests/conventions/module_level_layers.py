"""Layers and functions on which the counters that hook modules and patch functions are compared with flopscan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Case = tuple[Callable[[], nn.Module], tuple[Any, ...]]


class Around(nn.Module):
    """A layer or a function as the whole model, with a parameter beside it: some counters ask for the first one."""

    def __init__(self, inner: Callable[..., Any], *more: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.more = nn.ModuleList(more)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.inner(*args, *named.values())


class Holder(nn.Module):
    """Holds a function of torch from the time it was made, as many models do with their activation."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = F.relu

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.activation(x))


class Itself(nn.Module):
    """Attention of a sequence to itself, its weights not asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Twice(nn.Module):
    """One linear layer under two parents, called by each, and an activation called twice by one."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(8, 8)
        self.left, self.right = nn.Sequential(shared, nn.ReLU()), nn.Sequential(shared)
        self.act = self.again = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.act(self.right(self.left(x))))


class Derived(nn.Linear):
    """A subclass of a layer, which exact class names do not find."""


class ConvLike(nn.Module):
    """A leaf with weights of its own and a name like a convolution's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 5))
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Packed(nn.Module):
    """A recurrent layer on sequences of five and three steps, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(nn.utils.rnn.pack_padded_sequence(x, [5, 3]))[0].data


class LinearAround(nn.Linear):
    """A linear layer of its own making, with a convolution and a product inside."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.conv = nn.Conv1d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.conv(x), self.weight.t())


class ByName(nn.Module):
    """Attention of a sequence to itself, its operands given by name."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(query=x, key=x, value=x, attn_mask=torch.zeros(len(x), len(x)))[0]


class Sizes(nn.Module):
    """A layer on inputs of several sizes, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).sum() + self.conv(x[..., :7]).sum() + self.conv(x[..., :9]).sum()


def ints(*shape: int) -> Tensor:
    """Token ids below 10."""
    return torch.arange(torch.Size(shape).numel()).reshape(shape) % 10


IMAGE, WIDE, VOLUME = (2, 4, 9, 11), (2, 4, 13), (2, 4, 5, 6, 7)


def _modules() -> dict[str, Case]:
    cases: dict[str, Case] = {}

    def add(name: str, make: Callable[[], nn.Module], *inputs: Any) -> None:
        cases[name] = (make, inputs)

    for bias in (True, False):
        for shape in ((3, 8), (2, 5, 8), (2, 3, 4, 8)):
            add(f"Linear bias={bias} {len(shape)}-D", lambda b=bias: nn.Linear(8, 6, bias=b), shape)
    add("Linear derived", lambda: Derived(8, 6), (3, 8))
    add("Bilinear", lambda: nn.Bilinear(4, 5, 6), (3, 4), (3, 5))
    add("Bilinear, no bias, 3-D", lambda: nn.Bilinear(4, 5, 6, bias=False), (2, 3, 4), (2, 3, 5))
    for n, shape in ((1, WIDE), (2, IMAGE), (3, VOLUME)):
        conv, transposed = getattr(nn, f"Conv{n}d"), getattr(nn, f"ConvTranspose{n}d")
        add(f"Conv{n}d", lambda c=conv: c(4, 6, 3), shape)
        add(f"Conv{n}d groups stride padding", lambda c=conv: c(4, 6, 3, 2, 1, groups=2, bias=False), shape)
        add(f"Conv{n}d depthwise dilated", lambda c=conv: c(4, 4, 2, dilation=2, groups=4), shape)
        add(f"Conv{n}d same", lambda c=conv: c(4, 6, 3, padding="same"), shape)
        add(f"Conv{n}d circular", lambda c=conv: c(4, 6, 3, padding=1, padding_mode="circular"), shape)
        add(f"ConvTranspose{n}d", lambda c=transposed: c(4, 6, 2, 2), shape)
        add(
            f"ConvTranspose{n}d groups padding",
            lambda c=transposed: c(4, 6, 3, 2, 1, output_padding=1, groups=2, bias=False),
            shape,
        )
        add(f"ConvTranspose{n}d groups bias", lambda c=transposed: c(4, 8, 3, 1, groups=4), shape)
        for affine in (True, False):
            add(f"BatchNorm{n}d {affine}", lambda n=n, a=affine: getattr(nn, f"BatchNorm{n}d")(4, affine=a), shape)
            add(
                f"InstanceNorm{n}d {affine}",
                lambda n=n, a=affine: getattr(nn, f"InstanceNorm{n}d")(4, affine=a),
                shape,
            )
        add(f"MaxPool{n}d", lambda n=n: getattr(nn, f"MaxPool{n}d")(2), shape)
        add(f"MaxPool{n}d with indices", lambda n=n: getattr(nn, f"MaxPool{n}d")(2, return_indices=True), shape)
        add(f"AvgPool{n}d", lambda n=n: getattr(nn, f"AvgPool{n}d")(2), shape)
        add(f"AvgPool{n}d padded", lambda n=n: getattr(nn, f"AvgPool{n}d")(3, 2, 1, ceil_mode=True), shape)
        add(f"AdaptiveAvgPool{n}d to 1", lambda n=n: getattr(nn, f"AdaptiveAvgPool{n}d")(1), shape)
        add(f"AdaptiveAvgPool{n}d to 3", lambda n=n: getattr(nn, f"AdaptiveAvgPool{n}d")(3), shape)
        add(f"AdaptiveMaxPool{n}d", lambda n=n: getattr(nn, f"AdaptiveMaxPool{n}d")(2), shape)
    add("AvgPool2d divisor", lambda: nn.AvgPool2d((2, 3), divisor_override=5), IMAGE)
    add("AvgPool2d border left out", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE)
    add("LPPool2d", lambda: nn.LPPool2d(2, 2), IMAGE)
    add("Conv2d same, even kernel", lambda: nn.Conv2d(4, 6, 2, padding="same"), IMAGE)
    add("BatchNorm1d 2-D", lambda: nn.BatchNorm1d(8), (3, 8))
    for affine in (True, False):
        add(f"LayerNorm {affine}", lambda a=affine: nn.LayerNorm(8, elementwise_affine=a), (2, 5, 8))
        add(f"GroupNorm {affine}", lambda a=affine: nn.GroupNorm(2, 4, affine=a), IMAGE)
        add(f"RMSNorm {affine}", lambda a=affine: nn.RMSNorm(8, elementwise_affine=a), (2, 5, 8))
    add("LayerNorm, no bias", lambda: nn.LayerNorm(8, bias=False), (2, 5, 8))
    add("LocalResponseNorm", lambda: nn.LocalResponseNorm(2), IMAGE)
    for name in (
        "ReLU", "ReLU6", "ELU", "LeakyReLU", "GELU", "SiLU", "CELU", "SELU", "Sigmoid", "Tanh", "Hardswish", "Mish",
        "Hardsigmoid", "Hardtanh", "Softplus", "Softsign", "LogSigmoid", "Tanhshrink", "Identity", "Dropout", "Flatten",
        "PReLU", "RReLU", "Softmin",
    ):  # fmt: skip
        add(name, getattr(nn, name), (2, 4, 6))
    add("GLU", nn.GLU, (2, 4, 6))
    add("Dropout2d", nn.Dropout2d, IMAGE)
    add("Softmax", lambda: nn.Softmax(-1), (2, 5, 8))
    add("Softmax over 1", lambda: nn.Softmax(1), (2, 5, 8))
    add("LogSoftmax", lambda: nn.LogSoftmax(-1), (2, 5, 8))
    add("Softmax2d", nn.Softmax2d, IMAGE)
    for n, shape, modes in (
        (1, WIDE, ("nearest", "linear")),
        (2, IMAGE, ("nearest", "nearest-exact", "bilinear", "bicubic")),
        (3, VOLUME, ("nearest", "trilinear")),
    ):
        for mode in modes:
            add(f"Upsample {n} {mode} x2", lambda m=mode: nn.Upsample(scale_factor=2, mode=m), shape)
            add(f"Upsample {n} {mode} size", lambda m=mode, n=n: nn.Upsample((8,) * n, mode=m), shape)
    add("Upsample int size", lambda: nn.Upsample(8), IMAGE)
    add("Upsample two factors", lambda: nn.Upsample(scale_factor=(2, 3)), IMAGE)
    add("UpsamplingBilinear2d", lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE)
    add("UpsamplingNearest2d", lambda: nn.UpsamplingNearest2d((8, 8)), IMAGE)
    add("PixelShuffle", lambda: nn.PixelShuffle(2), IMAGE)
    add("ZeroPad2d", lambda: nn.ZeroPad2d(1), IMAGE)
    add("Embedding", lambda: nn.Embedding(10, 8), ints(2, 5))
    add("EmbeddingBag", lambda: nn.EmbeddingBag(10, 8), ints(2, 5))
    for name in ("RNN", "LSTM", "GRU"):
        made = getattr(nn, name)
        add(name, lambda m=made: m(4, 6), (5, 2, 4))
        add(f"{name} batch first, 2 layers", lambda m=made: m(4, 6, 2, batch_first=True), (2, 5, 4))
        add(f"{name} bidirectional, no bias", lambda m=made: m(4, 6, 2, bias=False, bidirectional=True), (5, 2, 4))
        add(f"{name}Cell", lambda n=name: getattr(nn, f"{n}Cell")(4, 6), (2, 4))
        add(f"{name}Cell, no bias", lambda n=name: getattr(nn, f"{n}Cell")(4, 6, bias=False), (2, 4))
    add("LSTM with projection", lambda: nn.LSTM(4, 6, 2, proj_size=3), (5, 2, 4))
    return cases


def _attention() -> dict[str, Case]:
    attention = nn.MultiheadAttention
    return {
        "MultiheadAttention": (lambda: attention(8, 2), ((5, 2, 8),) * 3),
        "MultiheadAttention batch first": (lambda: attention(8, 2, batch_first=True), ((2, 5, 8),) * 3),
        "MultiheadAttention cross": (lambda: attention(8, 2, batch_first=True), ((2, 5, 8), (2, 7, 8), (2, 7, 8))),
        "MultiheadAttention no bias": (lambda: attention(8, 2, bias=False), ((5, 2, 8),) * 3),
        "MultiheadAttention other widths": (lambda: attention(8, 2, kdim=6, vdim=4), ((5, 2, 8), (7, 2, 6), (7, 2, 4))),
        "MultiheadAttention bias on keys": (lambda: attention(8, 2, add_bias_kv=True), ((5, 2, 8),) * 3),
        "MultiheadAttention a zero key": (lambda: attention(8, 2, add_zero_attn=True), ((5, 2, 8),) * 3),
        "MultiheadAttention, weights not needed": (Itself, ((5, 2, 8),)),
        "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), ((2, 5, 8),)),
        "TransformerEncoderLayer gelu": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), ((5, 2, 8),)),
        "TransformerDecoderLayer": (lambda: nn.TransformerDecoderLayer(8, 2, 16), ((5, 2, 8), (4, 2, 8))),
        "Transformer": (
            lambda: nn.Transformer(8, 2, 2, 1, 16, batch_first=True), ((2, 5, 8), (2, 4, 8)),
        ),
        "a function held": (Holder, ((2, 5, 8),)),
        "one layer under two parents": (Twice, ((3, 8),)),
        "three sizes": (Sizes, ((1, 3, 12),)),
        "a leaf called like a convolution": (ConvLike, ((2, 3, 4, 6),)),
        "LSTM packed": (Packed, ((5, 2, 4),)),
        "LSTM, one sequence": (lambda: nn.LSTM(4, 6), ((5, 4),)),
        "LSTMCell, one row": (lambda: nn.LSTMCell(4, 6), ((4,),)),
        "LSTM with projection, both directions": (
            lambda: nn.LSTM(4, 6, 2, proj_size=3, bidirectional=True), ((5, 2, 4),),
        ),
        "Conv1d, one sequence": (lambda: nn.Conv1d(4, 6, 3), ((4, 9),)),
        "ConvTranspose1d, one sequence": (lambda: nn.ConvTranspose1d(4, 6, 3), ((4, 9),)),
        "Softmax, axis not said, 2-D": (nn.Softmax, ((2, 3),)),
        "Softmax, axis not said, 3-D": (nn.Softmax, ((2, 3, 4),)),
        "AvgPool1d, one sequence": (lambda: nn.AvgPool1d(2), ((4, 6),)),
        "AvgPool1d beyond the end": (lambda: nn.AvgPool1d(3, 2, 1, ceil_mode=True), ((2, 4, 6),)),
        "AdaptiveAvgPool2d of one axis": (lambda: nn.AdaptiveAvgPool2d((None, 2)), ((2, 4, 5, 6),)),
        "AdaptiveAvgPool1d to more": (lambda: nn.AdaptiveAvgPool1d(9), ((2, 4, 5),)),
        "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), ((2, 4, 5),)),
        "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), ((3, 4),)),
        "Linear around a convolution": (LinearAround, ((7, 2, 4),)),
        "MultiheadAttention by name": (ByName, ((5, 2, 8),)),
        "MultiheadAttention, one sequence": (lambda: attention(8, 2), ((5, 8),) * 3),
        "a sequence": (
            lambda: nn.Sequential(
                nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                nn.ConvTranspose2d(8, 4, 2, 2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
            ), ((1, 4, 8, 8),),
        ),
    }  # fmt: skip


def late(home: Any, name: str) -> Callable[..., Any]:
    """A call of the function that is ``home.name`` at the time, which may be one that a counter put there."""
    return lambda *operands: getattr(home, name)(*operands)


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "matmul": (late(torch, "matmul"), ((3, 4), (4, 5))),
    "matmul batched": (late(torch, "matmul"), ((2, 3, 4), (2, 4, 5))),
    "matmul broadcast": (late(torch, "matmul"), ((3, 4), (7, 4, 5))),
    "matmul with a vector": (late(torch, "matmul"), ((3, 4), (4,))),
    "matmul of vectors": (late(torch, "matmul"), ((4,), (4,))),
    "matmul of a vector with many": (late(torch, "matmul"), ((4,), (7, 4, 5))),
    "matmul of many with a vector": (late(torch, "matmul"), ((7, 3, 4), (4,))),
    "matmul broadcast both ways": (late(torch, "matmul"), ((2, 1, 3, 4), (5, 4, 6))),
    "matmul, method": (lambda a, b: a.matmul(b), ((3, 4), (4, 5))),
    "@": (lambda a, b: a @ b, ((2, 3, 4), (2, 4, 5))),
    "mm": (late(torch, "mm"), ((3, 4), (4, 5))),
    "mm, method": (lambda a, b: a.mm(b), ((3, 4), (4, 5))),
    "bmm": (late(torch, "bmm"), ((2, 3, 4), (2, 4, 5))),
    "bmm, method": (lambda a, b: a.bmm(b), ((2, 3, 4), (2, 4, 5))),
    "addmm": (late(torch, "addmm"), ((5,), (3, 4), (4, 5))),
    "addmm, method": (lambda c, a, b: c.addmm(a, b), ((3, 5), (3, 4), (4, 5))),
    "addmm without input": (lambda c, a, b: torch.addmm(c, a, b, beta=0), ((5,), (3, 4), (4, 5))),
    "baddbmm": (late(torch, "baddbmm"), ((2, 3, 5), (2, 3, 4), (2, 4, 5))),
    "einsum of two": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), ((2, 3, 4), (2, 4, 5))),
    "einsum of two, summed": (lambda a, b: torch.einsum("bij,bjk->i", a, b), ((2, 3, 4), (2, 4, 5))),
    "einsum of two, outer": (lambda a, b: torch.einsum("i,j->ij", a, b), ((3,), (4,))),
    "einsum of three": (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), ((3, 4), (4, 5), (5, 6))),
    "einsum of three with a batch": (
        lambda a, b, c: torch.einsum("bij,bjk,bk->bi", a, b, c), ((2, 30, 4), (2, 4, 50), (2, 50)),
    ),
    "einsum of one": (lambda a: torch.einsum("ij->ji", a), ((3, 4),)),
    "einsum of one, summed": (lambda a: torch.einsum("ij->i", a), ((3, 4),)),
    "einsum of four digits": (
        lambda a, b: torch.einsum("bkdl,kcd->bkcl", a, b), ((1, 2, 37, 41), (2, 29, 37)),
    ),
    "add": (late(torch, "add"), ((2, 3, 4), (2, 3, 4))),
    "add broadcast": (late(torch, "add"), ((2, 3, 4), (4,))),
    "add a number": (lambda a: torch.add(a, 1.0), ((2, 3, 4),)),
    "add, method": (lambda a, b: a.add(b), ((2, 3, 4), (3, 1))),
    "mul": (late(torch, "mul"), ((2, 3, 4), (1, 3, 1))),
    "mul, method": (lambda a: a.mul(2.0), ((2, 3, 4),)),
    "+ and *": (lambda a, b: a + b * a, ((2, 3, 4), (4,))),
    "F.linear": (late(F, "linear"), ((2, 3, 4), (5, 4), (5,))),
    "F.linear, no bias": (late(F, "linear"), ((2, 3, 4), (5, 4))),
    "F.conv2d": (late(F, "conv2d"), (IMAGE, (6, 4, 3, 3), (6,))),
    "F.conv_transpose2d": (late(F, "conv_transpose2d"), (IMAGE, (4, 6, 2, 2))),
    "F.relu": (lambda x: F.relu(x), ((2, 3, 4),)),
    "torch.relu": (late(torch, "relu"), ((2, 3, 4),)),
    "relu, method": (lambda x: x.relu(), ((2, 3, 4),)),
    "F.gelu": (lambda x: F.gelu(x), ((2, 3, 4),)),
    "F.silu": (lambda x: F.silu(x), ((2, 3, 4),)),
    "F.leaky_relu": (lambda x: F.leaky_relu(x), ((2, 3, 4),)),
    "F.softmax": (lambda x: F.softmax(x, -1), ((2, 3, 4),)),
    "torch.softmax": (lambda x: torch.softmax(x, -1), ((2, 3, 4),)),
    "softmax, method": (lambda x: x.softmax(-1), ((2, 3, 4),)),
    "F.layer_norm": (lambda x: F.layer_norm(x, (4,)), ((2, 3, 4),)),
    "F.batch_norm": (lambda x, m, v: F.batch_norm(x, m, v), ((2, 3, 4), (3,), (3,))),
    "F.group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), (IMAGE, (4,), (4,))),
    "F.avg_pool2d": (lambda x: F.avg_pool2d(x, 2), (IMAGE,)),
    "F.max_pool2d": (lambda x: F.max_pool2d(x, 2), (IMAGE,)),
    "F.adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 1), (IMAGE,)),
    "F.lp_pool2d": (lambda x: F.lp_pool2d(x, 2, 2), (IMAGE,)),
    "F.interpolate x2": (lambda x: F.interpolate(x, scale_factor=2), (IMAGE,)),
    "F.interpolate size": (lambda x: F.interpolate(x, (8, 8), mode="bilinear"), (IMAGE,)),
    "F.interpolate one size": (lambda x: F.interpolate(x, size=8), (IMAGE,)),
    "F.interpolate area": (lambda x: F.interpolate(x, (4, 5), mode="area"), (IMAGE,)),
    "F.local_response_norm": (lambda x: F.local_response_norm(x, 3), (WIDE,)),
    "F.lp_pool1d": (lambda x: F.lp_pool1d(x, 3, 2), (WIDE,)),
    "F.max_pool2d with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], (IMAGE,)),
    "einsum with dots": (lambda a, b: torch.einsum("...ij,...jk->...ik", a, b), ((2, 3, 4), (2, 4, 5))),
    "einsum, result not said": (lambda a, b: torch.einsum("ij,jk", a, b), ((3, 4), (4, 5))),
    "einsum of four": (
        lambda a, b, c, d: torch.einsum("ab,bc,cd,de->ae", a, b, c, d), ((30, 2), (2, 50), (50, 3), (3, 7)),
    ),
    "einsum, too large between": (
        lambda a, b, c: torch.einsum("a,b,abc->c", a, b, c), ((40,), (50,), (40, 50, 1)),
    ),
    "F.embedding": (lambda x, w: F.embedding(x, w), (ints(2, 5), (10, 8))),
    "F.dropout": (lambda x: F.dropout(x), ((2, 3, 4),)),
    "F.bilinear": (late(F, "bilinear"), ((3, 4), (3, 5), (6, 4, 5), (6,))),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), ((2, 3, 5, 4),) * 3),
    "attention, causal": (lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), ((2, 3, 5, 4),)),
    "attention, other widths": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v), ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)),
    ),
    "attention, shared keys": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        ((2, 6, 5, 4), (2, 2, 7, 4), (2, 2, 7, 4)),
    ),
    "tensordot": (lambda a, b: torch.tensordot(a, b, 1), ((3, 4), (4, 5))),
    "inner": (late(torch, "inner"), ((3, 4), (5, 4))),
    "mv": (late(torch, "mv"), ((3, 4), (4,))),
    "addbmm": (late(torch, "addbmm"), ((3, 5), (2, 3, 4), (2, 4, 5))),
}  # fmt: skip


def _functions() -> dict[str, Case]:
    return {f"function: {name}": (lambda f=f: Around(f), shapes) for name, (f, shapes) in FUNCTIONS.items()}


LAYERS: dict[str, Case] = {**_modules(), **_attention(), **_functions()}


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model of a case, in evaluation mode, and its inputs."""
    make, inputs = LAYERS[name]
    model = make()
    if not isinstance(model, Around):
        model = Around(model)
    torch.manual_seed(0)
    return model.eval(), tuple(x if isinstance(x, Tensor) else torch.randn(x) for x in inputs)
