"""The selective scan in Triton: for GPUs without NVRTC, and through Triton's interpreter.

Operands as the caller checked them: u, delta, z: b d l; A: d n; B, C: b g n l; D, delta_bias: d; initial_state: b d n.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from flopscan.ops.selective_scan.triton_kernels import backward_rows, backward_states, forward_rows, forward_states

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_STATES = 256


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
    )


def chunk_size(states: int, length: int) -> int:
    """Positions from one kept state to the next."""
    if states == 1:
        return min(max(triton.next_power_of_2(length), 16), 256)
    return min(max(64, 4 * triton.next_power_of_2(states)), 256)


def saved_shape(batch: int, channels: int, length: int, states: int, gated: bool = False) -> tuple[int, ...]:
    """The shape of what forward keeps for backward: the state before every chunk, b chunks d n."""
    return batch, -(-length // chunk_size(states, length)), channels, states


def _shape(batch: int, channels: int, length: int, states: int, backward: bool) -> tuple[int, int]:
    """Channels and warps of a program, as measured: few channels where there are few, so that the GPU has work."""
    if states == 1:
        short = length <= 256
        return ((2, 4) if short else (2, 1)) if backward else ((1, 1) if short else (4, 2))
    padded = triton.next_power_of_2(states)
    warps = 1 if states <= 64 else 4
    if backward:
        return max(4, min(32, 64 // padded)), warps
    most, wanted = max(4, min(32, 512 // padded)), max(batch * channels // 512, 4)
    return min(most, 1 << (wanted.bit_length() - 1)), warps


def _choice(
    u: Tensor, B: Tensor, states: int, softplus: bool, backward: bool, deterministic: bool = False
) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and what the kernels are compiled with."""
    (batch, channels, length), groups = u.shape, B.shape[1]
    block, warps = _shape(batch, channels, length, states, backward)
    if deterministic:  # then each block writes sums of its own
        block = 8
    block = min(block, triton.next_power_of_2(channels // groups))
    chosen = {
        "SOFTPLUS": softplus, "N": triton.next_power_of_2(states), "BLOCK": block,
        # positions unrolled: more of them, or more states, than these compile for minutes
        "TILE": (8 if backward else 16) if states <= 64 else 4,
        "CHUNK": chunk_size(states, length), "num_warps": 4 if deterministic and states == 1 else warps,
    }  # fmt: skip
    return (batch * groups * -(-(channels // groups) // block),), chosen


def _align(*tensors: Tensor | None) -> int:
    """Of 1, 2 and 4 the most that rows' lengths and steps from row to row are a multiple of; 1 for rows in pieces.

    Triton finds out about 16 alone, without which it would load single numbers of rows of 196.
    """
    sizes = [4]
    for x in tensors:
        if x is not None:
            sizes += [x.shape[-1], *x.stride()[:-1], 4 if x.stride(-1) == 1 else 1, x.storage_offset()]
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
    delta_softplus: bool, keep: bool, out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The output (b d l), the last state (b d n), and the states that backward needs, empty unless ``keep``."""
    (batch, channels, length), states = u.shape, A.shape[1]
    out = torch.empty(u.shape, dtype=out_dtype, device=u.device)
    last = A.new_empty(batch, channels, states)
    saved = A.new_empty(saved_shape(batch, channels, length, states) if keep else 0)
    grid, chosen = _choice(u, B, states, delta_softplus, backward=False)
    (forward_rows if states == 1 else forward_states)[grid](
        u, delta, _whole(A), B, C, _whole(D), z, _whole(delta_bias), _whole(initial_state), out, last, saved,
        *_strides(u, delta, z), *B.stride(), *C.stride(), channels, length, states, B.shape[1], KEEP=keep,
        **({"ALIGN": _align(u, delta, z, B, C)} if states == 1 else {}), **chosen,
    )  # fmt: skip
    return out, last, saved


def backward(
    grad_out: Tensor, grad_last_state: Tensor | None,
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, saved: Tensor, *,
    delta_softplus: bool, deterministic: bool,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of u, delta, A, B, C, D, z, delta_bias and initial_state, None of those that are absent."""
    (batch, channels, length), (groups, states) = u.shape, B.shape[1:3]
    grid, chosen = _choice(u, B, states, delta_softplus, backward=True, deterministic=deterministic)
    grad_u, grad_delta = (torch.empty(u.shape, dtype=x.dtype, device=u.device) for x in (u, delta))
    grad_z = None if z is None else torch.empty(u.shape, dtype=z.dtype, device=u.device)
    grad_initial = None if initial_state is None else A.new_empty(initial_state.shape)
    blocks = grid[0] // (batch * groups)
    shape = (2, batch, groups, states, length)
    products = A.new_empty(blocks, *shape) if deterministic else A.new_zeros(1, *shape)
    grad_A = A.new_empty(batch, channels, states)
    grad_D, grad_bias = A.new_empty(batch, channels), A.new_empty(batch, channels)
    scratch = A.new_empty(grid[0] * chosen["CHUNK"] * chosen["N"] * chosen["BLOCK"] if states > 1 else 0)
    (backward_rows if states == 1 else backward_states)[grid](
        grad_out, _whole(grad_last_state), u, delta, _whole(A), B, C, _whole(D), z, _whole(delta_bias), saved, scratch,
        grad_u, grad_delta, grad_z, products[0, 0], products[0, 1], grad_A, grad_D, grad_bias, grad_initial,
        *_strides(grad_out, u, delta, z), *B.stride(), *C.stride(), products.stride(0), channels, length, states,
        groups, ATOMIC=not deterministic,
        **({"ALIGN": _align(grad_out, u, delta, z, B, C)} if states == 1 else {}), **chosen,
    )  # fmt: skip
    grad_B, grad_C = products.sum(0) if deterministic else products[0]
    return (
        grad_u, grad_delta, grad_A.sum(0), grad_B.to(B.dtype), grad_C.to(C.dtype),
        None if D is None else grad_D.sum(0), grad_z, None if delta_bias is None else grad_bias.sum(0), grad_initial,
    )  # fmt: skip
