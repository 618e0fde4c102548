"""Whole models at full size, each total worked out from the architecture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from flopscan.testing.conformance.case import Case
from flopscan.testing.nets import ResNet50, ViT

GROUP = "models"
IMAGE = (1, 3, 224, 224)


def _resnet50() -> int:
    """Stem, four stages of bottlenecks, head: h w c_out c_in k k of every convolution."""
    total, channels, side = 112 * 112 * 64 * 3 * 49, 64, 56
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(depth):
            before, side = side, side // stride if block == 0 else side
            total += before**2 * channels * width + side**2 * (9 * width * width + width * 4 * width)
            if block == 0:
                total += side**2 * channels * 4 * width
            channels = 4 * width
    return total + 2048 * 1000


def _vit(width: int, depth: int, tokens: int) -> int:
    """Patches, blocks of 12 d d a token and 2 d a pair of tokens, head on one token."""
    patches = (tokens - 1) * 3 * 16 * 16 * width
    return patches + depth * (12 * width * width * tokens + 2 * width * tokens**2) + width * 1000


class Decoder(nn.Module):
    """A language model: causal attention, gated MLP, its embedding as head."""

    def __init__(self, words: int = 1000, width: int = 64, heads: int = 4, hidden: int = 160, depth: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.RMSNorm(width), "qkv": nn.Linear(width, 3 * width, bias=False),
                    "proj": nn.Linear(width, width, bias=False), "gate": nn.Linear(width, hidden, bias=False),
                    "up": nn.Linear(width, hidden, bias=False), "down": nn.Linear(hidden, width, bias=False),
                }
            )
            for _ in range(depth)
        )  # fmt: skip

    def forward(self, words: Tensor) -> Tensor:
        """Scores of the next word at every position."""
        x = self.embedding(words)
        b, l, d = x.shape
        for block in self.blocks:
            q, k, v = block["qkv"](block["norm"](x)).view(b, l, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # type: ignore[operator, index]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["proj"](y.transpose(1, 2).reshape(b, l, d))  # type: ignore[operator, index]
            x = x + block["down"](F.silu(block["gate"](x)) * block["up"](x))  # type: ignore[operator, index]
        return F.linear(x, self.embedding.weight)


def _decoder(pairs: int, tokens: int = 32, width: int = 64, hidden: int = 160) -> int:
    block = tokens * (4 * width * width + 3 * width * hidden) + 2 * pairs * width
    return 2 * block + tokens * width * 1000


CASES = (
    Case("ResNet-50", GROUP, ResNet50, (IMAGE,), _resnet50(), "stem, 16 bottlenecks, head; `_resnet50` adds them up"),
    Case("ViT-B/16", GROUP, ViT, (IMAGE,), _vit(768, 12, 197), "196*768*768 + 12*(12 d d 197 + 2 d 197*197) + d*1000"),
    Case(
        "a decoder with a tied head", GROUP, Decoder, ((1, 32),), _decoder(32 * 33 // 2),
        "2*(l(4 d d + 3 d f) + 2 pairs d) + l d words, 528 pairs; all 1,024 for a kernel that computes them",
        (_decoder(32 * 32),), words=1000,
    ),
)  # fmt: skip
