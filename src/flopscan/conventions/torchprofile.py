"""torchprofile: MACs of functions as torch.jit traces them, with norms, products of elements and averages as one MAC.

Facts of each handler from torchprofile/handlers.py (MIT). A function of torch is seen whole: what is inside of one that
has no handler counts zero, `torch.mm` and kernels of other packages among it. Not reproduced, as a trace does not have
it: one MAC for each product of two sizes in Python, which torch.jit traces as a product of tensors; work whose result
is not used, which torch.jit drops; and the AssertionError for attention with fewer key heads than query heads.
"""

from __future__ import annotations

import math

from flopscan.conventions import _products
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, TensorSpec


def _per_output(call: Call) -> int:
    return call.out.numel


def _linear(call: Call) -> int:
    return int(call.out.numel * call["input"].shape[-1])


def _matmul(call: Call) -> int:
    left: TensorSpec = call["other" if call.op == "torch::rmatmul" else "input"]
    return call.out.numel * left.shape[-1]


def _convolution(call: Call) -> int:
    """Each output sums over the weight's second axis, or its first where the first is not the output's channels.

    A transposed one is taken for a plain one, and its groups are lost; with `padding="same"` there is no handler.
    """
    weight, out = call["weight"].shape, call.out.shape
    if isinstance(call.get("padding"), str):
        return 0
    channels = out[-len(weight) + 1]
    inputs = weight[1] if channels == weight[0] else weight[0]
    return int(call.out.numel * inputs * math.prod(weight[2:]))


def _transposed_right(call: Call) -> int:
    """Each input times the weight's kernels for the outputs of its group."""
    return int(call["input"].numel * math.prod(call["weight"].shape[1:]))


def _norm(call: Call) -> int:
    return call.out.numel if call.get("weight") is not None else 0


def _einsum(call: Call) -> int:
    """The product of all axes, each as long as the last operand that has it says; nothing where there are dots."""
    equation, operands = str(call["equation"]), call["operands"]
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = operands[0]
    if "..." in equation:
        return 0
    sizes: dict[str, int] = {}
    for term, operand in zip(equation.split("->")[0].split(","), operands, strict=False):
        sizes.update(zip(term.replace(" ", ""), operand.shape, strict=False))
    return math.prod(sizes.values())


def _lstm(call: Call) -> int:
    """Four gates over inputs and states; the states are as wide as what comes out."""
    data, states = call.outputs[:2]
    h = states.shape[-1]
    directions = data.shape[-1] // h
    layers = states.shape[0] // directions
    inputs = call["input"].shape[-1] + (layers - 1) * h * directions
    return int(data.shape[0] * data.shape[1] * directions * 4 * h * (inputs + layers * h))


def _cell(gates: int, products: int) -> Handle:
    """A cell is traced as the two linears and the products of elements that it is made of."""

    def count(call: Call) -> int:
        rows, h = math.prod(call.out.shape[:-1]), call.out.shape[-1]
        return int(rows * h * (gates * (call["input"].shape[-1] + h) + products))

    return count


def _grid_sample(call: Call) -> int:
    return call.out.numel * {0: 4, 1: 0, 2: 16}[call["interpolation_mode"]]


def _bilinear(call: Call) -> int:
    return 4 * call.out.numel


_UNSEEN = (
    "torch::mm", "torch::inner", "torch::tensordot", "torch::cdist", "torch::bilinear", "torch::rms_norm", "torch::gru",
    "torch::rnn_tanh", "torch::rnn_relu", "torch::addbmm",
)  # fmt: skip
_TRANSPOSED = tuple(f"torch::conv_transpose{n}d" for n in (1, 2, 3))
HANDLES: dict[str, Handle] = {
    **dict.fromkeys(_UNSEEN, lambda call: 0),
    **dict.fromkeys(("aten::addmm", "aten::bmm", "aten::baddbmm"), _products.matrices),
    "aten::addmv": lambda call: int(call["mat"].numel),
    "torch::linear": _linear,
    "torch::matmul": _matmul,
    "torch::rmatmul": _matmul,
    "torch::bmm": _matmul,
    "torch::einsum": _einsum,
    **dict.fromkeys((*(f"torch::conv{n}d" for n in (1, 2, 3)), *_TRANSPOSED, "aten::convolution"), _convolution),
    **dict.fromkeys(
        (
            "aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::cudnn_batch_norm",
            "aten::_native_batch_norm_legit_no_training", "aten::miopen_batch_norm", "aten::batch_norm_with_update",
            "aten::native_layer_norm", "aten::native_group_norm",
        ),
        _norm,
    ),
    **dict.fromkeys(("torch::mul", "aten::mul", "aten::mul_", "aten::mean", "aten::leaky_relu"), _per_output),
    **dict.fromkeys(("aten::avg_pool2d", "aten::avg_pool3d"), _per_output),
    **dict.fromkeys((f"torch::adaptive_avg_pool{n}d" for n in (1, 2, 3)), _per_output),
    "aten::upsample_bilinear2d": _bilinear,
    "aten::grid_sampler_2d": _grid_sample,
    "aten::grid_sampler_3d": _grid_sample,
    "torch::lstm": _lstm,
    "torch::lstm_cell": _cell(4, 3),
    "torch::gru_cell": _cell(3, 2),
    "torch::rnn_tanh_cell": _cell(1, 0),
    "torch::rnn_relu_cell": _cell(1, 0),
    _products.ATTENTION: _products.attention,
}  # fmt: skip
CONVENTION = Convention(
    name="torchprofile",
    version="0.1.0",
    unit="MAC",
    summary="MACs of products and attention, one an output of norms, averages and products of elements; forward only",
    source="torchprofile 0.1.0, torchprofile/handlers.py",
    handles=HANDLES,
    written_out=WRITTEN_OUT,
    phases=("forward",),
    beyond="it counts products of sizes, which torch.jit traces as tensors, and nothing whose result is not used"
    " (torchprofile/handlers.py, _mul; trace.py)",
    bugs=(
        Bug(
            key="transposed",
            name="transposed convolutions by their output",
            source="torchprofile 0.1.0, torchprofile/handlers.py, _convolution",
            right=dict.fromkeys(_TRANSPOSED, _transposed_right),
        ),
        Bug(
            key="mm",
            name="torch.mm is not known",
            source="torchprofile 0.1.0, torchprofile/handlers.py, HANDLER_MAP",
            right={"torch::mm": lambda call: int(call["input"].numel * call["other"].shape[-1])},
        ),
    ),
)
