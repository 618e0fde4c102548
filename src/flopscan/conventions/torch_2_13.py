"""torch's FlopCounterMode, 2.13, on a CPU: as 2.15, but attention by the fused kernel has no formula and is zero.

Which attention the CPU's fused kernel takes: four axes, no dropout, one width of heads, as many batches of keys as of
queries, and a mask of two or four axes that needs no gradient (aten/src/ATen/native/transformers/sdp_utils_cpp.cpp).
"""

from __future__ import annotations

from dataclasses import replace

from flopscan.conventions import _products, torch
from flopscan.core.convention import Bug, Convention
from flopscan.core.trace import Call


def _is_fused(call: Call) -> bool:
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    mask = call.get("attn_mask")
    plain_mask = mask is None or len(mask.shape) in (2, 4)
    same = len(query) == 4 and query[-1] == key[-1] == value[-1] and query[0] == key[0] == value[0]
    return same and plain_mask and not call.get("dropout_p")


def _attention(call: Call) -> int:
    return 0 if _is_fused(call) else 2 * _products.attention(call)


def _attention_backward(call: Call) -> int:
    """Nothing, or plain products where no fused kernel runs."""
    if _is_fused(call):
        return 0
    query, value = call["query"].shape, call["value"].shape
    each = (call["grad"].numel // value[-1]) * call["key"].shape[-2]
    q, k, v = call["needs"][:3]
    return int(2 * each * (query[-1] * (q + k) + value[-1] * (v + (q or k))))


_later = torch.CONVENTION
_ATTENTION = (_products.ATTENTION, _products.ATTENTION_BACKWARD)
CPU = Bug(
    key="cpu",
    name="attention on a CPU",
    source="https://github.com/pytorch/pytorch/issues/195460",
    right={name: _later.handles[name] for name in _ATTENTION},
)
CONVENTION: Convention = replace(
    _later,
    name="torch-2.13",
    version="2.13.0",
    summary="as torch, but attention is zero, as on a CPU before 2.15",
    source="torch.utils.flop_counter.FlopCounterMode 2.13.0 on CPU tensors, torch/utils/flop_counter.py",
    handles={**_later.handles, _ATTENTION[0]: _attention, _ATTENTION[1]: _attention_backward},
    bugs=(torch.GROUPS, CPU),
)
