"""fvcore 0.1.5: multiply-adds of products and convolutions, FLOPs of norms and pooling, all called flop.

Facts of each handle from fvcore/nn/jit_handles.py and fvcore/nn/flop_count.py (Apache-2.0). What fvcore has no handle
for counts zero, attention as one function, LSTMs and kernels of packages among it.
"""

from __future__ import annotations

import math

from flopscan.conventions import _einsum as _spelled
from flopscan.conventions import _functions, _products
from flopscan.conventions._patched import turned
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call


def _written_convolution(call: Call) -> int:
    """The weight's elements at each position of the output.

    `padding="same"` is a function of its own to torch.jit, which has no handle.
    """
    image, weight, out = call["input"], call["weight"], call.out.shape
    if isinstance(call.get("padding"), str):
        return 0
    batch = image.shape[0] if len(image.shape) == len(weight.shape) else 1
    return int(batch * math.prod(out[len(out) - len(weight.shape) + 2 :]) * weight.numel)


def _matmul(call: Call) -> int:
    """The elements of the left operand times the columns of the right one: a broadcast right operand is lost."""
    left, right = call["input"], call.get("other", call.get("mat2"))
    return int(left.numel * right.shape[-1]) if len(right.shape) > 1 else int(left.numel)


def _rmatmul(call: Call) -> int:
    return _matmul(turned(call))


def _rmatmul_right(call: Call) -> int:
    return _functions.product(turned(call))


def _einsum(call: Call) -> int:
    """Half of numpy's FLOPs, as they are printed with four digits; two equations exactly."""
    terms, result, _ = _spelled.axes(call)
    written = f"{','.join(terms)}->{result}"
    order = dict.fromkeys(filter(str.isalpha, written))
    written = written.translate({ord(letter): ord("a") + i for i, letter in enumerate(order)})
    if written in ("abc,abd->acd", "abc,adc->adb"):
        return _spelled.macs(call)
    return _spelled.printed_flops(call) // 2


def _norm(call: Call) -> int:
    return int(call["input"].numel * (5 if call.get("weight") is not None else 4))


def _batch_norm(call: Call) -> int:
    affine = call.get("weight") is not None
    if call.get("training", "no_training" not in call.op):
        return _norm(call)
    return int(call["input"].numel * (2 if affine else 1))


def _per_input(call: Call) -> int:
    return int(call["input"].numel)


def _per_output(factor: int) -> Handle:
    return lambda call: factor * call.out.numel


HANDLES: dict[str, Handle] = {
    **dict.fromkeys(("aten::addmm", "aten::mm", "aten::bmm"), _products.matrices),
    "aten::convolution": _products.convolution,
    **dict.fromkeys(("torch::conv1d", "torch::conv2d", "torch::conv3d"), _written_convolution),
    "torch::matmul": _matmul,
    "torch::rmatmul": _rmatmul,
    "torch::bmm": _matmul,
    "torch::einsum": _einsum,
    **dict.fromkeys(
        (
            "torch::cdist",
            "torch::bilinear",
            "torch::tensordot",
            "torch::inner",
            "torch::lstm",
            "torch::gru",
            "torch::rnn_tanh",
            "torch::rnn_relu",
        ),
        lambda call: 0,
    ),
    "aten::native_layer_norm": _norm,
    "aten::native_group_norm": _norm,
    **dict.fromkeys(
        (
            "aten::native_batch_norm",
            "aten::_native_batch_norm_legit",
            "aten::_native_batch_norm_legit_no_training",
            "aten::cudnn_batch_norm",
            "aten::miopen_batch_norm",
            "aten::batch_norm_with_update",
        ),
        _batch_norm,
    ),
    "torch::adaptive_avg_pool2d": _per_input,
    "aten::upsample_nearest2d": _per_output(1),
    "aten::upsample_bilinear2d": _per_output(4),
    "aten::grid_sampler_2d": _per_output(4),
}
# fvcore sees functions, so what a composite function is made of is not seen apart, and backward is not seen at all
CONVENTION = Convention(
    name="fvcore",
    version="0.1.5.post20221221",
    unit="fvcore flop",
    summary="MACs of products and convolutions, plus FLOPs of norms, pooling and sampling; the rest zero; forward only",
    source="fvcore 0.1.5.post20221221, fvcore/nn/jit_handles.py",
    handles=HANDLES,
    written_out=WRITTEN_OUT,
    phases=("forward",),
    beyond="torch.jit drops what has no use before it counts (fvcore/nn/jit_analysis.py, _get_scoped_trace_graph)",
    bugs=(
        Bug(
            key="attention",
            name="attention as one function",
            source="MzeroMiko/VMamba issue 296",
            right={_products.ATTENTION: _products.attention},
        ),
        Bug(
            key="broadcast",
            name="what matmul broadcasts is lost",
            source="fvcore 0.1.5.post20221221, fvcore/nn/jit_handles.py, matmul_flop_jit",
            right={"torch::matmul": _functions.product, "torch::rmatmul": _rmatmul_right},
        ),
        Bug(
            key="einsum",
            name="einsum with four digits, and half where nothing is summed",
            source="fvcore 0.1.5.post20221221, fvcore/nn/jit_handles.py, einsum_flop_jit",
            right={"torch::einsum": _spelled.macs},
        ),
    ),
)
