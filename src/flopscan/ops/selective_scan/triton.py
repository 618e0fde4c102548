"""The selective scan in Triton: for GPUs without NVRTC, and through Triton's interpreter.

Operands as the caller checked them: u, delta, z: b d l; A: d n; B, C: b g n l; D, delta_bias: d; initial_state: b d n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from flopscan.ops.selective_scan.triton_kernels import backward_scan, forward_scan, forward_states, segment_edges

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_STATES = 256
CHUNK = 256  # positions from one kept state to the next; of shorter rows all


@dataclass(frozen=True)
class Form:
    """How a kernel is compiled and launched."""

    block: int  # channels of a program, at most
    warps: int = 1
    segments: int = 0  # of l, where the forward goes from position to position; 0 where it scans runs of them
    registers: int | None = None  # of a thread, at most


def supports(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    *others: Tensor | None,
) -> bool:
    """Whether this form takes such operands."""
    varying = [x for x in (u, delta, B, C, z) if x is not None]
    fixed = [x for x in (A, D, *others) if x is not None]
    return (
        all(x.dtype in DTYPES for x in varying)
        and all(x.dtype == torch.float32 for x in fixed)
        and B.dim() == C.dim() == 4
        and 1 <= A.shape[1] <= MAX_STATES
        and hasattr(triton.language, "gather")  # since Triton 3.3, which torch 2.7 brings
    )


def chunk_size(length: int) -> int:
    """Positions from one kept state to the next."""
    return min(max(triton.next_power_of_2(length), 16), CHUNK)


def saved_shape(batch: int, channels: int, length: int, states: int, gated: bool = False) -> tuple[int, ...]:
    """The shape of what the forward keeps for the backward: the state before every chunk, b chunks d n."""
    return batch, -(-length // chunk_size(length)), channels, states


def default_form(batch: int, channels: int, length: int, states: int, backward: bool) -> Form:
    """How so many numbers are computed unless the caller says otherwise, as measured."""
    if states == 1:
        return Form(block=1)
    rows = batch * channels
    if backward:
        return Form(block=1, registers=168) if rows < 4096 else Form(block=2)
    most, wanted = max(4, min(32, 512 // triton.next_power_of_2(states))), max(rows // 512, 16)
    block = min(most, 1 << (wanted.bit_length() - 1))
    segments = 1 if rows >= 512 * block else max(1, min(2048 * block // rows, length // 1024))
    if states > 64 or rows * segments < 512 * block:
        return Form(block=1, registers=64)
    return Form(block, segments=segments)


def _launch(kernel: Any, form: Form, u: Tensor, B: Tensor, align: int, *more: int) -> tuple[Any, int, dict[str, Any]]:
    """``kernel`` over its programs, the number of these, and what all kernels are compiled with."""
    (batch, channels, length), groups = u.shape, B.shape[1]
    block = min(form.block, triton.next_power_of_2(channels // groups))
    chosen: dict[str, Any] = {"BLOCK": block, "CHUNK": chunk_size(length), "num_warps": form.warps}
    chosen["enable_fp_fusion"] = True  # the default of some versions
    if not form.segments:
        chosen["ALIGN"] = align
    if form.registers and torch.version.hip is None:
        chosen["maxnreg"] = form.registers
    programs = batch * groups * -(-(channels // groups) // block)
    return kernel[(programs, *more)], programs, chosen


def _align(*tensors: Tensor | None) -> int:
    """Of 1, 2, 4 and 8 the most that rows' lengths and steps from row to row are a multiple of; 1 for rows in pieces.

    Triton finds out about 16 alone, without which it would load single numbers of rows of 196.
    """
    sizes = [8]
    for x in tensors:
        if x is not None:
            sizes += [x.shape[-1], *x.stride()[:-1], 8 if x.stride(-1) == 1 else 1, x.storage_offset()]
    return math.gcd(*sizes)


def _strides(*tensors: Tensor | None) -> list[int]:
    """The strides of operands b d l one after the other, zero for those that are absent."""
    return [step for x in tensors for step in ((0, 0, 0) if x is None else x.stride())]


def _whole(x: Tensor | None) -> Tensor | None:
    """A small operand in one piece."""
    return None if x is None else x.contiguous()


def forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, *,
    delta_softplus: bool, keep: bool, out_dtype: torch.dtype, form: Form | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The output (b d l), the last state (b d n), and the states that backward needs, empty unless ``keep``."""
    (batch, channels, length), states = u.shape, A.shape[1]
    out = torch.empty(u.shape, dtype=out_dtype, device=u.device)
    last = A.new_empty(batch, channels, states)
    saved = A.new_empty(saved_shape(batch, channels, length, states) if keep else 0)
    form = form or default_form(batch, channels, length, states, backward=False)
    given = (u, delta, _whole(A), B, C, _whole(D), z, _whole(delta_bias), _whole(initial_state), out, last, saved)
    steps = (*_strides(u, delta, z), *B.stride(), *C.stride(), channels, length, states, B.shape[1])
    if not form.segments:
        launch, _, chosen = _launch(forward_scan, form, u, B, _align(u, delta, z, B, C))
        launch(*given, *steps, SOFTPLUS=delta_softplus, KEEP=keep, **chosen)
        return out, last, saved
    chunk = chunk_size(length)
    segment = -(-length // chunk // form.segments) * chunk
    segments = -(-length // segment)
    edges = _edges(u, delta, A, B, delta_bias, segment, segments, delta_softplus) if segments > 1 else (None, None)
    launch, _, chosen = _launch(forward_states, form, u, B, 1, segments)
    chosen |= {"N": triton.next_power_of_2(states), "TILE": 16}
    launch(*given, *edges, *steps, segment, SOFTPLUS=delta_softplus, KEEP=keep, **chosen)
    return out, last, saved


def _edges(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, delta_bias: Tensor | None, segment: int, segments: int,
    softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What segments make of a state of zero (b segments d n), and their sums of delta (b segments d)."""
    (batch, channels, length), states = u.shape, A.shape[1]
    edge, edge_sum = A.new_empty(batch, segments, channels, states), A.new_empty(batch, segments, channels)
    launch, _, chosen = _launch(segment_edges, Form(block=4), u, B, _align(u, delta, B), segments - 1)
    launch(
        u, delta, _whole(A), B, _whole(delta_bias), edge, edge_sum, *_strides(u, delta), *B.stride(),
        channels, length, states, B.shape[1], segment, SOFTPLUS=softplus, **chosen,
    )  # fmt: skip
    return edge, edge_sum


def backward(
    grad_out: Tensor, grad_last_state: Tensor | None,
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, saved: Tensor, *,
    delta_softplus: bool, deterministic: bool, form: Form | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of u, delta, A, B, C, D, z, delta_bias and initial_state, None of those that are absent."""
    (batch, channels, length), (groups, states) = u.shape, B.shape[1:3]
    align = _align(grad_out, u, delta, z, B, C)
    form = form or default_form(batch, channels, length, states, backward=True)
    if deterministic:  # then each block writes sums of its own
        form = replace(form, block=4 * form.block, warps=4 * form.warps, registers=None)
    launch, programs, chosen = _launch(backward_scan, form, u, B, align)
    grad_u, grad_delta = (torch.empty(u.shape, dtype=x.dtype, device=u.device) for x in (u, delta))
    grad_z = None if z is None else torch.empty(u.shape, dtype=z.dtype, device=u.device)
    blocks = programs // (batch * groups)
    shape = (2, batch, groups, states, length)
    products = A.new_empty(blocks, *shape) if deterministic else A.new_zeros(1, *shape)
    carry, grad_A = (A.new_empty(batch, channels, states) for _ in range(2))
    grad_D, grad_bias = (A.new_empty(batch, channels) for _ in range(2))
    launch(
        grad_out, _whole(grad_last_state), u, delta, _whole(A), B, C, _whole(D), z, _whole(delta_bias), saved, carry,
        grad_u, grad_delta, grad_z, products[0, 0], products[0, 1], grad_A, grad_D, grad_bias,
        *_strides(grad_out, u, delta, z), *B.stride(), *C.stride(), products.stride(0), channels, length, states,
        groups, SOFTPLUS=delta_softplus, ATOMIC=not deterministic, **chosen,
    )  # fmt: skip
    grad_B, grad_C = products.sum(0) if deterministic else products[0]
    return (
        grad_u, grad_delta, grad_A.sum(0), grad_B.to(B.dtype), grad_C.to(C.dtype),
        None if D is None else grad_D.sum(0), grad_z, None if delta_bias is None else grad_bias.sum(0),
        None if initial_state is None else carry,
    )  # fmt: skip
