"""The `torch` conventions beside FlopCounterMode itself, on CPU tensors, layer by layer and on whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import flopscan
from conventions.layer_cases import CASES, made
from flopscan.models import vmamba
from flopscan.testing.nets import ResNet50, ViT

aten = torch.ops.aten
CPU = aten._scaled_dot_product_flash_attention_for_cpu
CPU_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward
IS_LATER = CPU in flop_registry
DECLARED = {  # what the torch conventions take for a GPU's or a CPU's kernel, and this CPU computes otherwise
    "lstm": "oneDNN's gradient of an LSTM is one operator without a formula; a trace has the products that it is",
    "lstm, two layers and directions": "the same",
    "attention, wider values": "a GPU's fused kernel takes them, five products backward; a CPU's does not: four",
}


def counter(convention: str) -> FlopCounterMode:
    """FlopCounterMode of this torch; for the later convention with what 2.15 added to its registry."""
    mode = FlopCounterMode(display=False)
    if convention == "torch" and not IS_LATER:
        mode.flop_registry[CPU] = flop_registry[aten._scaled_dot_product_flash_attention]
        mode.flop_registry[CPU_BACKWARD] = flop_registry[aten._scaled_dot_product_flash_attention_backward]
    return mode


VERSION = tuple(map(int, torch.__version__.split(".")[:2]))
CONVENTIONS = ["torch"] if IS_LATER else ["torch", "torch-2.14" if VERSION >= (2, 14) else "torch-2.13"]
if VERSION < (2, 14):
    DECLARED["attention, three axes"] = "fused from 2.14 on, five products backward; plain products before"


def forward(model: Callable[..., Any], operands: tuple[Any, ...], convention: str) -> int:
    """What FlopCounterMode counts of a run."""
    with counter(convention) as mode:
        model(*operands)
    return mode.get_total_flops()


def step(model: Callable[..., Any], operands: tuple[Tensor, ...], convention: str) -> int:
    """What it counts of a run and its gradient."""
    with counter(convention) as mode:
        output = model(*operands)
        first = output[0] if isinstance(output, tuple) else output
        first.backward(torch.ones_like(first))
    return mode.get_total_flops()


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("case", CASES)
def test_layers(case: str, convention: str) -> None:
    model, operands = made(case)
    assert flopscan.count(model, *operands).under(convention) == forward(model, operands, convention)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("case", [case for case in CASES if case not in DECLARED])
def test_layers_with_their_gradients(case: str, convention: str) -> None:
    model, operands = made(case)
    operands = tuple(operand.requires_grad_() for operand in operands)
    theirs = step(model, operands, convention)
    assert flopscan.count(model, *operands, backward=True).under(convention) == theirs


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_grouped_convolutions_gradients(transposed: bool, groups: int, convention: str) -> None:
    layer = nn.ConvTranspose2d if transposed else nn.Conv2d
    model, x = layer(8, 12, 3, stride=2, groups=groups), torch.rand(2, 8, 9, 9, requires_grad=True)
    assert flopscan.count(model, x, backward=True).under(convention) == step(model, (x,), convention)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    ("make", "size"),
    [(ResNet50, 64), (lambda: ViT(depth=2), 224), (lambda: vmamba.build("vmamba_tiny_v0"), 32)],
    ids=["ResNet-50", "ViT", "VMamba, 16 states"],
)
def test_networks(make: Callable[[], nn.Module], size: int, convention: str) -> None:
    model, x = make().eval(), torch.rand(1, 3, size, size)
    assert flopscan.count(model, x).under(convention) == forward(model, (x,), convention)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_training_step(convention: str) -> None:
    model, x = ViT(depth=1), torch.rand(1, 3, 224, 224)
    assert flopscan.count(model, x, backward=True).under(convention) == step(model, (x,), convention)
