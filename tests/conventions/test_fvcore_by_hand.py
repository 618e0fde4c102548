"""fvcore's handles, layer by layer, from its source; `test_against_fvcore.py` runs the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flopscan
from flopscan import conventions

CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], int]] = {
    "linear: no bias": (nn.Linear(64, 128), ((8, 64),), 8 * 64 * 128),
    "linear on three axes": (nn.Linear(64, 128), ((2, 8, 64),), 2 * 8 * 64 * 128),
    "convolution": (nn.Conv2d(3, 16, 3, padding=1), ((1, 3, 32, 32),), 32 * 32 * 16 * 3 * 9),
    "depthwise": (nn.Conv1d(64, 64, 4, groups=64, padding=3), ((1, 64, 128),), 131 * 64 * 4),
    "transposed: by the input": (nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),), 16 * 16 * 8 * 4 * 4),
    "batch norm, eval: 2": (nn.BatchNorm2d(16).eval(), ((1, 16, 32, 32),), 2 * 16 * 32 * 32),
    "batch norm, eval, not affine: 1": (nn.BatchNorm2d(16, affine=False).eval(), ((1, 16, 32, 32),), 16 * 32 * 32),
    "batch norm, train: 5": (nn.BatchNorm2d(16), ((1, 16, 32, 32),), 5 * 16 * 32 * 32),
    "layer norm: 5": (nn.LayerNorm(64), ((8, 64),), 5 * 8 * 64),
    "layer norm, not affine: 4": (nn.LayerNorm(64, elementwise_affine=False), ((8, 64),), 4 * 8 * 64),
    "group norm: 5": (nn.GroupNorm(2, 8), ((1, 8, 4, 4),), 5 * 8 * 16),
    "adaptive average pooling: 1 an input": (nn.AdaptiveAvgPool2d(1), ((1, 16, 32, 32),), 16 * 32 * 32),
    "a mean is not a pooling": (lambda x: x.mean((2, 3)), ((1, 16, 32, 32),), 0),
    "nearest: 1 an output": (nn.Upsample(scale_factor=2), ((1, 2, 8, 8),), 2 * 16 * 16),
    "bilinear: 4 an output": (nn.Upsample(scale_factor=2, mode="bilinear"), ((1, 2, 8, 8),), 4 * 2 * 16 * 16),
    "matmul loses the batch of the right operand": (torch.matmul, ((20, 10), (7, 10, 100)), 20 * 10 * 100),
    "einsum": (lambda a, b: torch.einsum("bkdl,kcd->bkcl", a, b), ((1, 2, 3, 4), (2, 5, 3)), 2 * 3 * 4 * 5),
    "einsum has four digits": (
        lambda a, b: torch.einsum("bkdl,kcd->bkcl", a, b),
        ((1, 4, 192, 3136), (4, 38, 192)),
        91_500_000,  # 4 * 192 * 3136 * 38 = 91,521,024; numpy prints 1.830e+08 for twice that
    ),
    "attention is not seen": (F.scaled_dot_product_attention, ((1, 4, 16, 8),) * 3, 0),
    "nothing for activations": (nn.GELU(), ((8, 64),), 0),
    "nothing for a distance": (torch.cdist, ((1, 5, 3), (1, 7, 3)), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case: str) -> None:
    model, shapes, expected = CASES[case]
    assert flopscan.count(model, *shapes).under("fvcore") == expected


@pytest.mark.parametrize(
    ("bug", "function", "shapes", "wrong", "right"),
    [
        ("attention as one function", F.scaled_dot_product_attention, ((1, 4, 16, 8),) * 3, 0, 4 * 16 * 16 * 2 * 8),
        ("what matmul broadcasts is lost", torch.matmul, ((20, 10), (7, 10, 100)), 20_000, 140_000),
        ("what matmul broadcasts is lost", lambda a, b: b.__rmatmul__(a), ((20, 10), (7, 10, 100)), 20_000, 140_000),
        (
            "einsum with four digits, and half where nothing is summed",
            lambda a, b: torch.einsum("i,j->ij", a, b), ((5,), (6,)), 15, 30,
        ),
    ],
)  # fmt: skip
def test_a_known_bug_and_without_it(bug: str, function: Any, shapes: Any, wrong: int, right: int) -> None:
    convention, ledger = conventions.get("fvcore"), flopscan.count(function, *shapes).ledger
    assert convention.total(ledger) == wrong
    assert convention.without(bug).total(ledger) == right


def test_vmamba_counts_einsum_exactly() -> None:
    report = flopscan.count(
        lambda a, b: torch.einsum("bkdl,kcd->bkcl", a, b), (1, 4, 192, 3136), (4, 38, 192), convention="vmamba"
    )
    assert report.value == 91_521_024
    assert report.unit == "mixed"


def test_backward_is_not_seen() -> None:
    model = nn.Linear(4, 4)
    assert flopscan.count(model, (2, 4), backward=True).under("fvcore") == 32
