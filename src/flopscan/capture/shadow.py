"""Shadows: real values beside small shape-only tensors, so that `.item()`, `.all()` and `.tolist()` answer truthfully.

A shadow hangs on the tensor object. Views share a validity token with their base: when one of them is written with a
value that nobody knows, all of them stop answering.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LIMIT = 1 << 16  # elements of an integer or bool tensor that keep their values
LIMIT_FLOAT = 1 << 10  # and of a floating-point one

_ATTRIBUTE = "_flopscan_shadow"


def attach(tensor: Tensor, real: Tensor, token: list[bool] | None = None) -> Tensor:
    """``tensor`` with ``real`` as its value, if that is small."""
    limit = LIMIT_FLOAT if real.is_floating_point() or real.is_complex() else LIMIT
    if real.numel() <= limit:
        tensor.__dict__[_ATTRIBUTE] = (real, [True] if token is None else token)
    return tensor


def value(tensor: Tensor) -> Tensor | None:
    """The real value of ``tensor``, or None where only its shape is known."""
    shadow = tensor.__dict__.get(_ATTRIBUTE)
    if shadow is not None:
        return shadow[0] if shadow[1][0] else None
    if not tensor.is_meta and tensor.numel() <= LIMIT:
        return tensor
    return None


def token(tensor: Tensor) -> list[bool] | None:
    """The validity token that ``tensor`` shares with its views."""
    shadow = tensor.__dict__.get(_ATTRIBUTE)
    return None if shadow is None else shadow[1]


def forget(tensor: Tensor) -> None:
    """Stop answering for ``tensor`` and all of its views: an unknown value was written."""
    shadow = tensor.__dict__.get(_ATTRIBUTE)
    if shadow is not None:
        shadow[1][0] = False


def on_meta(tensor: Tensor, *, known: bool = True) -> Tensor:
    """A meta tensor like ``tensor`` (sizes, strides, dtype, requires_grad), with its values where they are small."""
    if tensor.is_meta:
        return tensor
    if tensor.layout is not torch.strided:
        return tensor.to("meta")
    meta = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    if known and not tensor.is_floating_point() and tensor.numel() <= LIMIT:
        attach(meta, tensor.detach().to("cpu", copy=True))
    return meta.requires_grad_() if tensor.requires_grad else meta


def real_tree(tree: Any) -> Any:
    """``tree`` with every tensor replaced by its value; the caller has checked that each has one."""
    if isinstance(tree, Tensor):
        return value(tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)(real_tree(x) for x in tree)
    if isinstance(tree, dict):
        return {k: real_tree(v) for k, v in tree.items()}
    return tree
