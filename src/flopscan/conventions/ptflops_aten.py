"""ptflops with its `aten` backend: MACs of products and convolutions with their biases, as they are dispatched.

Facts of each formula from ptflops/aten_ops.py (MIT). Attention as one kernel, products with an addend of three axes
and everything else are zero. The model runs on a CPU in eval mode, forward alone.
"""

from __future__ import annotations

from flopscan.conventions import _products, dispatcher
from flopscan.conventions._scan import CAUSAL_CONVOLUTION
from flopscan.conventions._written_out import where_written_out
from flopscan.conventions.torch import KERNELS, lstm
from flopscan.conventions.torch_2_13 import CONVENTION as _torch
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call


def _addmm(call: Call) -> int:
    """The product, and one for each element of the result."""
    return _products.matrices(call) + call.out.numel


def _convolution(call: Call) -> int:
    return _products.convolution(call) + (call.out.numel if call.get("bias") is not None else 0)


def _attention(call: Call) -> int:
    """Nothing as one kernel; two products where a CPU has none."""
    return _torch.handles[_products.ATTENTION](call) // 2


def _causal_convolution(call: Call) -> int:
    """As a convolution, at the positions that are cut off too."""
    macs = dispatcher.CONVENTION.handles[CAUSAL_CONVOLUTION](call) // 2
    return macs + (macs // call["weight"].shape[-1] if call.get("bias") is not None else 0)


def _kernel(handle: Handle) -> Handle:
    return lambda call: handle(call) // 2


HANDLES: dict[str, Handle] = {
    **{name: _kernel(handle) for name, handle in KERNELS.items()},
    CAUSAL_CONVOLUTION: where_written_out(_causal_convolution),
    **_products.MACS,
    "aten::addmm": _addmm,
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    _products.ATTENTION: _attention,
    "torch::lstm": lstm,
}
CONVENTION = Convention(
    name="ptflops-aten",
    version="0.7.5",
    unit="MAC",
    summary="MACs of products and convolutions plus one an output for a bias, as they are dispatched; forward only",
    source="ptflops 0.7.5, ptflops/aten_ops.py",
    handles=HANDLES,
    phases=("forward",),
    bugs=(
        Bug(
            key="attention",
            name="attention as one kernel",
            source="ptflops 0.7.5, ptflops/aten_ops.py: it lists no attention",
            right={_products.ATTENTION: _products.attention},
        ),
    ),
)
