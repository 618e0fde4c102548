"""What the peers' own code gives on sixteen layers, and our conventions to the unit.

`data/golden_vectors.json` holds layer -> tool -> number, from the tools themselves.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flopscan
from flopscan import conventions
from flopscan.report.report import Report
from golden.columns import LAYERS as LAYERS_OF
from golden.columns import LEFT_OUT

GOLDEN: dict[str, dict[str, int]] = json.loads((Path(__file__).parents[1] / "data" / "golden_vectors.json").read_text())


class Holder(nn.Module):
    """A layer as the only child: what a tool does with a root is not asked here."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *operands: Tensor) -> Any:
        """What the layer gives."""
        return self.layer(*operands)


def attention(*operands: Tensor) -> Tensor:
    """With a causal mask."""
    return F.scaled_dot_product_attention(*operands, is_causal=True)


LAYERS: dict[str, tuple[Callable[[], Any], tuple[tuple[int, ...], ...]]] = {
    "linear": (lambda: nn.Linear(64, 128), ((8, 64),)),
    "conv2d": (lambda: nn.Conv2d(3, 16, 3, padding=1), ((1, 3, 32, 32),)),
    "dwconv1d": (lambda: nn.Conv1d(64, 64, 4, groups=64, padding=3), ((1, 64, 128),)),
    "convT2d": (lambda: nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),)),
    "bn2d_eval": (lambda: nn.BatchNorm2d(16), ((1, 16, 32, 32),)),
    "layernorm": (lambda: nn.LayerNorm(64), ((8, 64),)),
    "relu": (nn.ReLU, ((1, 16, 32, 32),)),
    "gelu": (nn.GELU, ((1, 16, 32, 32),)),
    "maxpool": (lambda: nn.MaxPool2d((2, 2)), ((1, 16, 32, 32),)),
    "avgpool": (lambda: nn.AvgPool2d((2, 2)), ((1, 16, 32, 32),)),
    "adaptive_avgpool": (lambda: nn.AdaptiveAvgPool2d(1), ((1, 16, 32, 32),)),
    "softmax": (lambda: nn.Softmax(-1), ((8, 64),)),
    "embedding": (lambda: nn.Embedding(1000, 64), ((2, 128),)),
    "add": (lambda: lambda a, b: a + b, ((8, 128), (8, 128))),
    "sdpa_causal": (lambda: attention, ((1, 4, 128, 64),) * 3),
}
WRITTEN_OTHERWISE: dict[tuple[str, str], Callable[[], Any]] = {
    ("torch_flops 0.4.1", "softmax"): lambda: lambda x: x.softmax(-1),  # the one way to write it that it counts
}


@functools.cache
def counted(layer: str, otherwise: Callable[[], Any] | None) -> flopscan.Report:
    """The layer forward, and backward where the file asks for it."""
    make, shapes = LAYERS[layer]
    made = (otherwise or make)()
    model = Holder(made).eval() if isinstance(made, nn.Module) else made
    kind = torch.int64 if layer == "embedding" else torch.float32
    backward = f"{layer}_bwd" in GOLDEN
    operands = [torch.zeros(shape, dtype=kind, requires_grad=backward) for shape in shapes]
    return flopscan.count(model, *operands, backward=backward)


CASES = [(layer, tool) for layer, tools in GOLDEN.items() for tool in tools]


@pytest.mark.parametrize(("layer", "tool"), CASES)
def test_the_number_is_the_tools(layer: str, tool: str) -> None:
    name = LAYERS_OF[tool]
    convention = conventions.get(name)
    if name in LEFT_OUT:
        convention = convention.without(*LEFT_OUT[name])
    report = counted(layer.removesuffix("_bwd"), WRITTEN_OTHERWISE.get((tool, layer)))
    phase = "backward" if layer.endswith("_bwd") else "forward"
    assert Report(report.ledger, convention).by_phase()[phase].value == GOLDEN[layer][tool]


def test_every_layer_of_the_file_is_here() -> None:
    assert {layer.removesuffix("_bwd") for layer in GOLDEN} == set(LAYERS)
