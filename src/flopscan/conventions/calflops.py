"""calflops 0.3.2: 2 per multiply-add of the functions that it patches, 1 to 5 an element of activations, norms, pools.

Facts of each function from calflops/pytorch_ops.py (MIT), which began as DeepSpeed's. It replaces functions of torch
and torch.nn.functional: of products it sees linear, matmul, addmm, baddbmm and einsum. A module under two parents
counts once for each (calflops/utils.py, get_module_flops). `F.upsample` counts twice, also as the `F.interpolate` in
it, which a trace has alone; `torch.conv1d` counts nothing, which a trace has as `F.conv1d`.
"""

from __future__ import annotations

import math

from flopscan.conventions import _patched
from flopscan.conventions._frames import HELD, visits, without_held
from flopscan.conventions._functions import product
from flopscan.conventions._patched import PAIRS, Pair, Pairs, exactly, only
from flopscan.conventions._products import ATTENTION, attention
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.conventions.deepspeed import WRONG as FROM_DEEPSPEED
from flopscan.core.convention import Bug, Convention
from flopscan.core.trace import Call, Trace

SOURCE = "calflops 0.3.2, calflops/pytorch_ops.py"
_PRODUCTS = ("torch::matmul", "torch::mm", "torch::bmm")


def _transposed(call: Call) -> tuple[int, int]:
    """The weight's second axis, already divided by the groups, is divided again; the bias is on a shrunk output."""
    weight, kernel, groups = call["weight"].shape, call["weight"].shape[2:], call.get("groups", 1)
    spatial = call["input"].shape[2:]
    macs = math.prod(kernel) * (weight[1] // groups) * call["input"].numel
    if call.get("bias") is None:
        return 2 * macs, macs
    names = ("padding", "dilation", "stride")
    paddings, dilations, strides = (_patched.spread(call.get(n, int(n != "padding")), kernel) for n in names)
    sized = zip(spatial, paddings, dilations, kernel, strides, strict=False)
    shrunk = math.prod((n + 2 * p - (d * (k - 1) + 1)) // s + 1 for n, p, d, k, s in sized)
    return 2 * macs + weight[1] * call["input"].shape[0] * shrunk, macs


def _resized(call: Call) -> tuple[int, int]:
    """By a size: the product of the size alone. By a factor: the input's elements, the factor is not applied."""
    given, size = call["input"], call.get("size")
    pooled = given.numel if call.get("mode") == "area" else 0  # by a pool, which is patched too
    if size is not None:
        return (math.prod(size) if isinstance(size, tuple) else size) + pooled, 0
    return given.numel + pooled, 0


def _from_the_left(call: Call) -> tuple[int, int]:
    return _patched.from_the_left(call), 0


def _multiplied(trace: Trace, counts: list[int]) -> list[int]:
    """The counts of each module as often as a walk over the parents meets it."""
    met = visits(trace)
    return [count * met[record.module] for record, count in zip(trace.records, counts, strict=True)]


THEIRS: dict[str, Pair] = {
    **PAIRS,
    **{f"torch::conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    "torch::interpolate": _resized,
    **dict.fromkeys(("torch::add", "torch::mul"), only(_from_the_left, "torch", "method")),
}
WRONG: tuple[tuple[str, str, str, Pairs], ...] = (
    *((key, name, f"{SOURCE}, {where}", right) for key, name, where, right in FROM_DEEPSPEED),
    (
        "unseen",
        "mm, bmm, @ and attention are not seen",
        "MrYxJ/calculate-flops.pytorch issue 48",
        {
            **dict.fromkeys(_PRODUCTS, exactly(product)),
            ATTENTION: exactly(attention),
        },
    ),
    (
        "transposed",
        "a transposed convolution is divided by its groups twice, its bias on a shrunk output",
        f"{SOURCE}, _conv_trans_flops_compute; DeepSpeed pull request 8323",
        {f"torch::conv_transpose{n}d": _patched.transposed for n in (1, 2, 3)},
    ),
    (
        "elementwise",
        "add and mul broadcast from the left",
        f"{SOURCE}, _elementwise_flops_compute",
        dict.fromkeys(("torch::add", "torch::mul"), only(_patched.output, "torch", "method")),
    ),
)
SHARED = Bug(
    "shared", "a module under two parents counts for both", "calflops 0.3.2, calflops/utils.py, get_module_flops"
)
SETTLE = {HELD: without_held, SHARED.name: _multiplied}
CONVENTION = Convention(
    name="calflops",
    unit="FLOP",
    summary="2 per multiply-add of the functions that it patches, biases of convolutions, 1 to 5 an element of others",
    source=SOURCE,
    version="0.3.2",
    handles=_patched.flops(THEIRS),
    phases=("forward",),
    written_out=WRITTEN_OUT,
    settle=SETTLE,
    bugs=(*(Bug(key, name, source, _patched.flops(right)) for key, name, source, right in WRONG), SHARED),
)
