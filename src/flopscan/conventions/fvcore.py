"""fvcore 0.1.5: multiply-adds of products and convolutions, FLOPs of norms and pooling, all called flop.

Facts of each handle from fvcore/nn/jit_handles.py and fvcore/nn/flop_count.py (Apache-2.0). What fvcore has no handle
for counts zero, attention as one function, LSTMs and kernels of packages among it.
"""

from __future__ import annotations

import math

from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.core.convention import Convention, Handle
from flopscan.core.trace import Call, TensorSpec


def _addmm(call: Call) -> int:
    (m, k), (_, n) = call["mat1"].shape, call["mat2"].shape
    return int(m * k * n)


def _mm(call: Call) -> int:
    return int(call["self"].numel * call["mat2"].shape[-1])


def _convolution(call: Call) -> int:
    spatial = (call["input"] if call["transposed"] else call.out).shape[2:]
    return int(call["input"].shape[0] * math.prod(spatial) * call["weight"].numel)


def _written_convolution(call: Call) -> int:
    """The same; `padding="same"` is a function of its own to torch.jit, which has no handle."""
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
    return _matmul(Call(call.op, {"input": call["other"], "other": call["input"]}, call.outputs))


def einsum_macs(call: Call) -> int:
    """The multiply-adds of an einsum: of two operands the product of all axes, of more pairwise from the left."""
    terms, sizes, result = _equation(call)
    macs, left = 0, terms[0]
    for i, right in enumerate(terms[1:], start=2):
        axes = set(left) | set(right)
        macs += math.prod(sizes[a] for a in axes)
        later = set(result).union(*terms[i:])
        left = "".join(sorted(axes & later))
    return macs


def _equation(call: Call) -> tuple[list[str], dict[str, int], str]:
    operands = call["operands"]
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = operands[0]
    left, arrow, result = str(call["equation"]).replace(" ", "").partition("->")
    terms = left.split(",")
    sizes: dict[str, int] = {}
    plain = []
    for term, operand in zip(terms, operands, strict=True):
        assert isinstance(operand, TensorSpec)
        extra = len(operand.shape) - len(term.replace("...", ""))
        dots = "".join(chr(0x391 + i) for i in range(extra))  # one letter an axis that the dots stand for
        term = term.replace("...", dots)
        for axis, size in zip(term, operand.shape, strict=True):
            sizes[axis] = max(size, sizes.get(axis, 1))
        plain.append(term)
    if not arrow:
        everything = "".join(plain)
        result = "".join(sorted(a for a in set(everything) if everything.count(a) == 1))
    return plain, sizes, result.replace("...", "".join(sorted(a for a in sizes if a >= "\u0391")))


def _einsum(call: Call) -> int:
    """numpy's count of the contraction, printed with four significant digits and halved, as fvcore reads it."""
    terms, sizes, result = _equation(call)
    renamed = ",".join(terms)
    order: dict[str, str] = {}
    for letter in renamed.replace(",", ""):
        order.setdefault(letter, chr(ord("a") + len(order)))
    shape = ",".join("".join(order[a] for a in term) for term in terms)
    if f"{shape}->{''.join(order.get(a, a) for a in result)}" in ("abc,abd->acd", "abc,adc->adb") or len(terms) != 2:
        return einsum_macs(call)
    inner = bool(set(sizes) - set(result))
    printed = float(f"{math.prod(sizes.values()) * (1 + inner):.3e}")
    return math.floor(printed / 2)


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
    "aten::addmm": _addmm,
    "aten::mm": _mm,
    "aten::bmm": _mm,
    "aten::convolution": _convolution,
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
)
