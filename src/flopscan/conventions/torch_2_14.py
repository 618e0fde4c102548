"""torch's FlopCounterMode, 2.14, on a CPU: as 2.15, but attention by the fused kernel has no formula and is zero.

Which attention the CPU's fused kernel takes: three or four axes, no dropout, one width of heads, of four axes as many
batches of keys as of queries, and a mask of two axes, or of as many as the operands, that needs no gradient
(aten/src/ATen/native/transformers/sdp_utils_cpp.cpp and attention.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flopscan.conventions import _products, torch
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call

_ATTENTION = (_products.ATTENTION, _products.ATTENTION_BACKWARD)
Fused = Callable[[Call], bool]


def is_fused(call: Call) -> bool:
    """Whether the fused kernel takes it."""
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    mask = call.get("attn_mask")
    known = len(query) in (3, 4) and (mask is None or len(mask.shape) in (2, len(query)))
    batches = len(query) == 3 or query[0] == key[0] == value[0]
    return known and batches and query[-1] == key[-1] == value[-1] and not call.get("dropout_p")


def before_2_15(is_fused: Fused, *, name: str, version: str) -> Convention:
    """The convention of a torch whose CPU kernel for attention takes what ``is_fused`` says, without a formula."""

    def forward(call: Call) -> int:
        return 0 if is_fused(call) else 2 * _products.attention(call)

    def backward(call: Call) -> int:
        """Nothing, or plain products where no fused kernel runs."""
        return 0 if is_fused(call) else 2 * torch.plain_backward(call)

    later = torch.CONVENTION
    right: dict[str, Handle] = {each: later.handles[each] for each in _ATTENTION}
    cpu = Bug("cpu", "attention on a CPU", "https://github.com/pytorch/pytorch/issues/195460", right)
    return replace(
        later,
        name=name,
        version=version,
        summary="as torch, but attention is zero, as on a CPU before 2.15",
        source=f"torch.utils.flop_counter.FlopCounterMode {version} on CPU tensors, torch/utils/flop_counter.py",
        handles={**later.handles, _ATTENTION[0]: forward, _ATTENTION[1]: backward},
        bugs=(torch.GROUPS, cpu),
    )


CONVENTION = before_2_15(is_fused, name="torch-2.14", version="2.14.1")
