"""torchinfo 1.8.0, "mult-adds": each parameter of a leaf module times the batch, of a convolution times the positions.

Facts from torchinfo/layer_info.py, calculate_macs, and model_statistics.py (MIT). Only parameters called weight or bias
count, of recurrent layers those with these words in their names; what has no parameter, or children, is 0. A weight
that is pruned by a mask counts as if it were whole: the mask's values are not in a trace.
"""

from __future__ import annotations

import math

from flopscan.conventions._modules import first, module, parameters
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call

_SOURCE = "torchinfo 1.8.0, torchinfo/layer_info.py, calculate_macs"


def _leaf(call: Call) -> int:
    """weight and bias * b, or * b * positions where the class is called a Conv; other weights and biases * b * l."""
    out, is_convolution = call.out.shape, "Conv" in call.op.rpartition(".")[2]
    total = 0
    for name, spec in parameters(call).items():
        if name in ("weight", "bias"):
            total += spec.numel * (math.prod((*out[:1], *out[2:])) if is_convolution else out[0])
        elif "weight" in name or "bias" in name:
            total += spec.numel * math.prod(out[:2])
    return total


def _rule(call: Call) -> Handle | None:
    """The rule of a leaf that has a parameter with such a name; others are not counted."""
    named = any("weight" in name or "bias" in name for name, _, _ in call.get("parameters", ()))
    return _leaf if named and call["leaf"] and call.outputs else None


def _linear(call: Call) -> int:
    return sum(p.numel for p in parameters(call).values()) * math.prod(call.out.shape[:-1])


def _norm(call: Call) -> int:
    return len(call["parameters"]) * call.out.numel


def _transposed(call: Call) -> int:
    """The weight at each position of the input, the bias at each of the output."""
    own, given = parameters(call), first(call).shape
    return own["weight"].numel * given[0] * math.prod(given[2:]) + ("bias" in own) * call.out.numel


_NORMS = "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm"
CONVENTION = Convention(
    name="torchinfo",
    unit="MAC",
    summary="parameters of leaf modules times the batch, of convolutions times the positions; no attention",
    source=_SOURCE,
    version="1.8.0",
    fallback=_rule,
    phases=("forward",),
    bugs=(
        Bug("linear", "a linear layer counts for the batch, not for each row", "TylerYep/torchinfo issue 77",
            {module("Linear"): _linear}),
        Bug("embedding", "an embedding counts its whole table", f"{_SOURCE}; measured",
            {module("Embedding"): lambda call: 0}),
        Bug("norm", "a norm's parameters count for the batch, not for each element", _SOURCE,
            {module(name): _norm for name in f"{_NORMS} GroupNorm RMSNorm".split()}),
        Bug("transposed", "a transposed convolution counts on the output's size", _SOURCE,
            {module(f"ConvTranspose{n}d"): _transposed for n in (1, 2, 3)}),
        Bug("conv1d", "a linear layer called Conv1D counts as a convolution", _SOURCE,
            {"module::transformers.pytorch_utils.Conv1D": _linear}),
    ),
)  # fmt: skip
