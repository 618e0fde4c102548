"""What a dispatcher sees of a scan that is unrolled in Python: its read-out as a product, and nothing where n is 1.

This is torch's FlopCounterMode on the slow path: 2 per multiply-add of products, convolutions and attention (causal
masks ignored); the recurrence is elementwise and counts zero, and with one state the read-out is elementwise too.
"""

from flopscan.conventions._scan import BACKWARD, OPERATOR, sizes
from flopscan.core.convention import Convention
from flopscan.core.trace import Call


def _scan(call: Call) -> int:
    """2 per (b, d, l, n) for y = C h by a batched product; 0 for a single state."""
    b, d, l, n = sizes(call)
    return 2 * b * d * l * n if n > 1 else 0


def _attention(call: Call) -> int:
    """Two products over every pair of positions."""
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    return 2 * (call.out.numel // value[-1]) * key[-2] * (query[-1] + value[-1])


CONVENTION = Convention(
    name="dispatcher",
    unit="FLOP",
    summary="2 per multiply-add of products, convolutions and dense attention; of a scan the read-out alone",
    source="torch.utils.flop_counter.FlopCounterMode 2.13 on a scan in plain PyTorch",
    weights={"fma": 2},
    handles={
        OPERATOR: _scan,
        BACKWARD: lambda call: 2 * _scan(call),
        "flopscan::scaled_dot_product_attention": _attention,
    },
    scan="2bdln, 0 where n is 1",
)
