"""The cross selective scan under autocast and under torch.func."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.functional import one_by_one
from flopscan.ops.selective_scan.transforms import AUTOCAST, AUTOCAST_KEYS

_DEFAULTS = (None, None, None, None, None, None, None, False)
_OPERANDS = 7


def widest(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """Under autocast: x, delta, B and C in the widest dtype among them; the rest as it is."""
    streams = [x, delta, B, C]
    if all(each.is_floating_point() for each in streams):
        dtype = functools.reduce(torch.promote_types, (each.dtype for each in streams))
        x, delta, B, C = (each.to(dtype) for each in streams)
    with torch._C._ExcludeDispatchKeyGuard(AUTOCAST):
        return torch.ops.flopscan.cross_selective_scan.default(x, delta, A, B, C, *rest, **options)


def register(library: torch.library.Library) -> None:
    """Put `widest` before the operator of ``library`` under autocast."""
    for key in AUTOCAST_KEYS:
        library.impl("cross_selective_scan", widest, key)


def folded(call: Any, info: Any, in_dims: Sequence[Any], *operands: Any, **options: Any) -> Any:
    """Under vmap: one call with as many more batches; a loop where A, D or delta_bias is mapped over too."""
    v = info.batch_size
    given = (*operands, *_DEFAULTS[len(operands) :])  # torch leaves out what is the default
    dims = (*in_dims, *([None] * (len(given) - len(in_dims))))
    options["keep"] = options.get("keep", False) or (
        torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in given)
    )
    if any(dims[i] is not None for i in (2, 5, 6)):
        return one_by_one(call, info, dims, *given, **options)

    def fold(x: Tensor, dim: int | None) -> Tensor:
        return (x.expand(v, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)

    streams = [fold(x, dim) if i in (0, 1, 3, 4) else x for i, (x, dim) in enumerate(zip(given, dims, strict=True))]
    out, saved = call(*streams, **options)
    return (out.unflatten(0, (v, -1)), saved.reshape(v, saved.numel() // v)), (0, 0)
