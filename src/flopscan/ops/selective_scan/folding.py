"""The selective scan under torch.vmap: as many scans are one with as many more channels, and groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.selective_scan import forms

_DEFAULTS = (None, None, None, None, None, None, None, None, False, None)


class _Fold:
    """The operands of as many scans as those of one; what is not mapped over is repeated."""

    def __init__(self, v: int, given: Sequence[Any], dims: Sequence[int | None]) -> None:
        self.v = v
        self._mapped = [dim is not None for dim in dims]
        u, delta, A, B, C, D, z, bias, softplus, state = (
            x if dim is None or not isinstance(x, Tensor) else x.movedim(dim, 0)
            for x, dim in zip(given, dims, strict=True)
        )
        mapped = self._mapped
        self._ranks = [
            x.dim() - is_mapped if isinstance(x, Tensor) else 0
            for x, is_mapped in zip((u, delta, A, B, C, D, z, bias, softplus, state), mapped, strict=True)
        ]
        matrices = ((B, self._ranks[3]), (C, self._ranks[4]))
        self._groups = max(x.shape[-3] if rank == 4 else 1 for x, rank in matrices)
        self.operands = (
            self.fold(u, mapped[0], 1), self.fold(delta, mapped[1], 1), self.fold(A, mapped[2], 0),
            self._matrix(B, mapped[3]), self._matrix(C, mapped[4]), self.fold(D, mapped[5], 0),
            self.fold(z, mapped[6], 1), self.fold(bias, mapped[7], 0), softplus, self.fold(state, mapped[9], 1),
        )  # fmt: skip

    def fold(self, x: Tensor | None, is_mapped: bool, axis: int) -> Tensor | None:
        """``x`` with the axis that is mapped over in front of ``axis`` of what is left, both as one."""
        if x is None:
            return None
        x = x if is_mapped else x.expand(self.v, *x.shape)
        return x.movedim(0, axis).flatten(axis, axis + 1)

    def _matrix(self, x: Tensor, is_mapped: bool) -> Tensor | None:
        """B or C with a group for each of its own groups and of those that are mapped over."""
        rank = x.dim() - is_mapped
        if rank == 2:
            return self.fold(x, is_mapped, 0)
        if rank == 3:
            x = x.unsqueeze(-3)
            x = x.expand(*x.shape[:-3], self._groups, *x.shape[-2:])
        return self.fold(x, is_mapped, 1)

    def gradients(self, found: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        """The gradients of the one scan as those of each, by the operands in their order, and where each is mapped."""
        axes = (1, 1, 0, 1, 1, 0, 1, 0, 1)
        operands = (*self.operands[:8], self.operands[9])
        ranks = (*self._ranks[:8], self._ranks[9])
        grads, dims = [], list[int | None]()
        for i, (grad, operand, axis) in enumerate(zip(found, operands, axes, strict=True)):
            if operand is None:
                grads.append(grad)
                dims.append(None)
                continue
            axis = 0 if ranks[i] == 2 and i in (3, 4) else axis
            each = grad.unflatten(axis, (self.v, -1))
            if i in (3, 4) and ranks[i] == 3:  # it has no groups of its own
                each = each.sum(2)
            grads.append(each)
            dims.append(axis)
        return tuple(grads), tuple(dims)


def folded(call: Any, info: Any, in_dims: Sequence[Any], *operands: Any, **options: Any) -> Any:
    """The three results of ``call`` under vmap, and where each is mapped; what is kept is that of the one scan."""
    given = (*operands, *_DEFAULTS[len(operands) :])  # torch leaves out what is the default
    fold = _Fold(info.batch_size, given, (*in_dims, *([None] * (len(given) - len(in_dims)))))
    options["keep"] = options.get("keep", False) or (
        torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in fold.operands)
    )
    out, last_state, saved = call(*fold.operands, **options)
    returned = options.get("return_last_state", False)
    last_state = last_state.unflatten(1, (fold.v, -1)) if returned else last_state
    return (out.unflatten(1, (fold.v, -1)), last_state, saved), (1, 1 if returned else None, None)


def folded_backward(call: Any, info: Any, in_dims: Sequence[Any], grad: Tensor, *rest: Any) -> Any:
    """The nine gradients of ``call`` under vmap, one of each for all that is mapped over."""
    *given, grad_last, saved = rest
    grad_dim, *dims, last_dim, _ = in_dims
    fold = _Fold(info.batch_size, given, dims)

    def streamed(x: Tensor | None, dim: int | None) -> Tensor | None:
        return fold.fold(x if x is None or dim is None else x.movedim(dim, 0), dim is not None, 1)

    kept = math.prod(forms.saved_shape((*fold.operands[:8], fold.operands[9])))
    if saved is not None and saved.numel() != kept:  # the forward was that of one: it runs again
        saved = None
    found = call(streamed(grad, grad_dim), *fold.operands, streamed(grad_last, last_dim), saved)
    return fold.gradients(found)
