"""torchscan's formulas of modules, worked out by hand; test_against_module_level_peers.py runs the tool."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from torch.nn import functional as F

import flopscan
from flopscan import conventions

Shapes = tuple[tuple[int, ...], ...]
LAYERS: dict[str, tuple[Any, Shapes, int]] = {
    "linear": (nn.Linear(64, 128), ((8, 64),), 8 * 128 * (2 * 64 - 1 + 1)),
    "linear, no bias": (nn.Linear(64, 128, bias=False), ((2, 4, 64),), 8 * 128 * 127),
    "convolution": (nn.Conv2d(8, 4, 3, groups=2), ((1, 8, 5, 5),), 4 * 9 * (2 * 36)),
    # taken for a plain one: 17 by 17 outputs, each a sum of 8*9; 8 an axis more
    "transposed convolution": (nn.ConvTranspose2d(8, 4, 3, 2), ((1, 8, 8, 8),), 4 * 17 * 17 * 2 * 72 + 16),
    "batch norm": (nn.BatchNorm2d(4).eval(), ((2, 4, 3, 3),), 4 * 72 + 2 * 4),
    "batch norm, not affine": (nn.BatchNorm2d(4, affine=False).eval(), ((2, 4, 3, 3),), 2 * 72 + 2 * 4),
    "layer norm": (nn.LayerNorm(6), ((2, 5, 6),), 60 * 8 + 2 * 10),
    # a window of "2" is two elements
    "largest of a window": (nn.MaxPool2d(2), ((1, 3, 8, 8),), 48),
    "mean of a window": (nn.AvgPool2d((2, 2)), ((1, 3, 8, 8),), 48 * (3 + 2)),
    # 5 to 3: the rest of 2, and 1
    "mean of uneven windows": (nn.AdaptiveAvgPool1d(3), ((1, 2, 5),), 6 * (3 - 1 + 1)),
    "largest of all": (nn.AdaptiveMaxPool2d(1), ((1, 2, 4, 4),), 2 * 15),
    "relu": (nn.ReLU(), ((3, 7),), 21),
    "sigmoid": (nn.Sigmoid(), ((3, 7),), 84),
    "dropout": (nn.Dropout(0.1).eval(), ((3, 7),), 21),
    "gelu is not known": (nn.GELU(), ((3, 7),), 0),
    "functions are not seen": (lambda x, w: F.linear(F.relu(x), w), ((3, 7), (5, 7)), 0),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layer(case: str) -> None:
    model, shapes, expected = LAYERS[case]
    assert flopscan.count(model, *shapes).under("torchscan") == expected


def test_attention() -> None:
    # two sequences of 5 rows of 8, two heads: three projections with a bias, a scale and its root, scores, a softmax,
    # the weighted sum, the last projection, and the mean of the weights that are handed out
    model, x = nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8)
    rows = 2 * 2 * 5
    inside = rows * (4 + 5 * 7 + 14 + 4 * 9 + 5)
    assert flopscan.count(model, x, x, x).under("torchscan") == 3 * 10 * 8 * 16 + 1 + inside + 10 * 8 * 16
    one = nn.MultiheadAttention(8, 2, add_zero_attn=True)
    assert flopscan.count(one, x, x, x).under("torchscan") == 0


@pytest.mark.parametrize(
    ("model", "shape", "wrong", "right"),
    [
        (nn.ConvTranspose2d(8, 4, 2, 2), (1, 8, 16, 16), 262_160, 2 * 256 * 8 * 16 + 4 * 1024),
        (nn.MaxPool2d(2), (1, 3, 8, 8), 48, 144),
        (nn.AvgPool3d(2), (1, 1, 4, 4, 4), 8 * 4, 8 * 10),
        (nn.Dropout(0.5).eval(), (10,), 10, 0),
    ],
)
def test_a_known_bug_and_without_it(model: Any, shape: tuple[int, ...], wrong: int, right: int) -> None:
    convention, ledger = conventions.get("torchscan"), flopscan.count(model, shape).ledger
    assert (convention.total(ledger), convention.without().total(ledger)) == (wrong, right)
