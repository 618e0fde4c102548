"""The causal convolution of Mamba: its rules against their tallies and against torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from flopscan.testing import check_rule

OPERANDS = "Tensor x, Tensor weight, Tensor? bias, Tensor? initial_states, str? activation"


def forward(x: Tensor, weight: Tensor, bias: Any = None, initial: Any = None, activation: Any = None) -> Tensor:
    before = x.new_zeros(*x.shape[:2], weight.shape[1] - 1) if initial is None else initial
    y = F.conv1d(torch.cat([before, x], -1), weight[:, None], bias, groups=x.shape[1])
    return F.silu(y) if activation else y


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Any = None, initial: Any = None, activation: Any = None
) -> tuple[Tensor, ...]:
    if activation:
        grad = torch.ops.aten.silu_backward(grad, forward(x, weight, bias, initial))
    before = x.new_zeros(*x.shape[:2], weight.shape[1] - 1) if initial is None else initial
    whole, dweight, dbias = torch.ops.aten.convolution_backward(
        grad, torch.cat([before, x], -1), weight[:, None], [len(weight)], [1], [0], [1], False, [0], len(weight),
        [True] * 3,
    )  # fmt: skip
    dstates, dx = whole.split([before.shape[2], x.shape[2]], -1)
    empty = grad.new_empty(0)
    return (
        dx.contiguous(), dweight[:, 0].contiguous(), empty if bias is None else dbias,
        empty if initial is None else dstates.contiguous(),
    )  # fmt: skip


@pytest.fixture
def operators() -> Iterator[None]:
    library = torch.library.Library("flopscan", "FRAGMENT")
    library.define(f"causal_conv1d({OPERANDS}) -> Tensor")
    library.define(f"causal_conv1d_backward(Tensor grad, {OPERANDS}) -> (Tensor, Tensor, Tensor, Tensor)")
    library.impl("causal_conv1d", forward, "CPU")
    library.impl("causal_conv1d_backward", backward, "CPU")
    yield
    library._destroy()


@pytest.mark.parametrize("op", ["flopscan::causal_conv1d", "flopscan::causal_conv1d_backward"])
def test_the_formula_is_the_tally_of_the_definition(op: str, operators: None) -> None:
    for seed in range(25):
        check_rule(op, seed)


def test_a_wrong_filter_is_not_counted_and_says_why() -> None:
    x = TensorSpec((2, 6, 8))
    priced = price_call(Call("flopscan::causal_conv1d", {"x": x, "weight": TensorSpec((5, 4))}, (x,)))
    assert priced.ideal is None
    assert "axis d is 5 in 'weight' and 6 in 'x'" in priced.note
