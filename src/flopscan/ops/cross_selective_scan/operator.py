"""``flopscan::cross_selective_scan`` and its gradient as torch operators: one call each way, on every device.

The operator gives the image and what the gradient needs, of shape (0,) where that is not asked for. The gradient
operator gives seven tensors, for x, delta, A, B, C, D and delta_bias in this order; that of an operand that is absent
is of shape (0,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from flopscan.ops import asked
from flopscan.ops.cross_selective_scan import composed, fused, transforms
from flopscan.ops.cross_selective_scan.operands import OP, check
from flopscan.ops.functional import Transformable, one_by_one, refuse_second
from flopscan.ops.selective_scan import forms
from flopscan.ops.selective_scan.operands import real_dtype

_OPERANDS = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? delta_bias=None, "
    "bool delta_softplus=False"
)
_GRADIENTS = 7

library = torch.library.Library("flopscan", "FRAGMENT")
library.define(
    f"cross_selective_scan({_OPERANDS}, *, bool keep=False, ScalarType? dtype=None) -> (Tensor, Tensor)",
    tags=[torch.Tag.pt2_compliant_tag],
)
library.define(
    f"cross_selective_scan_backward(Tensor grad, {_OPERANDS}, Tensor? saved=None)"
    f" -> ({', '.join(['Tensor'] * _GRADIENTS)})",
    tags=[torch.Tag.pt2_compliant_tag],
)


def cross_selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The image (b d h w) after a selective scan in four directions whose outputs are added up, as in VMamba.

    x: b d h w, the image itself; delta: b 4 d l; A: 4d n, real, n up to 256; B, C: b 4 n l; D, delta_bias: 4d, with
    l = h w. The directions are row by row, column by column, and both from the end; what belongs to one lies in its
    order, as projections of its sequence do. The same as

        selective_scan(cross_scan(x), delta, A, B, C, D, delta_bias=delta_bias), merged

    where neither the four sequences nor their outputs are made on a CPU, nor of one state on a CUDA GPU. The output has
    the dtype of x, or ``dtype``; states are float32, of float64 operands float64. Differentiable once.

    Raises ValueError for shapes and devices, TypeError for dtypes that do not go together, in axis letters.

    Source: Liu et al., VMamba, https://arxiv.org/abs/2401.10166.

    >>> x, delta, A, B = torch.rand(1, 2, 3, 5), torch.rand(1, 4, 2, 15), -torch.rand(8, 1), torch.rand(1, 4, 1, 15)
    >>> cross_selective_scan(x, delta, A, B, B).shape
    torch.Size([1, 2, 3, 5])
    """
    operands = (x, delta, A, B, C, D, delta_bias)
    keep = torch.is_grad_enabled() and any(isinstance(each, Tensor) and each.requires_grad for each in operands)
    out, _ = transformable(*operands, delta_softplus, keep=keep, dtype=dtype)
    return out


Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


def _form(operands: Operands) -> ModuleType:
    """The form for such operands: one kernel of a GPU, the CPU's own, or three steps; values are not looked at."""
    x = operands[0]
    if x.device.type == "cpu" and x.dtype != torch.float64 and asked.form() in (None, "cpu") and forms.find("cpu"):
        from flopscan.ops.cross_selective_scan import cpu

        return cpu
    return fused if fused.supports(*operands) else composed


def _saved_shape(operands: Operands) -> tuple[int, ...]:
    """The shape of what the forward keeps for the gradient."""
    form = _form(operands)
    if form is composed:
        return composed.saved_shape(*operands)
    (b, d, h, w), n = operands[0].shape, operands[2].shape[1]
    shape: tuple[int, ...] = form.saved_shape(b, d, h * w, n)
    return shape


def _taken(operands: Operands) -> tuple[ModuleType, Operands]:
    """The form for such operands, and these as it takes them: weights in the dtype of the states."""
    form = _form(operands)
    if form is composed:
        return form, operands
    x, delta, A, B, C, D, delta_bias = operands
    D, delta_bias = (None if each is None else each.float().contiguous() for each in (D, delta_bias))
    return form, (x, delta, A.float().contiguous(), B, C, D, delta_bias)


def _compute(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, *,
    keep: bool = False, dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The two results, by the form for the device."""
    check(x, delta, A, B, C, D, delta_bias, dtype)
    form, own = _taken((x, delta, A, B, C, D, delta_bias))
    out, saved = form.forward(*own, delta_softplus=delta_softplus, keep=keep, out_dtype=dtype or x.dtype)
    return out.contiguous(), saved.flatten() if keep else saved.new_empty(0)


def _shape(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, *,
    keep: bool = False, dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The two results without values."""
    check(x, delta, A, B, C, D, delta_bias, dtype)
    kept = math.prod(_saved_shape((x, delta, A, B, C, D, delta_bias))) if keep else 0
    return x.new_empty(x.shape, dtype=dtype or x.dtype), x.new_empty(kept, dtype=real_dtype(x))


def _compute_backward(
    grad: Tensor, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, saved: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The seven gradients, by the form for the device; without ``saved`` the forward runs again."""
    check(x, delta, A, B, C, D, delta_bias)
    operands = (x, delta, A, B, C, D, delta_bias)
    form, own = _taken(operands)
    if saved is None or not saved.numel():
        _, saved = form.forward(*own, delta_softplus=delta_softplus, keep=True, out_dtype=x.dtype)
    else:
        saved = saved.view(_saved_shape(operands))
    grads = form.backward(
        grad, *own, saved,
        delta_softplus=delta_softplus, deterministic=torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip
    return tuple(
        grad.new_empty(0) if operand is None else each.to(operand.dtype).contiguous()
        for operand, each in zip(operands, grads, strict=True)
    )


def _shape_backward(grad: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """Seven gradients without values."""
    operands = (*rest, None, None)[:_GRADIENTS]
    return tuple(grad.new_empty(0) if each is None else each.new_empty(each.shape) for each in operands)


library.impl("cross_selective_scan", _compute, "CompositeExplicitAutograd")
library.impl("cross_selective_scan", _shape, "Meta")
library.impl("cross_selective_scan_backward", _compute_backward, "CompositeExplicitAutograd")
library.impl("cross_selective_scan_backward", _shape_backward, "Meta")


def _save(ctx: Any, inputs: Sequence[Any], keyword_only_inputs: Any, output: Sequence[Tensor]) -> None:
    """Keep the operands and the states for the gradient."""
    *operands, ctx.delta_softplus = inputs
    ctx.save_for_backward(*operands, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradient of every operand, by one call of the gradient operator."""
    *operands, saved = ctx.saved_tensors
    if grad is None:
        return (*(None for _ in operands), None)
    grads = transformable.gradient(grad, *operands, ctx.delta_softplus, saved)
    return *(None if operand is None else each for operand, each in zip(operands, grads, strict=True)), None


def _folded(info: Any, in_dims: Sequence[Any], *args: Any, **options: Any) -> Any:
    """The operator under vmap."""
    return transforms.folded(transformable, info, in_dims, *args, **options)


def _folded_backward(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
    """Its gradient under vmap: one call after the other, since each has sums of its own."""
    return one_by_one(transformable.gradient, info, in_dims, *args)


transformable = Transformable(OP, _save, _differentiate, _folded, _folded_backward)
transforms.register(library)
torch.library.register_vmap(f"flopscan::{OP}", _folded, lib=library)
torch.library.register_autograd(f"flopscan::{OP}", _differentiate, setup_context=_save, lib=library)
torch.library.register_autograd(f"flopscan::{OP}_backward", refuse_second(OP), lib=library)
