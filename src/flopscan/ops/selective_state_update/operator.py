"""One decoding step of a selective scan: every state decays, takes the new input and is read out, in place.

    state = exp(dt A) state + dt x B        y = sum over n of C state + D x, gated by silu(z)

Source: mamba_ssm `selective_state_update`, whose names and layouts these are; of Mamba d channels, of Mamba-2 h heads
of p channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flopscan.ops.checks import Shapes, check_dtype, check_tensors, remembered
from flopscan.ops.gpu import kernels
from flopscan.ops.selective_state_update import cuda

_OP = "selective_state_update"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OPTIONAL = ("D", "z", "dt_bias", "state_batch_indices")

_library = torch.library.Library("flopscan", "FRAGMENT")
_library.define(
    "selective_state_update(Tensor(a!) state, Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D=None, "
    "Tensor? z=None, Tensor? dt_bias=None, bool dt_softplus=False, Tensor? state_batch_indices=None) -> Tensor",
    tags=[torch.Tag.pt2_compliant_tag],
)


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """The output of one step, in the shape and dtype of x; ``state`` is moved on in place.

    state: b d n; x, dt, z: b d; A: d n; B, C: b n; D, dt_bias: d. With heads, state: b h p n; x, dt, z: b h p;
    A: h p n; B, C: b g n; D, dt_bias: h p. With state_batch_indices (b), ``state`` holds those of more sequences, and
    these are the ones at hand. Not differentiable. Raises ValueError and TypeError for operands that do not fit.
    """
    with torch.no_grad():
        out: Tensor = torch.ops.flopscan.selective_state_update.default(
            state, x, dt, A, B, C, D, z, dt_bias, dt_softplus, state_batch_indices
        )
    return out


@remembered
def _check(**operands: Any) -> None:
    """Raise ValueError or TypeError, in axis letters, unless the operands are those of one step."""
    check_tensors(_OP, operands, optional=_OPTIONAL)
    heads = operands["state"].dim() == 4
    rows = "h p" if heads else "d"
    shared = ("b n", "b g n") if heads else ("b n", "b 1 n")
    cache = "s" if operands["state_batch_indices"] is not None else "b"
    forms = {
        "x": (f"b {rows}",), "dt": (f"b {rows}",), "state": (f"{cache} {rows} n",), "A": (f"{rows} n",), "B": shared,
        "C": shared, "D": (rows,), "z": (f"b {rows}",), "dt_bias": (rows,), "state_batch_indices": ("b",),
    }  # fmt: skip
    shapes = Shapes(_OP)
    for name, of in forms.items():
        if operands[name] is not None:
            shapes.take(name, operands[name], *of)
            allowed = (torch.int32, torch.int64) if name == "state_batch_indices" else _FLOATS
            check_dtype(_OP, name, operands[name], allowed)
    if heads:
        shapes.divides("g", "h")


def _compute(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    z: Tensor | None = None, dt_bias: Tensor | None = None, dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The step by one kernel, or in plain torch: as many operations as the formula has."""
    operands = (state, x, dt, A, B, C, D, z, dt_bias)
    key = kernels.signature((*operands, state_batch_indices), dt_softplus)
    plan = cuda.PLANS.find(key)
    if plan is None:
        _check(state=state, x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias,
               state_batch_indices=state_batch_indices)  # fmt: skip
        if cuda.supports(*operands):
            plan = cuda.planned(*operands, dt_softplus, state_batch_indices)
            cuda.PLANS.keep(key, plan)
    if plan is not None:
        out = cuda.update(*operands, dt_softplus, state_batch_indices, plan=plan)
        torch.autograd.graph.increment_version(state)
        return out
    real = torch.promote_types(torch.promote_types(x.dtype, state.dtype), torch.float32)
    own = state if state_batch_indices is None else state[state_batch_indices]
    drive, step = x.to(real), dt.to(real)
    if dt_bias is not None:
        step = step + dt_bias.to(real)
    if dt_softplus:
        step = F.softplus(step)
    decay = torch.exp(step.unsqueeze(-1) * A.to(real))
    B, C = (_for_each(matrix.to(real), own) for matrix in (B, C))
    moved = own.to(real) * decay + (step * drive).unsqueeze(-1) * B
    if state_batch_indices is None:
        state.copy_(moved)
    else:
        state.index_copy_(0, state_batch_indices.long(), moved.to(state.dtype))
    out = (moved * C).sum(-1)
    if D is not None:
        out = out + D.to(real) * drive
    if z is not None:
        out = out * F.silu(z.to(real))
    return out.to(x.dtype).contiguous()


def _for_each(matrix: Tensor, state: Tensor) -> Tensor:
    """B or C in a shape that goes with the state (b d n) or (b h p n)."""
    if matrix.dim() == 2:
        return matrix.view(matrix.shape[0], *([1] * (state.dim() - 2)), matrix.shape[1])
    if state.dim() == 3:
        return matrix
    return matrix.repeat_interleave(state.shape[1] // matrix.shape[1], dim=1).unsqueeze(2)


def _shape(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    z: Tensor | None = None, dt_bias: Tensor | None = None, dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """An output without values."""
    _check(state=state, x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, state_batch_indices=state_batch_indices)
    return x.new_empty(x.shape)


_library.impl("selective_state_update", _compute, "CompositeExplicitAutograd")
_library.impl("selective_state_update", _shape, "Meta")
