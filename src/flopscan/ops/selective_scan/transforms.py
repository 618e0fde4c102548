"""The selective scan under autocast."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.selective_scan.operator import library


def _widest(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
    *rest: Any, **options: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Under autocast: u, delta, z, and B and C by position in the widest dtype among them; the rest as it is."""
    B_varies, C_varies = B.dim() > 2, C.dim() > 2
    streams = [u, delta, *([z] if z is not None else []), *([B] if B_varies else []), *([C] if C_varies else [])]
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in streams))
    if all(x.is_floating_point() for x in streams):
        u, delta, z = (None if x is None else x.to(dtype) for x in (u, delta, z))
        B, C = B.to(dtype) if B_varies else B, C.to(dtype) if C_varies else C
    with torch._C._ExcludeDispatchKeyGuard(AUTOCAST):
        return torch.ops.flopscan.selective_scan.default(u, delta, A, B, C, D, z, *rest, **options)


AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA", "AutocastXPU")
AUTOCAST = functools.reduce(
    operator.or_, (torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)) for key in AUTOCAST_KEYS)
)
for _key in AUTOCAST_KEYS:
    library.impl("selective_scan", _widest, _key)
