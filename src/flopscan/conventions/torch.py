"""torch's FlopCounterMode, 2.15: 2 per multiply-add of products, convolutions and attention; all else is zero.

Facts of each formula from torch/utils/flop_counter.py (BSD-3). Attention is counted by its fused kernel, five products
backward, where its operands have three or four axes, and as plain products otherwise; masks are not looked at. An LSTM
runs as one kernel of oneDNN or cuDNN that has no formula. A kernel of a package has none; where a model of transformers
writes one out in plain torch, its products count (`dispatcher`). Of a conditional, only the larger branch is in a
ledger; torch adds up both.
"""

from __future__ import annotations

import math

from flopscan.conventions import _products, dispatcher
from flopscan.conventions._written_out import where_written_out
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_scaled_mm")
CONVOLUTIONS = ("aten::convolution", "aten::_convolution", "aten::convolution_overrideable")


def _to_input(call: Call) -> int:
    """A convolution of the other kind: as much as forward."""
    if not call["output_mask"][0]:
        return 0
    spatial = (call["input"] if call["transposed"] else call["grad_output"]).shape[2:]
    return int(call["input"].shape[0] * math.prod(spatial) * call["weight"].numel)


def _convolution_backward(call: Call) -> int:
    """The gradient of the weight as a convolution over all channels: that of each group by itself is not seen."""
    if not call["output_mask"][1]:
        return _to_input(call)
    moving = call["grad_output"] if call["transposed"] else call["input"]
    fixed = call["input"] if call["transposed"] else call["grad_output"]
    return _to_input(call) + int(moving.shape[1] * math.prod(call["weight"].shape[2:]) * fixed.numel)


def _convolution_backward_right(call: Call) -> int:
    """As much as forward for the input, and as much for the weight, whatever the groups."""
    fixed = call["input"] if call["transposed"] else call["grad_output"]
    to_weight = fixed.shape[0] * math.prod(fixed.shape[2:]) * call["weight"].numel
    return _to_input(call) + int(to_weight * bool(call["output_mask"][1]))


def attention_backward(call: Call) -> int:
    """The fused kernel's five products, the scores among them again; plain products where it takes no such axes."""
    query, value = call["query"].shape, call["value"].shape
    if len(query) in (3, 4):
        return int((call["grad"].numel // value[-1]) * call["key"].shape[-2] * (3 * query[-1] + 2 * value[-1]))
    return plain_backward(call)


def plain_backward(call: Call) -> int:
    """Attention as plain products, those alone that a gradient needs."""
    d, width = call["query"].shape[-1], call["value"].shape[-1]
    q, k, v = call["needs"][:3]
    return int((call["grad"].numel // width) * call["key"].shape[-2] * (d * (q + k) + width * (v + (q or k))))


def lstm(call: Call) -> int:
    """Nothing, but for what no single kernel computes on a CPU: projected states and packed sequences."""
    data, states, cells = call.outputs
    r, h, stacked = states.shape[-1], cells.shape[-1], states.shape[0]
    if r == h and isinstance(call["hx"], (tuple, list)):
        return 0
    directions = data.shape[-1] // r
    rows = data.numel // data.shape[-1]
    inputs = directions * call["input"].shape[-1] + (stacked - directions) * directions * r
    return int(rows * (4 * h * (inputs + stacked * r) + (stacked * h * r if r != h else 0)))


MACS: dict[str, Handle] = {
    **dict.fromkeys(PRODUCTS, _products.matrices),
    **dict.fromkeys(CONVOLUTIONS, _products.convolution),
    "aten::convolution_backward": _convolution_backward,
    _products.ATTENTION: _products.attention,
    _products.ATTENTION_BACKWARD: attention_backward,
    "torch::lstm": lstm,
}
KERNELS = {
    name: where_written_out(handle)
    for name, handle in dispatcher.CONVENTION.handles.items()
    if name != _products.ATTENTION
}
GROUPS = Bug(
    key="groups",
    name="groups in the gradient of a convolution's weight",
    source="https://github.com/pytorch/pytorch/pull/183405",
    right=_products.scaled(2, {"aten::convolution_backward": _convolution_backward_right}),
)
CONVENTION = Convention(
    name="torch",
    version="2.15.0",
    unit="FLOP",
    summary="2 per multiply-add of products, convolutions and attention (full squares), as dispatched; all else zero",
    source="torch.utils.flop_counter.FlopCounterMode 2.15.0, torch/utils/flop_counter.py",
    handles={**KERNELS, **_products.scaled(2, MACS)},
    bugs=(GROUPS,),
)
