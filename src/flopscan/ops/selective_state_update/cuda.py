"""The decoding step on a CUDA GPU: one kernel, compiled for the dtypes and the number of states when first needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from flopscan.ops.gpu import kernels

PLANS = kernels.Plans()


@dataclass(frozen=True)
class Form:
    """How the kernel is compiled: ``lanes`` for a row of states, ``chunks`` of 16 bytes each at a time."""

    lanes: int
    chunks: int
    threads: int = 128


def default_form(states: int, size: int) -> Form:
    """For so many states of ``size`` bytes, as measured: two chunks a lane, where there are enough."""
    vectors = -(-states * size // 16)
    lanes = min(8 if vectors <= 16 else 16 if vectors <= 64 else 32, 1 << (vectors - 1).bit_length())
    return Form(lanes, min(4, -(-vectors // lanes)))


def supports(*operands: Tensor | None) -> bool:
    """Whether there is a kernel for state, x, dt, A, B, C, D, z and dt_bias."""
    return kernels.supported(operands)


class Operand(ctypes.Structure):
    """Where an operand is, and its strides in elements."""

    _fields_ = [("at", ctypes.c_void_p), *((name, ctypes.c_longlong) for name in ("b", "h", "p", "n"))]


class Step(ctypes.Structure):
    """The one parameter of the kernel, as `Step` in step.cu."""

    _fields_ = [
        *((name, Operand) for name in ("state", "x", "dt", "A", "B", "C", "D", "bias", "z")),
        ("slots", ctypes.c_void_p),
        ("slot_step", ctypes.c_longlong),
        ("y", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("wide", "batch", "heads", "channels", "states", "groups", "cache")),
        *((name, ctypes.c_int) for name in ("softplus", "across")),
    ]


def update(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    dt_bias: Tensor | None, dt_softplus: bool, state_batch_indices: Tensor | None, form: Form | None = None,
    plan: kernels.Plan | None = None,
) -> Tensor:  # fmt: skip
    """The output of a step; ``state`` is moved on."""
    plan = plan or planned(state, x, dt, A, B, C, D, z, dt_bias, dt_softplus, state_batch_indices, form)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    step = Step.from_buffer_copy(plan.parameter)
    step.y, step.state.at, step.x.at, step.dt.at = y.data_ptr(), state.data_ptr(), x.data_ptr(), dt.data_ptr()
    step.A.at, step.B.at, step.C.at = A.data_ptr(), B.data_ptr(), C.data_ptr()
    if D is not None:
        step.D.at = D.data_ptr()
    if z is not None:
        step.z.at = z.data_ptr()
    if dt_bias is not None:
        step.bias.at = dt_bias.data_ptr()
    if state_batch_indices is not None:
        step.slots = state_batch_indices.data_ptr()
    plan.run(step, x.device)
    return y


def planned(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    dt_bias: Tensor | None, dt_softplus: bool, state_batch_indices: Tensor | None, form: Form | None = None,
) -> kernels.Plan:  # fmt: skip
    """How such a step is launched."""
    heads = state.shape[1] if state.dim() == 4 else 1
    batch, channels, states = x.shape[0], state.shape[-2], state.shape[-1]
    tied, vector = A.stride(-1) == 0, 16 // state.element_size()
    form = form or default_form(states, state.element_size())

    step = Step()
    own = "hp" if state.dim() == 4 else "p"
    step.state, step.A = _operand(state, f"b{own}n"), _operand(A, f"{own}n")
    step.x, step.dt, step.z = (_operand(each, f"b{own}") for each in (x, dt, z))
    step.B, step.C = (_operand(each, "bn" if each.dim() == 2 else "bhn") for each in (B, C))
    step.D, step.bias = _operand(D, own), _operand(dt_bias, own)
    if state_batch_indices is not None:
        step.slot_step, step.wide = state_batch_indices.stride(0), state_batch_indices.dtype == torch.int64
    step.batch, step.heads, step.channels, step.states = batch, heads, channels, states
    step.groups = max(each.shape[1] if each.dim() == 3 else 1 for each in (B, C))
    step.cache, step.softplus = state.shape[0], dt_softplus

    blocks = -(-heads * channels * form.lanes // form.threads), min(batch, 65535)
    step.across = blocks[1]
    along = (state, B, C) if tied else (state, A, B, C)
    some = x.dtype  # of what is absent
    options = kernels.macros(
        TS=state.dtype, TX=some, TT=dt.dtype, TA=A.dtype, TB=B.dtype, TC=C.dtype,
        TD=some if D is None else D.dtype, TK=some if dt_bias is None else dt_bias.dtype,
        TZ=some if z is None else z.dtype, LANES=form.lanes, VEC=vector, CHUNKS=form.chunks,
        THREADS=form.threads, TIED=tied, WHOLE=all(kernels.aligned(each, -1, vector) for each in along),
    )  # fmt: skip
    source = kernels.source("selective_state_update/step.cu")
    return kernels.Plan(source, options, "state_update", blocks, form.threads, bytes(step))


def _operand(x: Tensor | None, axes: str) -> Operand:
    """The strides of an operand that has these of the axes b h p n."""
    return Operand() if x is None else Operand(**dict(zip(axes, x.stride(), strict=True)))
