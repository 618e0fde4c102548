"""The `onnx-tool` convention beside the tool, on the graph that torch's exporter makes of each layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import flopscan
import torchvision_operators
from conventions import layer_cases, small_models
from conventions.layer_cases import Function
from flopscan import conventions
from flopscan.peers import tools

pytestmark = pytest.mark.peers
pytest.importorskip("onnx_tool")

NOT_EXPORTED = {  # torch.onnx at opset 17 has no such operator, or onnx-tool does not take the graph
    "linear, one axis", "bilinear", "rms norm", "adaptive average pool to 5", "matmul with a vector", "dot product",
    "einsum of three", "rnn", "vmamba_t", "mambavision_t",
    *(name for name in small_models.TOKENS if name != "bert"),
}  # fmt: skip
DECLARED = {  # how much more the tool says: arithmetic on sizes, a node each, that the exporter did not fold
    "multi-head attention": 2,
    "encoder layer": 2,
    "multi-head attention with weights": 2 - 2 * 4 * 9 * 9,  # and the unused mean of the weights is dropped
    "fold": 60,  # the places of the windows
    "mse loss": 6 * 8 * 64,  # no kernel is known by that name: its difference, square and mean, and two broadcasts
    "vit_b": 6,
    "swin_t": 15,
    "swin": 24 - 4 * (3 * 24 + 4),  # and the scale of attention is folded into a constant in each of four layers
    # the unused pooler is dropped, the scale of attention is folded into a constant in each layer
    "bert": 8 - (32 * 33 + 32 * 76) - 2 * (3 * 24 + 4),
}
MORE: dict[str, tuple[Any, tuple[int, ...]]] = {
    "convolutions with batch norms": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False),
                              nn.BatchNorm2d(4)),
        (1, 3, 8, 8),
    ),
    "a transposed convolution with a batch norm": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)), (1, 3, 8, 8)
    ),
    "a linear with a batch norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), (3, 4)),
    "gelu by tanh": (lambda: nn.GELU("tanh"), (8, 64)),
    "not equal": (lambda: Function(lambda x: x != 1.0), (8, 64)),
    "relu6": (nn.ReLU6, (8, 64)),
    "elu": (nn.ELU, (8, 64)),
    "softplus": (nn.Softplus, (8, 64)),
    "max pool 3d": (lambda: nn.MaxPool3d(2), (1, 2, 4, 4, 4)),
}  # fmt: skip


def theirs(model: nn.Module, operands: tuple[Any, ...]) -> int:
    """What onnx-tool says of the exported graph."""
    (tool,) = tools.find("onnx-tool")
    return tools.run(tool, model, operands)[0]


def compared(name: str, model: nn.Module, operands: tuple[Any, ...]) -> None:
    """The tool's number but for what is declared."""
    expected = theirs(model, operands) - DECLARED.get(name, 0)
    assert flopscan.count(model, *operands).under("onnx-tool") == expected


@pytest.mark.parametrize("case", [case for case in layer_cases.CASES if case not in NOT_EXPORTED])
def test_layers(case: str) -> None:
    compared(case, *layer_cases.made(case))


@pytest.mark.parametrize("case", MORE)
def test_more_layers(case: str) -> None:
    make, shape = MORE[case]
    compared(case, make().eval(), (torch.rand(shape),))


@pytest.mark.parametrize("name", [name for name in small_models.MODELS if name not in NOT_EXPORTED])
def test_models(name: str) -> None:
    torchvision_operators.defined()
    compared(name, *small_models.made(name))


def test_a_mended_transposed_convolution() -> None:
    name = "transposed convolutions by their output"
    ledger = flopscan.count(nn.ConvTranspose2d(8, 4, 2, 2), (1, 8, 16, 16)).ledger
    assert conventions.get("onnx-tool").total(ledger) == 4 * 32 * 32 * (4 * 4 + 1)
    assert conventions.get("onnx-tool").without(name).total(ledger) == 16 * 16 * 8 * 4 * 4 + 4 * 32 * 32
