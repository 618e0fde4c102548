"""Megatron-LM's count of a Mamba layer: 7 per token, channel and state; depthwise convolutions are left out.

Its derivation is not given; 6 for the recurrence and 1 for the exponential make 7. Applied there to Mamba-2, with a
comment that new kernels may differ. What its formula multiplies is tokens * d_in * state with d_in = 2 * hidden,
whatever the heads and their channels are; here it is the channels that the scan has. Backward is twice forward.

A gated delta rule is 8 per token, head and squared value channel there, four products of a square state; its layer
counts the convolution that a Mamba layer leaves out, but nothing tells the two apart here. Decoding is not in its
formulas, which are for training: a step is counted as a token.
"""

from flopscan import rules
from flopscan.conventions._scan import NO_CAUSAL_CONVOLUTIONS, every_scan
from flopscan.core.convention import Convention, Handle
from flopscan.core.trace import Call


def _depthwise(call: Call) -> bool:
    return call["groups"] > 1 and call["groups"] == call["input"].shape[1]


def _convolution(call: Call) -> int:
    """2 per multiply-add, but nothing for a depthwise convolution."""
    if _depthwise(call):
        return 0
    spatial = (call["input"] if call["transposed"] else call.out).shape[2:]
    positions = call["input"].shape[0]
    for n in spatial:
        positions *= n
    return int(2 * positions * call["weight"].numel)


def _convolution_backward(call: Call) -> int:
    """The same for the gradients."""
    rule = rules.find(call.op)
    ideal = None if _depthwise(call) or rule is None else rule.price(call).ideal
    return 0 if ideal is None else int(2 * ideal.fma)


def _delta_rule(factor: int) -> Handle:
    return lambda call: factor * call["value"].numel * call["value"].shape[-1]


WITHOUT_DEPTHWISE: dict[str, Handle] = {
    "aten::convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    **NO_CAUSAL_CONVOLUTIONS,
}
CONVENTION = Convention(
    name="megatron",
    version="2026-09",
    unit="FLOP",
    summary="2 per multiply-add of products, 7 per (b,d,l,n) of a scan (14 backward), depthwise convolutions left out",
    source="NVIDIA/Megatron-LM 2026-09, megatron/training/training.py, mamba_layer_flops and gdn_layer_flops",
    weights={"fma": 2},
    handles={
        **every_scan(7),
        **WITHOUT_DEPTHWISE,
        "flopscan::gated_delta_rule": _delta_rule(8),
        "flopscan::gated_delta_rule_backward": _delta_rule(16),
    },
    scan="7bdln",
    used_by="Megatron-LM, Megatron Bridge, NeMo Automodel: throughput of hybrid language models",
    ssd="7bdln",
)
