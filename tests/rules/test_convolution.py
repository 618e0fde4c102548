"""Convolutions as modules, forward and backward: groups, transposed ones, every name a kernel has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flopscan import rules
from flopscan.analysis import price
from flopscan.capture import shape_only
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec


def _cost(module: nn.Module, *shape: int, backward: bool = False, grad: bool = False) -> Cost:
    x = torch.empty(shape, requires_grad=grad)
    ledger = price(shape_only.trace(module, (x,), {}, backward=backward))
    assert not [u for u in ledger.uncounted() if "conv" in u.op]
    return ledger.cost()


@pytest.mark.parametrize(
    ("module", "shape", "fma"),
    [
        (nn.Conv2d(3, 16, 3, padding=1), (1, 3, 32, 32), 16 * 32 * 32 * 3 * 9),
        # depthwise: 64 channels, 128 + 2 * 3 - 3 = 131 outputs, 4 taps of 1 channel
        (nn.Conv1d(64, 64, 4, groups=64, padding=3), (1, 64, 128), 64 * 131 * 4),
        (nn.Conv2d(8, 12, 3, groups=4, stride=2), (2, 8, 9, 9), 2 * 12 * 4 * 4 * 2 * 9),
        # transposed: every one of 16 x 16 inputs is spread over 2 x 2 places, not every output a product of 2 x 2
        (nn.ConvTranspose2d(8, 4, 2, stride=2), (1, 8, 16, 16), 8 * 16 * 16 * 4 * 4),
        (nn.ConvTranspose1d(8, 6, 5, groups=2, stride=3), (1, 8, 7), 8 * 7 * 3 * 5),
        (nn.Conv3d(2, 3, (1, 2, 3)), (1, 2, 4, 4, 4), 3 * 4 * 3 * 2 * 2 * 6),
        (nn.Conv2d(3, 5, 3, padding="same"), (3, 8, 8), 5 * 8 * 8 * 3 * 9),
    ],
    ids=str,
)
def test_forward_and_backward(module: nn.Module, shape: tuple[int, ...], fma: int) -> None:
    assert _cost(module, *shape).arithmetic() == {"fma": fma}
    # the input's gradient and the weight's each take the products of the forward
    assert _cost(module, *shape, backward=True, grad=True).fma == 3 * fma
    # a first layer has no gradient of its input
    assert _cost(module, *shape, backward=True).fma == 2 * fma


def test_the_bias_is_a_sum_over_batch_and_places() -> None:
    # 5 channels of 2 * 6 * 6 gradients: 71 additions each.
    module = nn.Conv2d(3, 5, 3)
    with_bias = _cost(module, 2, 3, 8, 8, backward=True).add
    without = _cost(nn.Conv2d(3, 5, 3, bias=False), 2, 3, 8, 8, backward=True).add
    assert with_bias - without == 5 * 71


def _kernels() -> list[str]:
    """Every name of a convolution that is not proven under its own name."""
    found = {op for op, rule in rules.load().items() if rule.cost.__module__ == "flopscan.rules.convolution"}
    return sorted(op for op in found if "conv" in op and rules.load()[op].reference is None)


@pytest.mark.parametrize("op", _kernels())
def test_every_kernel_counts_the_same(op: str) -> None:
    # 2 x 4 x 6 x 6 with 8 filters of 2 x 3 x 3 in 2 groups, 4 x 4 places; transposed the roles of the sides swap.
    small, large = TensorSpec((2, 8, 4, 4)), TensorSpec((2, 4, 6, 6))
    settings: dict[str, Any] = {"weight": TensorSpec((8, 2, 3, 3)), "transposed": False, "groups": 2, "padding": (0, 0)}
    turned = "transpose" in op
    source, result = (small, large) if turned else (large, small)
    backward = "backward" in op
    operands = {"input": source, "self": source, **settings, **({"grad_output": result} if backward else {})}
    priced = rules.load()[op].price(Call(op, operands, (source if backward else result,)))
    assert priced.ideal is not None, priced.note
    products = 2 * 8 * 16 * 2 * 9
    assert priced.ideal.fma == (2 * products if backward else products)
