"""``flopscan::selective_scan`` and its gradient as torch operators: shapes on meta, the definition elsewhere.

The gradient operator always returns eight tensors, for u, delta, A, B, C, D, z, delta_bias in this order; that of an
operand that is absent is empty, of shape (0,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.selective_scan import reference

_OPERANDS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, "
    "Tensor? D, Tensor? z, Tensor? delta_bias, bool delta_softplus"
)

# kept alive by this name: the operators go when their library does
_library = torch.library.Library("flopscan", "DEF")
_library.define(f"selective_scan({_OPERANDS}) -> Tensor")
_library.define(f"selective_scan_backward(Tensor grad, {_OPERANDS}) -> ({', '.join(['Tensor'] * 8)})")


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """The output (b d l) of the selective scan, in the dtype of u.

    u, delta, z: b d l; A: d n, real or complex; B, C: d n | b n l | b g n l, with 2l for l where A is complex;
    D, delta_bias: d. The formula is in `flopscan.ops.selective_scan.reference`. Differentiable once.
    """
    return torch.ops.flopscan.selective_scan.default(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def _compute(u: Tensor, *operands: Any) -> Tensor:
    """The output, by the definition."""
    out: Any = reference.selective_scan(u, *operands)
    return out.contiguous()


def _shape(u: Tensor, *operands: Any) -> Tensor:
    """An output without values."""
    return u.new_empty(u.shape)


def _compute_backward(grad: Tensor, *operands: Any) -> tuple[Tensor, ...]:
    """The eight gradients, by the definition."""
    grads = reference.selective_scan_backward(grad, *operands)
    return tuple(grad.new_empty(0) if each is None else each.contiguous() for each in grads)


def _shape_backward(grad: Tensor, *operands: Any) -> tuple[Tensor, ...]:
    """Eight gradients without values."""
    return tuple(grad.new_empty(0) if each is None else each.new_empty(each.shape) for each in operands[:8])


_library.impl("selective_scan", _compute, "CompositeExplicitAutograd")
_library.impl("selective_scan", _shape, "Meta")
_library.impl("selective_scan_backward", _compute_backward, "CompositeExplicitAutograd")
_library.impl("selective_scan_backward", _shape_backward, "Meta")


def _save(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    """Keep the operands for the gradient."""
    *tensors, ctx.delta_softplus = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of every operand, by one call of the gradient operator."""
    operands = ctx.saved_tensors
    grads = torch.ops.flopscan.selective_scan_backward.default(grad, *operands, ctx.delta_softplus)
    return *(None if operand is None else each for operand, each in zip(operands, grads, strict=True)), None


def _refuse_second(ctx: Any, *grads: Tensor) -> None:
    """Raise NotImplementedError: the gradient has no gradient."""
    raise NotImplementedError("selective_scan can be differentiated once: its gradient has no gradient")


torch.library.register_autograd("flopscan::selective_scan", _differentiate, setup_context=_save, lib=_library)
torch.library.register_autograd("flopscan::selective_scan_backward", _refuse_second, lib=_library)
