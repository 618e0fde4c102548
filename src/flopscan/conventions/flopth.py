"""flopth 0.1.6: multiply-adds and biases of convolutions, linear layers by two axes, 1 or 2 an element of others.

Facts from flopth/helper.py and flopth/model_viewer.py. It counts leaf modules by what they are derived from, first
match first, and keeps the last call of each module alone. No function is seen; it counts in evaluation mode.
"""

from __future__ import annotations

import math

from flopscan.conventions._frames import identity
from flopscan.conventions._modules import first, has, is_a, is_module, setting
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, Trace

_HELPER, _VIEWER = "flopth 0.1.6, flopth/helper.py", "flopth 0.1.6, flopth/model_viewer.py"


def _convolution(call: Call) -> int:
    """k*c*(d // groups) a position of the output, also where it is transposed, and the bias."""
    given, out = first(call).shape, call.out.shape
    each = math.prod(setting(call, "kernel_size")) * given[1] * (out[1] // setting(call, "groups"))
    return int((each + (out[1] if has(call, "bias") else 0)) * given[0] * math.prod(out[2:]))


def _transposed(call: Call) -> int:
    """What would be right: the weight at the positions of the input."""
    given, out = first(call).shape, call.out
    each = math.prod(setting(call, "kernel_size")) * given[1] * (out.shape[1] // setting(call, "groups"))
    return int(each * given[0] * math.prod(given[2:]) + (out.numel if has(call, "bias") else 0))


def _norm(call: Call) -> int:
    """2 an element where it says that it is affine, which a layer norm never does."""
    return first(call).numel * (2 if setting(call, "affine") else 1)


def _linear(call: Call) -> int:
    """The first two axes of the input times the second of the output: of three axes, the last is lost."""
    given, out = first(call).shape, call.out.shape
    return math.prod(given[:2]) * out[1]


def _input(call: Call) -> int:
    return first(call).numel


def _output(call: Call) -> int:
    return call.out.numel


def _resized(call: Call) -> int:
    """The batch times the elements of an image of the output without its first axis, as it takes the image for all."""
    return first(call).shape[0] * math.prod(call.out.shape[2:])


_RULES: tuple[tuple[tuple[str, ...], Handle], ...] = (
    (tuple(f"Conv{kind}{n}d" for kind in ("", "Transpose") for n in (1, 2, 3)), _convolution),
    (
        ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d",
         "BatchNorm3d"),
        _norm,
    ),
    (("AvgPool2d", "MaxPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d"), _input),
    (("ReLU", "ReLU6", "PReLU", "ELU", "LeakyReLU", "GELU", "CELU", "SELU"), _input),
    (("Upsample",), _resized),
    (("Linear",), _linear),
    (("Dropout", "Sigmoid", "Hardtanh"), lambda call: 0),
    (("Hardswish", "Hardsigmoid"), _output),
    (("Tanh",), _input),
)  # fmt: skip


def _rule(call: Call) -> Handle | None:
    """The first rule that fits a leaf."""
    if not is_module(call) or not call["leaf"]:
        return None
    return next((handle for names, handle in _RULES if is_a(call, *names)), None)


def _last_calls(trace: Trace, counts: list[int]) -> list[int]:
    """Of each module the last of its calls, once."""
    forward = ((i, r) for i, r in enumerate(trace.records) if r.phase == "forward" and is_module(trace.calls[r.call]))
    kept = set({identity(trace, record.module): i for i, record in forward}.values())
    return [count // trace.records[i].count if i in kept else 0 for i, count in enumerate(counts)]


def _right_linear(call: Call) -> int:
    return first(call).numel * call.out.shape[-1]


FORGOTTEN = Bug("last-call", "of a module that is called twice the last call counts", f"{_VIEWER}, apply_forward_hook")
CONVENTION = Convention(
    name="flopth",
    unit="MAC",
    summary="MACs and biases of convolutions, linear layers by two axes, 1 or 2 an element of norms, ReLU, 2-D pools",
    source=f"{_HELPER} and model_viewer.py",
    version="0.1.6",
    fallback=_rule,
    phases=("forward",),
    settle={FORGOTTEN.name: _last_calls},
    bugs=(
        FORGOTTEN,
        Bug("linear", "a linear layer on three axes loses the last", f"{_HELPER}, compute_Linear_flops",
            {"module::torch.nn.modules.linear.Linear": _right_linear}),
        Bug("transposed", "a transposed convolution counts on the output's size", f"{_HELPER}, compute_Conv2d_flops",
            {f"module::torch.nn.modules.conv.ConvTranspose{n}d": _transposed for n in (1, 2, 3)}),
        Bug("layer-norm", "a layer norm is never affine", f"{_HELPER}, compute_BatchNorm2d_flops",
            {"module::torch.nn.modules.normalization.LayerNorm":
                 lambda call: first(call).numel * (2 if has(call, "weight") else 1)}),
    ),
)  # fmt: skip
