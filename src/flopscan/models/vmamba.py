"""VMamba, the visual state-space model, in its nine published classification forms.

Parameter names, shapes and order are those of the official checkpoints, so their state dicts load strictly.
Axis letters: b batch, c channels, h height, w width; for the scan k its four directions, d inner channels, l = h w,
n state, r rank of the step size.

Source: Liu et al., VMamba: Visual State Space Model, https://arxiv.org/abs/2401.10166; configurations and numbers from
https://github.com/MzeroMiko/VMamba.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flopscan.models.vmamba_forms import CONFIGS
from flopscan.ops import cross_selective_scan, selective_scan
from flopscan.ops.cross_selective_scan.order import DIRECTIONS, cross_merge, cross_scan, each_in_order

INPUT_SHAPE = (1, 3, 224, 224)


def build(name: str, **overrides: Any) -> VMamba:
    """The published model ``name``, with any configuration key replaced; it takes images of `INPUT_SHAPE`.

    >>> model = build("vmamba_tiny", num_classes=10)
    >>> model.classifier.head.out_features
    10
    """
    if name not in CONFIGS:
        raise ValueError(f"no VMamba is called {name!r}; there are {', '.join(CONFIGS)}")
    return VMamba(**{**CONFIGS[name], **overrides})


class VMamba(nn.Module):
    """Logits (b num_classes) of images (b in_chans h w); by default the first published form, vmamba_tiny_v0.

    ``dims`` is the width of the first stage, doubled at every next, or the widths of all stages. ``norm_layer`` "ln"
    keeps channels last between blocks, "ln2d" first. ``drop_path_rate`` is that of the last block, in training.
    ``fused`` scans all four directions by one operator; False runs the parts as the authors' code does, for tools that
    count what they see.
    """

    def __init__(
        self,
        *,
        dims: int | Sequence[int] = 96,
        depths: Sequence[int] = (2, 2, 9, 2),
        in_chans: int = 3,
        num_classes: int = 1000,
        ssm_d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_dt_rank: int | str = "auto",
        ssm_conv: int = 3,
        ssm_conv_bias: bool = True,
        forward_type: str = "v0",
        mlp_ratio: float = 0.0,
        downsample_version: str = "v1",
        patchembed_version: str = "v1",
        norm_layer: str = "ln",
        drop_path_rate: float = 0.2,
        fused: bool = True,
    ) -> None:
        super().__init__()
        _check("forward_type", forward_type, "v0", "v05_noz")
        _check("norm_layer", norm_layer, "ln", "ln2d")
        channels_first = norm_layer == "ln2d"
        scan = {
            "state": ssm_d_state,
            "ratio": ssm_ratio,
            "rank": ssm_dt_rank,
            "conv": ssm_conv,
            "conv_bias": ssm_conv_bias,
            "forward_type": forward_type,
            "fused": fused,
        }
        widths = [dims * 2**i for i in range(len(depths))] if isinstance(dims, int) else list(dims)
        rates = [drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        self.patch_embed = _patch_embed(patchembed_version, in_chans, widths[0], channels_first)
        self.layers = nn.ModuleList()
        for depth, width, out in zip(depths, widths, [*widths[1:], None], strict=True):
            blocks = [VSSBlock(width, rates.pop(0), mlp_ratio, channels_first, scan) for _ in range(depth)]
            shrink = _downsample(downsample_version, width, out, channels_first) if out else nn.Identity()
            self.layers.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks), downsample=shrink)))
        self.classifier = _classifier(widths[-1], num_classes, channels_first)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x)


class VSSBlock(nn.Module):
    """A scan and, where ``mlp_ratio`` is not 0, an MLP; each normalized before and added to what came in."""

    def __init__(
        self, dim: int, drop_path: float, mlp_ratio: float, channels_first: bool, scan: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.norm = _norm(dim, channels_first)
        self.op = SS2D(dim, channels_first=channels_first, **scan)
        self.drop_path = DropPath(drop_path)
        self.has_mlp = mlp_ratio > 0
        if self.has_mlp:
            self.norm2 = _norm(dim, channels_first)
            self.mlp = Mlp(dim, int(dim * mlp_ratio), channels_first)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.op(self.norm(x)))
        if self.has_mlp:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class SS2D(nn.Module):
    """An image mixed by one selective scan along four directions; channels come and go where they are.

    ``forward_type`` "v0" gates the output with a second half of the input projection and projects by einsum;
    "v05_noz" has no gate and projects by grouped convolutions.
    """

    def __init__(
        self,
        dim: int,
        *,
        state: int,
        ratio: float,
        rank: int | str,
        conv: int,
        conv_bias: bool,
        forward_type: str,
        channels_first: bool,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.fused = fused
        inner = int(ratio * dim)
        self.state = state
        self.rank = math.ceil(dim / 16) if rank == "auto" else int(rank)
        self.gated = forward_type == "v0"
        self.channel_axis = 1 if channels_first else 3

        self._make_scan_parameters(inner)
        linear = Linear2d if channels_first else Linear
        if not self.gated:
            self.out_norm = _norm(inner, channels_first)
        self.in_proj = linear(dim, 2 * inner if self.gated else inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, conv, padding=(conv - 1) // 2, groups=inner, bias=conv_bias)
        if self.gated:  # the same module: only its place in the order of parameters differs
            self.out_norm = _norm(inner, channels_first)
        self.out_proj = linear(inner, dim, bias=False)

    def _make_scan_parameters(self, inner: int) -> None:
        """Register the parameters of the scan: A = -1 .. -n, D = 1, steps from 0.001 to 0.1 at a zero input."""
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, self.rank + 2 * self.state, inner))
        a_logs = torch.arange(1, self.state + 1, dtype=torch.float32).log()
        self.A_logs = nn.Parameter(a_logs.repeat(DIRECTIONS * inner, 1))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, self.rank))
        steps = torch.empty(DIRECTIONS, inner).uniform_(math.log(0.001), math.log(0.1)).exp()
        self.dt_projs_bias = nn.Parameter(steps + (-torch.expm1(-steps)).log())  # the inverse of softplus
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(self.rank**-0.5), self.rank**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_proj(x)
        if self.gated:
            x, z = x.chunk(2, dim=self.channel_axis)
        if self.channel_axis == 3:
            x = x.permute(0, 3, 1, 2).contiguous()
        y = self.scan(F.silu(self.conv2d(x)))
        if self.channel_axis == 3:
            y = y.permute(0, 2, 3, 1)
        y = self.out_norm(y)
        if self.gated:
            y = y * F.silu(z)
        return self.out_proj(y)

    def scan(self, x: Tensor) -> Tensor:
        """The image (b d h w) after one selective scan over the sequences of all four directions.

        Where ``fused``, on values by one operator that reads and adds up the directions by itself. Else, and on meta
        tensors and for torch.jit, as its authors' code runs it: counters see the sequences, the scan and their sum.
        """
        A, D, bias = -torch.exp(self.A_logs.float()), self.Ds.float(), self.dt_projs_bias.flatten().float()
        if not self.fused or x.is_meta or torch.jit.is_tracing():
            sequences = cross_scan(x)
            low, B, C = self.project(sequences)
            y = selective_scan(
                sequences.flatten(1, 2), self.step_sizes(low).flatten(1, 2), A, B.contiguous(), C.contiguous(), D,
                delta_bias=bias, delta_softplus=True,
            )  # fmt: skip
            return cross_merge(y.unflatten(1, (DIRECTIONS, -1)), *x.shape[2:])
        low, B, C = self.project_pixels(x)
        return cross_selective_scan(x, self.step_sizes(low), A, B, C, D, bias, delta_softplus=True)

    def project(self, sequences: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes of rank r (b k r l), B and C (b k n l) of sequences (b k d l)."""
        if self.gated:
            made = torch.einsum("bkdl,kcd->bkcl", sequences, self.x_proj_weight)
        else:
            made = _project_each(sequences, self.x_proj_weight)
        low, B, C = made.split([self.rank, self.state, self.state], dim=2)
        return low, B, C

    def project_pixels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of an image (b d h w): made pixel by pixel, and only then, r + 2n for d, put in four orders."""
        pixels = x.flatten(2)
        if self.gated:
            made = torch.einsum("bdl,kcd->bkcl", pixels, self.x_proj_weight)
        else:
            made = F.conv1d(pixels, self.x_proj_weight.flatten(0, 1)[..., None]).unflatten(1, (DIRECTIONS, -1))
        low, B, C = each_in_order(made, *x.shape[2:]).split([self.rank, self.state, self.state], dim=2)
        return low, B, C

    def step_sizes(self, low: Tensor) -> Tensor:
        """Step sizes (b k d l) of those of rank r (b k r l)."""
        if self.gated:
            return torch.einsum("bkrl,kdr->bkdl", low, self.dt_projs_weight)
        return _project_each(low, self.dt_projs_weight)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, pixel by pixel."""

    def __init__(self, dim: int, hidden: int, channels_first: bool) -> None:
        super().__init__()
        linear = Linear2d if channels_first else Linear
        self.fc1 = linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class PatchMerging(nn.Module):
    """Half the height and width (b h/2 w/2 out): the four pixels of a square side by side, normalized, reduced."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.reduction = Linear(4 * dim, out, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        squares = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(squares, dim=-1)))


class Linear(nn.Linear):
    """A linear layer over the last axis, with VMamba's initial values."""

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Linear2d(Linear):
    """A linear layer over axis 1 of (b c h w): a 1x1 convolution whose weight is that of a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over axis 1 of (b c h w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """The same values with their axes in another order."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class DropPath(nn.Module):
    """The input; in training, zero for a random share ``rate`` of the samples and scaled up for the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


def _project_each(sequences: Tensor, weight: Tensor) -> Tensor:
    """Sequences (b k i l), each direction times its own weight (k o i): (b k o l), as one grouped convolution."""
    out = F.conv1d(sequences.flatten(1, 2), weight.flatten(0, 1)[..., None], groups=weight.shape[0])
    return out.unflatten(1, weight.shape[:2])


def _patch_embed(version: str, in_chans: int, dim: int, channels_first: bool) -> nn.Sequential:
    """Images to features at a quarter of their height and width: v1 by one convolution, v2 by two overlapping ones."""
    _check("patchembed_version", version, "v1", "v2")
    if version == "v1":
        return nn.Sequential(
            nn.Conv2d(in_chans, dim, 4, stride=4), _to_last(channels_first), _norm(dim, channels_first)
        )
    half = dim // 2
    return nn.Sequential(
        nn.Conv2d(in_chans, half, 3, stride=2, padding=1),
        _to_last(channels_first),
        _norm(half, channels_first),
        _to_first(channels_first),
        nn.GELU(),
        nn.Conv2d(half, dim, 3, stride=2, padding=1),
        _to_last(channels_first),
        _norm(dim, channels_first),
    )


def _downsample(version: str, dim: int, out: int, channels_first: bool) -> nn.Module:
    """From ``dim`` channels to ``out`` at half the height and width: v1 merges patches, v3 convolves."""
    _check("downsample_version", version, "v1", "v3")
    if version == "v3":
        return nn.Sequential(
            _to_first(channels_first),
            nn.Conv2d(dim, out, 3, stride=2, padding=1),
            _to_last(channels_first),
            _norm(out, channels_first),
        )
    if channels_first:
        raise ValueError("downsample_version 'v1' needs channels last: it goes with norm_layer 'ln', not 'ln2d'")
    return PatchMerging(dim, out)


def _classifier(dim: int, num_classes: int, channels_first: bool) -> nn.Sequential:
    """Features to logits (b num_classes), by their mean over the image."""
    return nn.Sequential(
        OrderedDict(
            norm=_norm(dim, channels_first),
            permute=_to_first(channels_first),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(1),
            head=Linear(dim, num_classes),
        )
    )


def _norm(dim: int, channels_first: bool) -> nn.LayerNorm:
    """Layer normalization over the channels, wherever they are."""
    return LayerNorm2d(dim) if channels_first else nn.LayerNorm(dim)


def _to_first(channels_first: bool) -> nn.Module:
    """From the layout of the blocks to channels first."""
    return nn.Identity() if channels_first else Permute(0, 3, 1, 2)


def _to_last(channels_first: bool) -> nn.Module:
    """From channels first to the layout of the blocks."""
    return nn.Identity() if channels_first else Permute(0, 2, 3, 1)


def _check(key: str, value: str, *choices: str) -> None:
    """Raise ValueError for a form of VMamba that is not here."""
    if value not in choices:
        raise ValueError(f"{key} is {value!r}, and can be {' or '.join(map(repr, choices))}")
