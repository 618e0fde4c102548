"""Megatron-LM's count of a Mamba layer: 7 per token, channel and state; depthwise convolutions are left out.

Its derivation is not given; 6 for the recurrence and 1 for the exponential make 7. Applied there to Mamba-2.
"""

from flopscan.conventions._scan import BACKWARD, OPERATOR, per_state
from flopscan.core.convention import Convention
from flopscan.core.trace import Call


def _convolution(call: Call) -> int:
    """2 per multiply-add, but nothing for a depthwise convolution."""
    if call["groups"] > 1 and call["groups"] == call["input"].shape[1]:
        return 0
    spatial = (call["input"] if call["transposed"] else call.out).shape[2:]
    positions = call["input"].shape[0]
    for n in spatial:
        positions *= n
    return int(2 * positions * call["weight"].numel)


CONVENTION = Convention(
    name="megatron",
    unit="FLOP",
    summary="2 per multiply-add of products, 7 per (b,d,l,n) of a scan (14 backward), depthwise convolutions left out",
    source="NVIDIA/Megatron-LM, megatron/training/training.py, mamba_layer_flops",
    weights={"fma": 2},
    handles={OPERATOR: per_state(7), BACKWARD: per_state(14), "aten::convolution": _convolution},
    scan="7bdln",
)
