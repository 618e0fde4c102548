"""torchvision's `_ops` of its weights: MACs of products, convolutions and attention, without biases, in an image's run.

Facts of each formula from test/common_extended_utils.py of pytorch/vision (BSD-3), which wrote them down in GMACs with
three decimals. It ran where attention was still made of products, so attention counts. Only forward runs are written
down; the gradient formulas that stand there were never used for a weight. What a detector counts depends on how many
boxes it chooses, which is not written down: `make test-zoo` says how many there were.
"""

from __future__ import annotations

from flopscan.conventions import _products, dispatcher
from flopscan.core.convention import Convention, Handle


def _kernel(handle: Handle) -> Handle:
    return lambda call: handle(call) // 2


CONVENTION = Convention(
    name="torchvision",
    version="0.29.1",
    unit="MAC",
    summary="MACs of products, convolutions and attention, no biases; forward only; `_ops` of a weight is this in G",
    source="torchvision 0.29.1, test/common_extended_utils.py and the weights' meta",
    handles={
        **{name: _kernel(handle) for name, handle in dispatcher.CONVENTION.handles.items()},
        **_products.MACS,
        _products.ATTENTION: _products.attention,
    },
    phases=("forward",),
)
