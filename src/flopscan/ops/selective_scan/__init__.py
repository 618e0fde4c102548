"""The selective scan as a torch operator: one call that every dispatcher-level tool sees, on any device."""

from flopscan.ops.selective_scan import transforms  # noqa: F401  (registers them)
from flopscan.ops.selective_scan.operator import selective_scan

__all__ = ["selective_scan"]
