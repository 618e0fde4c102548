"""MambaVision (Hatamizadeh and Kautz, arXiv 2407.08083) in plain torch, written from the paper, small by default."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flopscan.ops


class Convolutions(nn.Module):
    """Two 3x3 convolutions with batch norms and a shortcut."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(d, d, 3, padding=1), nn.BatchNorm2d(d)
        self.conv2, self.norm2 = nn.Conv2d(d, d, 3, padding=1), nn.BatchNorm2d(d)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


class Mixer(nn.Module):
    """A scan over half of the channels beside a convolution of the other half; no gate."""

    def __init__(self, d: int, n: int = 8, rank: int = 4) -> None:
        super().__init__()
        half = d // 2
        self.n, self.rank = n, rank
        self.in_proj, self.out_proj = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.x_proj, self.dt_proj = nn.Linear(half, rank + 2 * n, bias=False), nn.Linear(rank, half)
        self.conv_x = nn.Conv1d(half, half, 3, padding="same", groups=half, bias=False)
        self.conv_z = nn.Conv1d(half, half, 3, padding="same", groups=half, bias=False)
        self.A_log, self.D = nn.Parameter(torch.zeros(half, n)), nn.Parameter(torch.ones(half))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens b l d."""
        x, z = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
        x, z = F.silu(self.conv_x(x)), F.silu(self.conv_z(z))
        dt, B, C = self.x_proj(x.transpose(1, 2)).split([self.rank, self.n, self.n], dim=-1)
        dt, bias = F.linear(dt, self.dt_proj.weight).transpose(1, 2), self.dt_proj.bias
        y = flopscan.ops.selective_scan(
            x, dt, -torch.exp(self.A_log), B.transpose(1, 2), C.transpose(1, 2), D=self.D, delta_bias=bias,
            delta_softplus=True,
        )  # fmt: skip
        return self.out_proj(torch.cat([y, z], dim=1).transpose(1, 2))


class Attention(nn.Module):
    """Self-attention of the tokens of a window."""

    def __init__(self, d: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens b l d."""
        b, l, d = x.shape
        q, k, v = self.qkv(x).reshape(b, l, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, l, d))


class Block(nn.Module):
    """A mixer of tokens and a perceptron, each after a layer norm."""

    def __init__(self, d: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mixer = nn.LayerNorm(d), nn.LayerNorm(d), mixer
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    """A stage over windows: mixers first, attention in the second half."""

    def __init__(self, d: int, depth: int, window: int) -> None:
        super().__init__()
        self.window = window
        mixers = [Mixer(d) if i < depth - depth // 2 else Attention(d) for i in range(depth)]
        self.blocks = nn.Sequential(*(Block(d, mixer) for mixer in mixers))

    def forward(self, x: Tensor) -> Tensor:
        """An image of whole windows."""
        (b, d, h, w), s = x.shape, self.window
        tokens = x.view(b, d, h // s, s, w // s, s).permute(0, 2, 4, 3, 5, 1).reshape(-1, s * s, d)
        tokens = self.blocks(tokens).reshape(b, h // s, w // s, s, s, d)
        return tokens.permute(0, 5, 1, 3, 2, 4).reshape(b, d, h, w)


def mamba_vision(d: int = 16, depths: tuple[int, ...] = (1, 2, 2, 2), windows: tuple[int, int] = (2, 2)) -> nn.Module:
    """Two stages of convolutions and two of tokens; MambaVision-T is d=80, depths (1, 3, 8, 4), windows (14, 7)."""
    stem = [nn.Conv2d(3, d, 3, 2, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU()]
    stem += [nn.Conv2d(d, d, 3, 2, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU()]
    stages: list[nn.Module] = []
    for i, depth in enumerate(depths):
        width = d * 2**i
        stages += [Convolutions(width) for _ in range(depth)] if i < 2 else [Tokens(width, depth, windows[i - 2])]
        stages += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)] if i < 3 else []
    head = [nn.BatchNorm2d(8 * d), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * d, 10)]
    return nn.Sequential(*stem, *stages, *head)
