"""Operators that flopscan brings itself. They import torch alone and can be used without the rest of the package."""

from flopscan.ops.causal_conv1d import causal_conv1d, causal_conv1d_update
from flopscan.ops.installing import Installed, install
from flopscan.ops.selective_scan import selective_scan
from flopscan.ops.selective_state_update import selective_state_update

__all__ = [
    "Installed",
    "causal_conv1d",
    "causal_conv1d_update",
    "install",
    "selective_scan",
    "selective_state_update",
]
