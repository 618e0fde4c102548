"""Functions as the user wrote them, which counters that patch or trace functions see: their names and operands.

The name in a trace is ``torch::<name>``, whether it was called as ``F.relu``, ``torch.relu`` or ``x.relu()``; which of
these it was stands in the operand ``spelled``: ``functional``, ``torch``, ``method``, or ``operator`` for ``a @ b``.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_POOL = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MATRICES, _TERMS = ("input", "other"), ("input", "mat1", "mat2", "beta", "alpha")
_ELEMENTWISE = (
    "relu", "relu6", "elu", "leaky_relu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh", "selu",
    "celu", "sigmoid", "tanh", "softplus", "logsigmoid", "softsign", "rrelu", "threshold", "glu",
)  # fmt: skip

OPERANDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("matmul", "mm", "add", "mul", "sub", "div", "inner"), _MATRICES),
    "bmm": ("input", "mat2"), "addmm": _TERMS, "baddbmm": ("input", "batch1", "batch2", "beta", "alpha"),
    "addbmm": ("input", "batch1", "batch2", "beta", "alpha"), "addmv": ("input", "mat", "vec"), "mv": ("input", "vec"),
    "einsum": ("equation", "operands"), "tensordot": ("a", "b", "dims"), "cdist": ("x1", "x2"),
    "linear": ("input", "weight", "bias"), "bilinear": ("input1", "input2", "weight", "bias"),
    **{f"conv{n}d": _CONV for n in (1, 2, 3)}, **{f"conv_transpose{n}d": _TRANSPOSED for n in (1, 2, 3)},
    **dict.fromkeys(_ELEMENTWISE, ("input",)), "prelu": ("input", "weight"),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), ("input", "dim")),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"), "rms_norm": ("input", "normalized_shape", "weight"),
    **{f"avg_pool{n}d": _POOL for n in (1, 2, 3)}, **{f"max_pool{n}d": _MAX_POOL for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _MAX_POOL for n in (1, 2, 3)},
    **{f"lp_pool{n}d": ("input", "norm_type", "kernel_size", "stride", "ceil_mode") for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": ("input", "output_size") for kind in ("avg", "max") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d_with_indices": ("input", "output_size") for n in (1, 2, 3)},
    "local_response_norm": ("input", "size", "alpha", "beta", "k"),
    **dict.fromkeys(("interpolate", "upsample"), ("input", "size", "scale_factor", "mode", "align_corners")),
    "embedding": ("input", "weight"), "dropout": ("input", "p", "training"), "grid_sample": ("input", "grid", "mode"),
    "cumsum": ("input", "dim"),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
                    ("input", "hx")),
}  # fmt: skip
_SPELLED_AS_OPERATOR = {"matmul", "add", "mul", "sub", "div"}
_INPUT_FIRST = {"add", "mul", "sub", "div"}  # where an operator is no envelope: nobody patches it, and it is frequent


def functions() -> dict[Any, tuple[str, tuple[str, ...], str]]:
    """Each function of torch that is an envelope: its name in the trace, its operands' names, how it is spelled."""
    found: dict[Any, tuple[str, tuple[str, ...], str]] = {}
    for name, operands in OPERANDS.items():
        for spelled, holder in (("functional", F), ("torch", torch), ("method", Tensor)):
            function = getattr(holder, name, None)
            if function is not None:
                found.setdefault(function, (f"torch::{name}", operands, spelled))
    found[Tensor.__matmul__] = ("torch::matmul", _MATRICES, "operator")
    found[Tensor.__rmatmul__] = ("torch::rmatmul", _MATRICES, "operator")
    return found


def may_be_operator(name: str, spelled: str) -> bool:
    """Whether a call of this method may have been written with a sign: ``a @ b`` is ``a.matmul(b)`` to torch."""
    return spelled == "method" and name.removeprefix("torch::") in _SPELLED_AS_OPERATOR


def is_seen_as_operator(name: str) -> bool:
    """Whether it is an envelope also where it is written with a sign."""
    return name.removeprefix("torch::") not in _INPUT_FIRST


def by_sign(frame: FrameType) -> bool:
    """Whether the instruction that ``frame`` is at is an operator such as ``+``, and not a call."""
    return _is_sign(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=4096)
def _is_sign(code: CodeType, at: int) -> bool:
    return dis.opname[code.co_code[at]].startswith(("BINARY_", "INPLACE_"))
