"""The selective scan by its definition, one position after the other, and its gradient.

    delta = softplus(delta + delta_bias)
    h[l]  = exp(delta[l] A) h[l-1] + delta[l] u[l] B[l]        h: b d n, zero or given before the first position
    y[l]  = sum over n of C[l] h[l]                            twice the real part where A is complex
    out   = (y + D u) silu(z)

Operands lie as in mamba_ssm: u, delta, z (b d l); A (d n), real or complex; B, C constant (d n), variable (b n l) or
grouped (b g n l), where group g serves d/g neighbouring channels; D, delta_bias (d). With a complex A, a constant B or
C may be complex, and a variable one holds pairs (real, imaginary) along its last axis of 2l.
The state is float64 if u or delta is, else float32.

Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, https://arxiv.org/abs/2312.00752.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class _Scan(NamedTuple):
    """The operands in the dtype of the state; delta final, complex pairs joined."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor


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
) -> Tensor | tuple[Tensor, Tensor]:
    """The output (b d l) in the dtype of u; with ``return_last_state`` also the last state (b d n).

    Only the current state is held: memory does not grow with l n. Differentiable by autograd, at the usual price.
    """
    scan = _prepare(u, delta, A, B, C, delta_bias, delta_softplus)
    state = _zero_state(scan) if initial_state is None else initial_state.to(scan.A.dtype)
    outputs = []
    for i in range(u.shape[-1]):
        state = _advance(scan, state, i)
        outputs.append(_read(scan, state, i))
    out = torch.stack(outputs, dim=-1)
    if D is not None:
        out = out + D.to(out.dtype)[:, None] * scan.u
    if z is not None:
        out = out * F.silu(z.to(out.dtype))
    out = out.to(u.dtype)
    return (out, state) if return_last_state else out


@torch.no_grad()
def selective_scan_backward(
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
) -> tuple[Tensor | None, ...]:
    """The gradients of u, delta, A, B, C, D, z, delta_bias, initial_state, each in the dtype of its operand, or None.

    ``grad`` (b d l) is the gradient of the output, ``grad_last_state`` (b d n) that of the last state, zero where it
    is None. That of a complex operand is torch's: the derivative by its real part plus i times that by its imaginary
    part.
    """
    scan = _prepare(u, delta, A, B, C, delta_bias, delta_softplus)
    grad = grad.to(scan.u.dtype)
    grad_y = grad if z is None else grad * F.silu(z.to(grad.dtype))
    states = (None if x is None else x.to(scan.A.dtype) for x in (initial_state, grad_last_state))
    start, carry = (_zero_state(scan) if x is None else x for x in states)
    through_input, through_decay, grad_A, grad_B, grad_C, y, grad_state = _reverse(scan, grad_y, start, carry)

    grad_u = scan.delta * through_input
    grad_delta = scan.u * through_input + through_decay
    grad_D = grad_z = grad_bias = None
    if D is not None:
        skip = D.to(grad.dtype)[:, None]
        grad_u = grad_u + skip * grad_y
        grad_D = (grad_y * scan.u).sum((0, 2)).to(D.dtype)
        y = y + skip * scan.u
    if z is not None:
        grad_z = (grad * y * _silu_slope(z.to(grad.dtype))).to(z.dtype)
    if delta_softplus:
        grad_delta = grad_delta * -torch.expm1(-scan.delta)  # softplus' = sigmoid, written in softplus itself
    if delta_bias is not None:
        grad_bias = grad_delta.sum((0, 2)).to(delta_bias.dtype)
    inner = (grad_u.to(u.dtype), grad_delta.to(delta.dtype), grad_A.to(A.dtype), _as_given(grad_B, B))
    of_state = None if initial_state is None else grad_state.to(initial_state.dtype)
    return *inner, _as_given(grad_C, C), grad_D, grad_z, grad_bias, of_state


def _as_given(grad: Tensor, matrix: Tensor) -> Tensor:
    """The gradient of B or C in the layout and dtype of ``matrix``: where that is real, complex numbers as pairs."""
    if grad.is_complex() and not matrix.is_complex():
        grad = grad.real if matrix.dim() == 2 else torch.view_as_real(grad).flatten(-2)
    return grad.to(matrix.dtype)


def _silu_slope(z: Tensor) -> Tensor:
    """The derivative of silu at z."""
    sigmoid = torch.sigmoid(z)
    return sigmoid * (1 + z * (1 - sigmoid))


