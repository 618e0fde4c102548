"""Operators that flopscan brings itself. They import torch alone and can be used without the rest of the package."""

from flopscan.ops.selective_scan import selective_scan

__all__ = ["selective_scan"]
