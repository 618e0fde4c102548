"""Inputs: shapes, specs and real tensors become shape-only tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flopscan.capture import shadow
from flopscan.core.trace import TensorSpec
from flopscan.errors import UsageError


def materialize(value: Any, *, top: bool = True, device: str = "meta") -> Any:
    """``value`` with specs and tensors as tensors on ``device``; at the top a tuple of ints is a float32 shape.

    An integer input that is given by its shape holds zeros, so that an embedding can look it up; a boolean one True.
    """
    if isinstance(value, TensorSpec):
        return _tensor(value, device)
    if isinstance(value, Tensor):
        if device == "meta":
            return shadow.on_meta(value)
        return value.detach().clone().requires_grad_(value.requires_grad)  # what runs may write into it
    if top and isinstance(value, (tuple, torch.Size)) and value and all(type(n) is int for n in value):
        return _tensor(TensorSpec(tuple(value)), device)
    if isinstance(value, dict):
        return type(value)((k, materialize(v, top=False, device=device)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        items = [materialize(v, top=False, device=device) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _tensor(spec: TensorSpec, device: str) -> Tensor:
    dtype = getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"{spec.dtype!r} is not a dtype of torch; expected one such as float32, bfloat16 or int64")
    if any(n < 0 for n in spec.shape):
        raise UsageError(f"the shape {spec.shape} has a negative size; expected sizes of 0 or more")
    if dtype.is_floating_point or dtype.is_complex:
        return (
            torch.empty(spec.shape, dtype=dtype, device="meta")
            if device == "meta"
            else torch.randn(spec.shape, dtype=torch.float32).to(dtype)
        )
    fill = torch.ones if dtype is torch.bool else torch.zeros
    real = fill(spec.shape, dtype=dtype)
    return shadow.on_meta(real) if device == "meta" else real
