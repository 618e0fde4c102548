"""The selective scan of an image in VMamba's four directions as one torch operator."""

from flopscan.ops.cross_selective_scan.operator import cross_selective_scan

__all__ = ["cross_selective_scan"]
