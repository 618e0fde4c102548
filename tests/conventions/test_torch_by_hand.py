"""The `torch` conventions from torch's formulas by hand; `test_against_torch.py` runs the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flopscan
from flopscan import conventions

Q = (1, 4, 128, 64)
ATTENTION = 2 * 4 * 128 * 128 * (64 + 64)  # two products over all pairs, the mask not looked at
CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], int]] = {
    "linear: no bias": (nn.Linear(64, 128), ((8, 64),), 2 * 8 * 64 * 128),
    "convolution: padding is work": (nn.Conv2d(3, 16, 3, padding=1), ((1, 3, 32, 32),), 2 * 32 * 32 * 16 * 3 * 9),
    "depthwise": (nn.Conv1d(64, 64, 4, groups=64, padding=3), ((1, 64, 128),), 2 * 131 * 64 * 4),
    "transposed: by the input": (nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),), 2 * 16 * 16 * 8 * 4 * 4),
    "added product": (torch.baddbmm, ((3, 5, 7), (3, 5, 6), (3, 6, 7)), 2 * 3 * 5 * 6 * 7),
    "a product with a vector has no formula": (torch.mv, ((5, 6), (6,)), 0),
    "norms have no formula": (nn.LayerNorm(64), ((8, 64),), 0),
    "an lstm is one kernel": (nn.LSTM(8, 16), ((5, 2, 8),), 0),
    "projected states are not: every gate, and the projection": (
        nn.LSTM(8, 16, proj_size=4), ((5, 2, 8),), 2 * 10 * (64 * (8 + 4) + 16 * 4)
    ),
    "a gru is products on a CPU": (nn.GRU(8, 16), ((5, 2, 8),), 2 * 10 * 48 * (8 + 16)),
    "an lstm cell is products": (nn.LSTMCell(8, 16), ((2, 8),), 2 * 2 * 64 * (8 + 16)),
    "attention, a quarter of the heads": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (Q, (1, 1, 128, 64), (1, 1, 128, 64)), ATTENTION,
    ),
    "attention, causal": (lambda *x: F.scaled_dot_product_attention(*x, is_causal=True), (Q,) * 3, ATTENTION),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_layer(case: str) -> None:
    model, shapes, expected = CASES[case]
    report = flopscan.count(model, *shapes)
    assert report.under("torch") == expected
    assert report.under("torch-2.13") == (0 if "attention" in case else expected)


def _attention(shape: tuple[int, ...], **options: Any) -> flopscan.Report:
    operands = [torch.empty(shape, requires_grad=True) for _ in range(3)]
    return flopscan.count(lambda *x: F.scaled_dot_product_attention(*x, **options), *operands, backward=True)


def test_attentions_gradient_is_five_products_of_a_fused_kernel_and_four_without() -> None:
    fused, of_three, of_two = _attention(Q), _attention(Q[1:]), _attention(Q[2:])
    assert fused.under("torch") == of_three.under("torch") == ATTENTION + ATTENTION // 2 * 5
    assert of_two.under("torch") == of_two.under("torch-2.14") == of_two.under("torch-2.13") == ATTENTION // Q[1] * 3
    assert of_three.under("torch-2.13") == ATTENTION * 3, "of three axes the kernel takes none before 2.14"


def test_before_2_15_a_cpu_counts_attention_where_no_fused_kernel_runs() -> None:
    assert _attention(Q).under("torch-2.13") == _attention(Q).under("torch-2.14") == 0
    assert _attention(Q[1:]).under("torch-2.14") == 0
    for version in ("torch-2.13", "torch-2.14"):
        assert _attention(Q, dropout_p=0.1).under(version) == ATTENTION * 3


def _depthwise() -> flopscan.Report:
    model = nn.Conv1d(64, 64, 4, groups=64, padding=3)
    return flopscan.count(model, torch.empty(1, 64, 128, requires_grad=True), backward=True)


def test_the_gradient_of_a_grouped_weight_is_taken_once_for_each_group() -> None:
    products = 131 * 64 * 4
    report = _depthwise()
    assert report.under("torch") == 2 * products * (1 + 1 + 64)
    mended = conventions.get("torch").without("groups in the gradient of a convolution's weight")
    assert mended.total(report.ledger) == 2 * products * 3
    assert mended.bugs == ()


def test_2_13_without_its_bugs_is_2_15_without_them() -> None:
    ledger = _attention(Q).ledger
    assert conventions.get("torch-2.13").without("attention on a CPU").total(ledger) == ATTENTION + ATTENTION // 2 * 5
    assert conventions.get("torch-2.13").without().bugs == ()


def test_only_the_gradients_that_are_needed() -> None:
    model = nn.Conv2d(3, 16, 3)
    report = flopscan.count(model, (1, 3, 8, 8), backward=True)  # the image needs none
    assert report.under("torch") == 2 * 2 * 6 * 6 * 16 * 27