def _reverse(scan: _Scan, grad_y: Tensor, start: Tensor, carry: Tensor) -> tuple[Tensor, ...]:
    """Gradients of delta u (b d l), of delta by way of the decay (b d l), of A, B and C; y (b d l); that of ``start``.

    ``start`` is the state (b d n) before the first position, ``carry`` the gradient of the state after the last.

    States are kept at about sqrt(l) positions, and recomputed from there, one chunk at a time. The gradient of a
    product of complex factors takes the conjugate of the other factor; of real numbers that is the number itself.
    """
    u, delta, A, B, C = scan
    grad_y = 2 * grad_y if A.is_complex() else grad_y
    length = u.shape[-1]
    chunk = math.isqrt(length) + 1
    through_input, through_decay, y = torch.empty_like(u), torch.empty_like(u), torch.empty_like(u)
    grad_A, grad_B, grad_C = torch.zeros_like(A), torch.zeros_like(B), torch.zeros_like(C)
    for first, kept in reversed(_checkpoints(scan, start, chunk)):
        states = [kept]
        for i in range(first, min(first + chunk, length)):
            states.append(_advance(scan, states[-1], i))
        for i in reversed(range(first, first + len(states) - 1)):
            state, before = states[i - first + 1], states[i - first]
            grad_state = carry + grad_y[..., i, None] * _conj(_at(C, i, u.shape[1]))
            carry = _conj(torch.exp(delta[..., i, None] * A)) * grad_state
            grad_exponent = carry * _conj(before)  # the gradient of delta A
            y[..., i] = _read(scan, state, i)
            through_input[..., i] = (grad_state * _conj(_at(B, i, u.shape[1]))).real.sum(-1)
            through_decay[..., i] = (grad_exponent * _conj(A)).real.sum(-1)
            grad_A += (grad_exponent * delta[..., i, None]).sum(0)
            _add_at(grad_B, i, grad_state * (delta[..., i] * u[..., i])[..., None])
            _add_at(grad_C, i, _conj(state) * grad_y[..., i, None])
    return through_input, through_decay, grad_A, grad_B, grad_C, y, carry


def _conj(x: Tensor) -> Tensor:
    """The complex conjugate, computed: below a dispatch mode torch drops the mark of a lazy one."""
    return torch.conj_physical(x) if x.is_complex() else x


def _checkpoints(scan: _Scan, state: Tensor, chunk: int) -> list[tuple[int, Tensor]]:
    """The first position of every chunk, and the state (b d n) before it; ``state`` is that before the first."""
    kept = []
    for i in range(scan.u.shape[-1]):
        if i % chunk == 0:
            kept.append((i, state))
        state = _advance(scan, state, i)
    return kept


def _prepare(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, delta_bias: Tensor | None, delta_softplus: bool
) -> _Scan:
    """The operands as the recurrence uses them."""
    real = torch.promote_types(torch.promote_types(u.dtype, delta.dtype), torch.float32)
    delta = delta.to(real)
    if delta_bias is not None:
        delta = delta + delta_bias.to(real)[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    if A.is_complex():
        dtype = torch.promote_types(real, torch.complex64)
        B, C = (M if M.dim() == 2 else _join_pairs(M.to(real)) for M in (B, C))
    else:
        dtype = real
    return _Scan(u.to(real), delta, A.to(dtype), B.to(dtype), C.to(dtype))


def _join_pairs(pairs: Tensor) -> Tensor:
    """The complex (.. l) of pairs (real, imaginary) laid out as (.. 2l)."""
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)).contiguous())


def _zero_state(scan: _Scan) -> Tensor:
    """The state (b d n) before the first position."""
    return scan.A.new_zeros(scan.u.shape[0], *scan.A.shape)


def _advance(scan: _Scan, state: Tensor, i: int) -> Tensor:
    """The state (b d n) after position i."""
    delta, u = scan.delta[..., i, None], scan.u[..., i, None]
    return torch.exp(delta * scan.A) * state + delta * u * _at(scan.B, i, u.shape[1])


def _read(scan: _Scan, state: Tensor, i: int) -> Tensor:
    """The output (b d) that position i reads from its state."""
    y = (state * _at(scan.C, i, state.shape[1])).sum(-1)
    return 2 * y.real if y.is_complex() else y


def _at(matrix: Tensor, i: int, channels: int) -> Tensor:
    """B or C at position i, in a shape that goes with (b d n)."""
    if matrix.dim() == 2:
        return matrix
    if matrix.dim() == 3:
        return matrix[:, None, :, i]
    return matrix[..., i].repeat_interleave(channels // matrix.shape[1], dim=1)


def _add_at(total: Tensor, i: int, value: Tensor) -> None:
    """Add what position i gives (b d n) to the gradient of B or C, over all that share an element of it."""
    if total.dim() == 2:
        total += value.sum(0)
    elif total.dim() == 3:
        total[..., i] += value.sum(1)
    else:
        total[..., i] += value.unflatten(1, (total.shape[1], -1)).sum(2)
