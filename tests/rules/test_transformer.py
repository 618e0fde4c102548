"""The fast path runs a whole layer as one operator: it costs what the layer costs in pieces."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopscan.analysis import price, price_call
from flopscan.capture import shape_only
from flopscan.capture.operators import Operator, call_of
from flopscan.core.cost import Cost


def _dispatched(model: nn.Module, *inputs: torch.Tensor, **settings: Any) -> tuple[Cost, set[str]]:
    """The cost of a real run without gradients, and the operators it dispatched."""
    found, names = Cost(), set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal found
            output = func(*args, **(kwargs or {}))
            priced = price_call(call_of(Operator(func), args, kwargs or {}, output, bare=False))
            assert priced.ideal is not None, (func, priced.note)
            found += priced.ideal
            names.add(func._schema.name)
            return output

    with torch.no_grad(), Watch():
        model(*inputs, **settings)
    return found, names


# In pieces the packed projection of 2 * 5 rows to 24 channels is a product of a transposed operand, to which torch adds
# the bias apart: 240 additions that a bias at the start of the accumulator does not take.
BIAS_APART = Cost(add=2 * 5 * 24)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layer(activation: str, norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, activation=activation, batch_first=True, norm_first=norm_first).eval()
    x = torch.rand(2, 5, 8)
    whole, names = _dispatched(layer, x)
    assert "aten::_transformer_encoder_layer_fwd" in names
    pieces = price(shape_only.trace(layer, (x,), {})).cost()
    assert (whole + BIAS_APART).arithmetic() == pieces.arithmetic()


def test_multi_head_attention() -> None:
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.rand(2, 5, 8)
    whole, names = _dispatched(layer, x, x, x, need_weights=False)
    assert "aten::_native_multi_head_attention" in names
    pieces = price(shape_only.trace(layer, (x, x, x), {"need_weights": False})).cost()
    assert (whole + BIAS_APART).arithmetic() == pieces.arithmetic()
    # the average over 2 heads of 2 * 5 * 5 weights: an addition and a division each
    averaged, _ = _dispatched(layer, x, x, x)
    assert averaged.add - whole.add == averaged.div - whole.div == 50
