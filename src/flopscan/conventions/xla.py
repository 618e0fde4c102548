"""XLA's cost analysis of the same arithmetic: 2 per multiply-add, 1 per element of a step, transcendentals apart.

Facts from xla/service/hlo_cost_analysis.cc (Apache-2.0). A convolution counts the taps that meet the image, and none in
the padding or between the elements of a transposed one's input; a window that is reduced counts its padding. A bias is
a step of its own, and so are signs and conversions. exp, log, sqrt, tanh, erf and the like are another number there
(`transcendentals`) and zero here. The elements of a function are those of its definition in our rules; how a front end
lowers it (JAX's gelu as a polynomial, a softmax whose maximum starts at minus infinity) is that front end's. Attention
is written out: both products full, a scale, a mask, the softmax.
"""

from __future__ import annotations

import math

from flopscan.conventions import _products
from flopscan.core.convention import Convention, Handle
from flopscan.core.trace import Call


def _meeting(image: int, positions: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    """How many pairs of a position and a tap of a window meet the image, along one axis."""
    found = 0
    for tap in range(taps):
        shift = padding - tap * dilation
        first, last = -(-shift // stride), (image - 1 + shift) // stride
        found += max(0, min(positions - 1, last) - max(0, first) + 1)
    return found


def taps(call: Call, out: tuple[int, ...]) -> int:
    """The multiply-adds of a convolution on real elements: a transposed one scatters where a plain one gathers."""
    image, weight = call["input"].shape, call["weight"].shape
    meeting = 1
    for axis in range(len(weight) - 2):
        inner, outer = image[axis + 2], out[axis + 2]
        if call["transposed"]:
            inner, outer = outer, inner
        stride, padding, dilation = (
            values[axis % len(values)] for values in (call["stride"], call["padding"], call["dilation"])
        )
        meeting *= _meeting(inner, outer, weight[axis + 2], stride, padding, dilation)
    return image[0] * weight[0] * weight[1] * meeting


def _convolution(call: Call) -> int:
    return 2 * taps(call, call.out.shape) + (call.out.numel if call.get("bias") is not None else 0)


def _convolution_backward(call: Call) -> int:
    """As many for each gradient of a product; the bias's is a sum of all but one."""
    grad, (to_input, to_weight, to_bias) = call["grad_output"], call["output_mask"]
    sums = grad.numel - grad.shape[1] if to_bias else 0
    return int(2 * taps(call, grad.shape) * (to_input + to_weight) + sums)


def _added(call: Call) -> int:
    return 2 * _products.matrices(call) + call.out.numel


def _windows(call: Call) -> int:
    """The elements of a window, padding among them."""
    size, axes = call["kernel_size"], int(call.op[call.op.index("pool") + 4])
    return math.prod(size) if len(size) == axes else int(size[0]) ** axes


def _largest(call: Call) -> int:
    return (_windows(call) - 1) * call.out.numel


def _average(call: Call) -> int:
    return _windows(call) * call.out.numel


def _attention(call: Call) -> int:
    """Two products, a scale, a mask where there is one, a softmax of four steps less two for each row."""
    width, keys = call["value"].shape[-1], call["key"].shape[-2]
    rows = call.out.numel // width
    masked = call.get("attn_mask") is not None or bool(call.get("is_causal"))
    dropped = 2 * bool(call.get("dropout_p"))
    return int(2 * _products.attention(call) + rows * keys * (1 + masked + dropped) + rows * (4 * keys - 2))


def _attention_backward(call: Call) -> int:
    """Twice the products; of the softmax two products of elements, a sum and a difference; the scale again."""
    width, keys = call["value"].shape[-1], call["key"].shape[-2]
    rows = call["grad"].numel // width
    products = 2 * 2 * rows * keys * (call["query"].shape[-1] + width)
    return int(products + rows * (5 * keys - 1))


def _per_output(factor: int) -> Handle:
    return lambda call: factor * call.out.numel


HANDLES: dict[str, Handle] = {
    "aten::convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::addmm": _added,
    "aten::baddbmm": _added,
    **dict.fromkeys((f"aten::max_pool{n}d_with_indices" for n in (2, 3)), _largest),
    **dict.fromkeys((f"aten::avg_pool{n}d" for n in (2, 3)), _average),
    **dict.fromkeys(("aten::neg", "aten::neg_", "aten::abs", "aten::abs_"), _per_output(1)),
    "aten::_to_copy": lambda call: call.out.numel * (call["self"].dtype != call.out.dtype),
    **dict.fromkeys(("aten::sigmoid", "aten::sigmoid_"), _per_output(3)),
    **dict.fromkeys(("aten::silu", "aten::silu_"), _per_output(4)),
    _products.ATTENTION: _attention,
    _products.ATTENTION_BACKWARD: _attention_backward,
}
CONVENTION = Convention(
    name="xla",
    version="jaxlib 0.10.2",
    unit="FLOP",
    summary="2 per multiply-add on real elements, 1 per element of every other step, transcendentals apart",
    source="openxla/xla, xla/service/hlo_cost_analysis.cc, as in jaxlib 0.10.2",
    weights={"fma": 2, "add": 1, "mul": 1, "div": 1, "cmp": 1},
    handles=HANDLES,
)
