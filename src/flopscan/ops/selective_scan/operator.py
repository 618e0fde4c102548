"""``flopscan::selective_scan`` and its gradient as torch operators: one call each way, on every device.

The operator always gives three tensors: the output; the last state, and what the gradient needs, both of shape (0,)
where they are not asked for. The gradient operator always gives nine, for u, delta, A, B, C, D, z, delta_bias and
initial_state in this order; that of an operand that is absent is of shape (0,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.functional import Transformable, refuse_second
from flopscan.ops.selective_scan import folding, forms
from flopscan.ops.selective_scan.operands import check, state_dtype

_OPERANDS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? z=None, Tensor? delta_bias=None, "
    "bool delta_softplus=False, Tensor? initial_state=None"
)
_GRADIENTS = 9

# kept alive by this name: the operators go when their library does
library = torch.library.Library("flopscan", "FRAGMENT")
library.define(
    f"selective_scan({_OPERANDS}, *, bool return_last_state=False, bool keep=False, ScalarType? dtype=None)"
    " -> (Tensor, Tensor, Tensor)",
    tags=[torch.Tag.pt2_compliant_tag],
)
library.define(
    f"selective_scan_backward(Tensor grad, {_OPERANDS}, Tensor? grad_last_state=None, Tensor? saved=None)"
    f" -> ({', '.join(['Tensor'] * _GRADIENTS)})",
    tags=[torch.Tag.pt2_compliant_tag],
)


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
    return_last_state: bool = False,
    initial_state: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The output (b d l) of the selective scan; with ``return_last_state`` also the state (b d n) after it.

    u, delta, z: b d l; A: d n, real or complex, n up to 256; B, C: d n | b n l | b g n l, with 2l for l where A is
    complex; D, delta_bias: d; initial_state: b d n, zero if there is none. The formula is in
    `flopscan.ops.selective_scan.reference`. The output has the dtype of u, or ``dtype``; the states are float32, of
    float64 operands float64, complex where A is. Differentiable once, through the last state too.

    Raises ValueError for shapes and devices, TypeError for dtypes that do not go together, in axis letters.

    Source: Gu and Dao, Mamba, https://arxiv.org/abs/2312.00752; the layouts are mamba_ssm's.

    >>> u, delta, A, B = torch.rand(1, 4, 9), torch.rand(1, 4, 9), -torch.rand(4, 3), torch.rand(1, 3, 9)
    >>> selective_scan(u, delta, A, B, B).shape
    torch.Size([1, 4, 9])
    """
    operands = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    keep = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in operands)
    out, last_state, _ = transformable(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state,
        return_last_state=return_last_state, keep=keep, dtype=dtype,
    )  # fmt: skip
    return (out, last_state) if return_last_state else out


def _compute(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    *,
    return_last_state: bool = False,
    keep: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three results, by the form for the device."""
    check(u, delta, A, B, C, D, z, delta_bias, initial_state, dtype)
    operands = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    out, last_state, saved = forms.forward(
        operands, delta_softplus=delta_softplus, keep=keep, out_dtype=dtype or u.dtype
    )
    empty = last_state.new_empty
    kept = saved.flatten() if keep else empty(0)
    return out.contiguous(), last_state.contiguous() if return_last_state else empty(0), kept


def _shape(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    *,
    return_last_state: bool = False,
    keep: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three results without values."""
    check(u, delta, A, B, C, D, z, delta_bias, initial_state, dtype)
    (b, d, l), n, state = u.shape, A.shape[1], state_dtype(u, A)
    return (
        u.new_empty((b, d, l), dtype=dtype or u.dtype),
        u.new_empty((b, d, n) if return_last_state else (0,), dtype=state),
        # in one axis: of more, torch.export would ask which of them are of size 1
        u.new_empty(
            math.prod(forms.saved_shape((u, delta, A, B, C, D, z, delta_bias, initial_state))) if keep else 0,
            dtype=state,
        ),
    )


def _compute_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    grad_last_state: Tensor | None = None,
    saved: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The nine gradients, by the form for the device; without ``saved`` the forward runs again."""
    check(u, delta, A, B, C, D, z, delta_bias, initial_state)
    operands = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    if saved is None or not saved.numel():
        _, _, saved = forms.forward(operands, delta_softplus=delta_softplus, keep=True, out_dtype=u.dtype)
    else:
        saved = saved.view(forms.saved_shape(operands))
    grads = forms.backward(
        grad, grad_last_state, operands, saved,
        delta_softplus=delta_softplus, deterministic=torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip
    return tuple(grad.new_empty(0) if each is None else each.contiguous() for each in grads)


def _shape_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    grad_last_state: Tensor | None = None,
    saved: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Nine gradients without values."""
    operands = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return tuple(grad.new_empty(0) if each is None else each.new_empty(each.shape) for each in operands)


library.impl("selective_scan", _compute, "CompositeExplicitAutograd")
library.impl("selective_scan", _shape, "Meta")
library.impl("selective_scan_backward", _compute_backward, "CompositeExplicitAutograd")
library.impl("selective_scan_backward", _shape_backward, "Meta")


def _save(ctx: Any, inputs: Sequence[Any], keyword_only_inputs: Any, output: Sequence[Tensor]) -> None:
    """Keep the operands and the states for the gradient."""
    u, delta, A, B, C, D, z, delta_bias, ctx.delta_softplus, initial_state = inputs
    ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, initial_state, output[2])
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, grad: Tensor | None, grad_last_state: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradient of every operand, by one call of the gradient operator."""
    *operands, initial_state, saved = ctx.saved_tensors
    if grad is None:
        grad = torch.zeros_like(operands[0])
    grads = transformable.gradient(grad, *operands, ctx.delta_softplus, initial_state, grad_last_state, saved)
    *found, of_state = (
        None if operand is None else each for operand, each in zip((*operands, initial_state), grads, strict=True)
    )
    return *found, None, of_state


def _folded(info: Any, in_dims: Sequence[Any], *args: Any, **options: Any) -> Any:
    """The operator under vmap."""
    return folding.folded(transformable, info, in_dims, *args, **options)


def _folded_backward(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
    """Its gradient under vmap."""
    return folding.folded_backward(transformable.gradient, info, in_dims, *args)


transformable = Transformable("selective_scan", _save, _differentiate, _folded, _folded_backward)
torch.library.register_vmap("flopscan::selective_scan", _folded, lib=library)
torch.library.register_autograd("flopscan::selective_scan", _differentiate, setup_context=_save, lib=library)
torch.library.register_autograd("flopscan::selective_scan_backward", refuse_second("selective_scan"), lib=library)
