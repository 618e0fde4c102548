"""The selective scan under autocast and under torch.vmap."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
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
    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        return torch.ops.flopscan.selective_scan.default(u, delta, A, B, C, D, z, *rest, **options)


_AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA", "AutocastXPU")
_AUTOCAST = functools.reduce(
    operator.or_, (torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)) for key in _AUTOCAST_KEYS)
)
for _key in _AUTOCAST_KEYS:
    library.impl("selective_scan", _widest, _key)


_DEFAULTS = (None, None, None, None, None, None, None, None, False, None)


def _folded(info: Any, in_dims: Sequence[Any], *operands: Any, **options: Any) -> Any:
    """Under vmap: as many scans as one with as many more channels, and groups; what is not mapped over is repeated."""
    v = info.batch_size
    given = (*operands, *_DEFAULTS[len(operands) :])  # torch leaves out what is the default
    dims = (*in_dims, *([None] * (len(given) - len(in_dims))))
    u, delta, A, B, C, D, z, bias, softplus, state = (
        x if dim is None or not isinstance(x, Tensor) else x.movedim(dim, 0) for x, dim in zip(given, dims, strict=True)
    )
    mapped = [dim is not None for dim in dims]
    groups = max([x.shape[-3] if x.dim() - is_mapped == 4 else 1 for x, is_mapped in ((B, mapped[3]), (C, mapped[4]))])

    def fold(x: Tensor | None, is_mapped: bool, axis: int) -> Tensor | None:
        """``x`` with the axis that is mapped over in front of ``axis`` of what is left, both as one."""
        if x is None:
            return None
        x = x if is_mapped else x.expand(v, *x.shape)
        return x.movedim(0, axis).flatten(axis, axis + 1)

    def matrix(x: Tensor, is_mapped: bool) -> Tensor | None:
        if x.dim() - is_mapped == 2:
            return fold(x, is_mapped, 0)
        if x.dim() - is_mapped == 3:
            x = x.unsqueeze(-3)
            x = x.expand(*x.shape[:-3], groups, *x.shape[-2:])
        return fold(x, is_mapped, 1)

    folded = (
        fold(u, mapped[0], 1), fold(delta, mapped[1], 1), fold(A, mapped[2], 0), matrix(B, mapped[3]),
        matrix(C, mapped[4]), fold(D, mapped[5], 0), fold(z, mapped[6], 1), fold(bias, mapped[7], 0), softplus,
        fold(state, mapped[9], 1),
    )  # fmt: skip
    options["keep"] = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in folded)
    out, last_state, saved = torch.ops.flopscan.selective_scan.default(*folded, **options)
    returned = options.get("return_last_state", False)
    last_state = last_state.unflatten(1, (v, -1)) if returned else last_state
    return (out.unflatten(1, (v, -1)), last_state, saved), (1, 1 if returned else None, None)


torch.library.register_vmap("flopscan::selective_scan", _folded, lib=library)
