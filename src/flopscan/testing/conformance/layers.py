"""Layers of torch.nn, each as a user has it: what a counter that hooks modules should know without being told."""

from __future__ import annotations

from torch import Tensor, nn

from flopscan.testing.conformance.case import Case

GROUP = "layers"


class Twice(nn.Module):
    """One linear layer that is called twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Through it and through it again."""
        return self.layer(self.layer(x))


class OwnLinear(nn.Linear):
    """A subclass, as adapters and quantisers make them."""


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of an input with itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """What is attended to."""
        return self.attention(x, x, x, need_weights=False)[0]


class Output(nn.Module):
    """A recurrent layer without its last state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The output at every step."""
        return self.layer(x)[0]


def _case(name: str, make: object, shape: tuple[int, ...], macs: int, derivation: str, words: int = 0) -> Case:
    return Case(name, GROUP, make, (shape,), macs, derivation, words=words)  # type: ignore[arg-type]


CASES = (
    _case("linear", lambda: nn.Linear(64, 128), (8, 64), 8 * 64 * 128, "b k n = 8*64*128"),
    _case("linear without bias", lambda: nn.Linear(64, 128, bias=False), (8, 64), 8 * 64 * 128, "b k n = 8*64*128"),
    _case("linear on a sequence", lambda: nn.Linear(16, 12), (2, 5, 16), 2 * 5 * 16 * 12, "b l k n = 2*5*16*12"),
    _case("linear called twice", lambda: Twice(nn.Linear(16, 16)), (3, 16), 2 * 3 * 16 * 16, "2 b k n = 2*3*16*16"),
    _case("subclass of Linear", lambda: OwnLinear(64, 128), (8, 64), 8 * 64 * 128, "b k n = 8*64*128"),
    _case(
        "conv1d, stride 2", lambda: nn.Conv1d(8, 6, 3, stride=2, padding=1), (2, 8, 15), 2 * 8 * 6 * 8 * 3,
        "15 steps give 8 outputs; b l c_out c_in w = 2*8*6*8*3",
    ),
    _case(
        "conv2d", lambda: nn.Conv2d(3, 16, 3, padding=1), (1, 3, 32, 32), 32 * 32 * 16 * 3 * 9,
        "h w c_out c_in 3*3 = 32*32*16*3*9",
    ),
    _case(
        "conv2d, 4 groups", lambda: nn.Conv2d(8, 16, 3, groups=4), (2, 8, 12, 12), 2 * 100 * 16 * 2 * 9,
        "10x10 outputs, 8/4 inputs each: b h w c_out c_in/g 3*3 = 2*100*16*2*9",
    ),
    _case(
        "conv2d, depthwise", lambda: nn.Conv2d(32, 32, 3, padding=1, groups=32), (1, 32, 14, 14), 14 * 14 * 32 * 9,
        "h w c 3*3 = 14*14*32*9",
    ),
    _case(
        "conv2d, dilated", lambda: nn.Conv2d(8, 4, 3, dilation=2, padding=2), (2, 8, 12, 12), 2 * 144 * 4 * 8 * 9,
        "b h w c_out c_in 3*3 = 2*144*4*8*9",
    ),
    _case(
        "conv2d, padding='same'", lambda: nn.Conv2d(8, 4, 3, padding="same"), (2, 8, 12, 12), 2 * 144 * 4 * 8 * 9,
        "b h w c_out c_in 3*3 = 2*144*4*8*9",
    ),
    _case(
        "conv3d", lambda: nn.Conv3d(2, 4, 3, padding=1), (1, 2, 4, 6, 6), 4 * 6 * 6 * 4 * 2 * 27,
        "t h w c_out c_in 3*3*3 = 4*6*6*4*2*27",
    ),
    _case(
        "transposed conv2d", lambda: nn.ConvTranspose2d(8, 4, 2, 2), (1, 8, 16, 16), 256 * 8 * 4 * 4,
        "each input meets the whole filter: h w c_in c_out 2*2 = 256*8*4*4",
    ),
    _case(
        "transposed conv2d, 4 groups", lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, groups=4), (2, 8, 12, 12),
        2 * 144 * 8 * 2 * 9, "b h w c_in c_out/g 3*3 = 2*144*8*2*9",
    ),
    _case("embedding", lambda: nn.Embedding(100, 16), (2, 9), 0, "a look-up multiplies nothing", words=100),
    _case(
        "LSTM, two layers, both directions",
        lambda: Output(nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True)), (2, 9, 8),
        2 * 9 * 2 * 4 * 16 * ((8 + 16) + (32 + 16)),
        "b l, 2 directions, 4 gates of h(i + h): inputs of 8, then of 2*16: 2*9*2*4*16*((8+16)+(32+16))",
    ),
    _case(
        "GRU", lambda: Output(nn.GRU(8, 16, batch_first=True)), (2, 9, 8), 2 * 9 * 3 * 16 * (8 + 16),
        "b l, 3 gates of h(i + h) = 2*9*3*16*(8+16)",
    ),
    _case(
        "MultiheadAttention", lambda: SelfAttention(32, 4), (2, 9, 32), 2 * (4 * 9 * 32 * 32 + 2 * 9 * 9 * 32),
        "four projections, scores and their sum: b(4 l d d + 2 l l d) = 2*(4*9*32*32 + 2*9*9*32)",
    ),
    _case(
        "TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (2, 9, 32),
        2 * (4 * 9 * 32 * 32 + 2 * 9 * 9 * 32 + 2 * 9 * 32 * 64),
        "attention, and 2 l d f of the MLP: 2*(4*9*32*32 + 2*9*9*32 + 2*9*32*64)",
    ),
)  # fmt: skip
