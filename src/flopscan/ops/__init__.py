"""Operators that flopscan brings itself. They import torch alone and can be used without the rest of the package."""

from flopscan.ops.causal_conv1d import causal_conv1d, causal_conv1d_update
from flopscan.ops.cross_selective_scan import cross_selective_scan
from flopscan.ops.installing import Installed, install
from flopscan.ops.selective_scan import selective_scan
from flopscan.ops.selective_state_update import selective_state_update

__all__ = [
    "Installed",
    "causal_conv1d",
    "causal_conv1d_update",
    "cross_selective_scan",
    "install",
    "selective_scan",
    "selective_state_update",
]
