"""The selective scan in plain torch: tile after tile of the length, in blocks of channels that stay in cache.

Within a tile the factors exp(delta A) and the inputs delta u B of all positions are made at once; the recurrence is
then one multiply-add a position, and the read-out one product. The gradient walks the tiles from the end; the state at
the start of each was kept or is computed again. Any device and dtype, real and complex A, B and C in every form.

Shapes inside: t positions of a tile, b batches, g groups, c channels of a group, n states. Formulas: `reference`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flopscan.ops.selective_scan.operands import is_complex_pairs, real_dtype, state_dtype

TILE = 64  # positions
BLOCK = 8192  # states of a position that are worked on at once


def kept_every(n: int) -> int:
    """After how many positions a state is kept: what is kept has at most the size of u."""
    return min(256, TILE * (-(-n // 16)))


def saved_shape(b: int, d: int, l: int, n: int, gated: bool = False) -> tuple[int, ...]:
    """The shape (b k n d) of the states before every k-th stretch of `kept_every` positions."""
    every = kept_every(n)
    return (b, (l + every - 1) // every, n, d)


def supports(*operands: Tensor | None) -> bool:
    """True: this form takes all that the operator takes."""
    return True


@dataclass
class _Scan:
    """The operands in the dtype of the state, delta final; u and delta (b g c l), the rest to be broadcast."""

    u: Tensor
    delta: Tensor
    A: Tensor  # g c n
    B: Tensor  # b g n l, or g c n
    C: Tensor
    slope: Tensor | None  # of softplus, b g c l


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    *,
    delta_softplus: bool,
    keep: bool,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output (b d l), the last state (b d n) and, where asked to ``keep``, states for the gradient."""
    scan = _prepare(u, delta, A, B, C, delta_bias, delta_softplus)
    b, d, l = u.shape
    n = A.shape[1]
    state = _initial(scan, initial_state, A)
    saved = state.new_empty(saved_shape(b, d, l, n) if keep else (0,))
    y = scan.u.new_empty(scan.u.shape)
    every = kept_every(n)
    for block in _blocks(scan):
        part, h = _take(scan, block), state[block]
        for first in range(0, l, TILE):
            if keep and first % every == 0:
                _kept(saved, first // every, scan)[block] = h
            tile = slice(first, min(first + TILE, l))
            _, states = _run(part, h, tile)
            h = states[-1]
            y[block][..., tile] = _read(part.C, states, tile).permute(1, 2, 3, 0)
        state[block] = h
    if D is not None:
        y.addcmul_(scan.u, D.to(y.dtype).view(*y.shape[1:3], 1))
    out = y.reshape(b, d, l)
    if z is not None:
        out = out * F.silu(z.to(y.dtype))
    return out.to(out_dtype), state.reshape(b, d, n), saved


def backward(
    grad: Tensor,
    grad_last_state: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    saved: Tensor,
    *,
    delta_softplus: bool,
    deterministic: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of u, delta, A, B, C, D, z, delta_bias and initial_state, None where there is no operand."""
    scan = _prepare(u, delta, A, B, C, delta_bias, delta_softplus)
    b, d, l = u.shape
    n = A.shape[1]
    grad = grad.to(scan.u.dtype).reshape(scan.u.shape)
    gate = None if z is None else z.to(grad.dtype).reshape(grad.shape)
    grad_y = grad if gate is None else grad * F.silu(gate)
    carry = _initial(scan, grad_last_state, A)
    sums = _Sums(scan, y=z is not None)
    for block in _blocks(scan):
        carry[block] = _reverse(scan, block, grad_y, carry[block], saved, sums)
    grad_u, grad_delta = scan.delta * sums.through_input, scan.u * sums.through_input + sums.through_decay
    grad_D = grad_z = grad_bias = None
    if D is not None:
        skip = D.to(grad.dtype).view(*grad.shape[1:3], 1)
        grad_u.addcmul_(skip, grad_y)
        grad_D = (grad_y * scan.u).sum((0, 3)).flatten().to(D.dtype)
    if z is not None and gate is not None:
        y = sums.y if D is None else torch.addcmul(sums.y, skip, scan.u)
        sigmoid = torch.sigmoid(gate)
        grad_z = (grad * y * sigmoid * (1 + gate * (1 - sigmoid))).reshape(z.shape).to(z.dtype)
    if scan.slope is not None:
        grad_delta *= scan.slope
    if delta_bias is not None:
        grad_bias = grad_delta.sum((0, 3)).flatten().to(delta_bias.dtype)
    return (
        grad_u.reshape(b, d, l).to(u.dtype), grad_delta.reshape(b, d, l).to(delta.dtype),
        sums.A.reshape(d, n).to(A.dtype), _as_given(sums.B, B), _as_given(sums.C, C), grad_D, grad_z, grad_bias,
        None if initial_state is None else carry.reshape(b, d, n).to(initial_state.dtype),
    )  # fmt: skip


class _Sums:
    """What the gradient adds up: of delta u and of delta by way of the decay (b g c l), of A, B and C, and y."""

    def __init__(self, scan: _Scan, y: bool) -> None:
        def empty() -> Tensor:
            return scan.u.new_empty(scan.u.shape)

        self.through_input, self.through_decay = empty(), empty()
        self.y = empty() if y else None
        self.A, self.B, self.C = (x.new_zeros(x.shape) for x in (scan.A, scan.B, scan.C))


_Block = tuple[slice, slice, slice]


def _blocks(scan: _Scan) -> Iterator[_Block]:
    """Slices of b, g and c with about `BLOCK` states each, so that a tile of them stays in cache."""
    b, g, c, _ = scan.u.shape
    n = scan.A.shape[-1]
    if scan.u.device.type != "cpu":  # there a launch is what costs
        yield slice(None), slice(None), slice(None)
        return
    some = max(1, BLOCK // n)
    channels = min(c, some)
    groups = min(g, max(1, some // c))
    batches = min(b, max(1, some // (c * g)))
    for i in range(0, b, batches):
        for j in range(0, g, groups):
            for k in range(0, c, channels):
                yield slice(i, i + batches), slice(j, j + groups), slice(k, k + channels)


def _take(scan: _Scan, block: _Block) -> _Scan:
    """The block of every operand; what is laid out by position has the positions first: t b g c, t b g 1 n."""
    batches, groups, channels = block

    def matrix(x: Tensor) -> Tensor:
        if x.dim() == 3:
            return x[groups, channels]
        return x[batches, groups].permute(3, 0, 1, 2).unsqueeze(3)

    u, delta = (x[block].permute(3, 0, 1, 2) for x in (scan.u, scan.delta))
    return _Scan(u, delta, scan.A[groups, channels], matrix(scan.B), matrix(scan.C), None)


def _at(matrix: Tensor, tile: slice) -> Tensor:
    """B or C of a block at the positions of a tile."""
    return matrix if matrix.dim() == 3 else matrix[tile]


def _run(part: _Scan, h: Tensor, tile: slice) -> tuple[Tensor, Tensor]:
    """The factors and the states (t b g c n) at every position of a tile, from the state ``h`` (b g c n) before it."""
    delta = part.delta[tile].contiguous()
    decay = (delta.unsqueeze(-1) * part.A).exp_()
    states = (delta * part.u[tile]).unsqueeze(-1) * _at(part.B, tile)
    for factor, state in zip(decay, states, strict=True):
        h = state.addcmul_(factor, h)
    return decay, states


def _read(C: Tensor, states: Tensor, tile: slice) -> Tensor:
    """The output (t b g c) that is read from the states."""
    C = _at(C, tile)
    if states.is_complex():
        return 2 * (states * C).sum(-1).real
    if states.shape[-1] == 1:
        return (states * C).squeeze(-1)
    if C.dim() == 3:
        return (states * C).sum(-1)
    return torch.matmul(states, C.transpose(-1, -2)).squeeze(-1)


def _reverse(scan: _Scan, block: _Block, grad_y: Tensor, carry: Tensor, saved: Tensor, sums: _Sums) -> Tensor:
    """The gradient of the state before the first position; ``carry`` is that of the state after the last."""
    part, l = _take(scan, block), scan.u.shape[-1]
    dy = grad_y[block].permute(3, 0, 1, 2)
    every = kept_every(scan.A.shape[-1])
    for kept in reversed(range(0, l, every)):
        h = _kept(saved, kept // every, scan)[block]
        tiles = [slice(t, min(t + TILE, l)) for t in range(kept, min(kept + every, l), TILE)]
        starts = [h]
        for tile in tiles[:-1]:
            starts.append(_run(part, starts[-1], tile)[1][-1])
        for tile, start in zip(reversed(tiles), reversed(starts), strict=True):
            carry = _reverse_tile(part, block, dy[tile], carry, start, tile, sums)
    return carry


def _reverse_tile(
    part: _Scan, block: _Block, dy: Tensor, carry: Tensor, start: Tensor, tile: slice, sums: _Sums
) -> Tensor:
    """The gradient of the state before a tile, from that after it; ``sums`` get what the tile has."""
    decay, states = _run(part, start, tile)
    B, C = _at(part.B, tile), _at(part.C, tile)
    here = (*block, tile)
    if sums.y is not None:
        sums.y[here] = _read(part.C, states, tile).permute(1, 2, 3, 0)
    dy = (2 * dy if states.is_complex() else dy).unsqueeze(-1)
    _add(sums.C, block, tile, _conj(states) * dy)
    grads = dy * _conj(C)  # of the states
    factors = _conj(decay)
    for i in reversed(range(grads.shape[0])):
        grads[i] += carry
        carry = factors[i] * grads[i]
    delta, u = part.delta[tile].unsqueeze(-1), part.u[tile].unsqueeze(-1)
    sums.through_input[here] = _real_sum(grads * _conj(B)).permute(1, 2, 3, 0)
    _add(sums.B, block, tile, grads * (delta * u))
    states = torch.cat((start[None], states[:-1]))  # before each position
    exponent = grads.mul_(factors).mul_(_conj(states))  # the gradient of delta A
    sums.through_decay[here] = _real_sum(exponent * _conj(part.A)).permute(1, 2, 3, 0)
    sums.A[block[1:]] += (exponent * delta).sum((0, 1))
    return carry


def _real_sum(x: Tensor) -> Tensor:
    """The sum over the states, its real part."""
    return x.sum(-1).real if x.is_complex() else x.sum(-1)


def _add(total: Tensor, block: _Block, tile: slice, value: Tensor) -> None:
    """Add what a tile gives (t b g c n) to the gradient of B or C, over all that share an element of it."""
    if total.dim() == 3:
        total[block[1:]] += value.sum((0, 1))
    else:
        total[(*block[:2], slice(None), tile)] += value.sum(3).permute(1, 2, 3, 0)


def _conj(x: Tensor) -> Tensor:
    """The complex conjugate, computed: below a dispatch mode torch drops the mark of a lazy one."""
    return torch.conj_physical(x) if x.is_complex() else x


def _kept(saved: Tensor, k: int, scan: _Scan) -> Tensor:
    """The k-th state that is kept, as a view (b g c n)."""
    return saved[:, k].transpose(1, 2).unflatten(1, scan.u.shape[1:3])


def _initial(scan: _Scan, state: Tensor | None, A: Tensor) -> Tensor:
    """A state (b g c n) to begin with: a copy of ``state`` (b d n), or zero."""
    shape = (*scan.u.shape[:3], A.shape[1])
    if state is None:
        return scan.A.new_zeros(shape)
    return torch.empty(shape, dtype=scan.A.dtype, device=state.device).copy_(state.reshape(shape))


def _prepare(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, delta_bias: Tensor | None, delta_softplus: bool
) -> _Scan:
    """The operands as the recurrence uses them; a matrix without groups beside one with them gets as many."""
    real, dtype = real_dtype(u), state_dtype(u, A)
    b, d, l = u.shape
    groups = max(x.shape[1] if x.dim() == 4 else 1 for x in (B, C))
    delta = delta.to(real)
    if delta_bias is not None:
        delta = delta + delta_bias.to(real)[:, None]
    slope = None
    if delta_softplus:
        slope = torch.sigmoid(delta).reshape(b, groups, d // groups, l)
        delta = F.softplus(delta)

    def matrix(x: Tensor) -> Tensor:
        if x.dim() == 2:
            return x.to(dtype).reshape(groups, d // groups, -1)
        x = x.to(real)
        if is_complex_pairs(A, x):
            x = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return (x.unsqueeze(1) if x.dim() == 3 else x).expand(-1, groups, -1, -1)

    u, delta = (x.to(real).reshape(b, groups, d // groups, l) for x in (u, delta))
    return _Scan(u, delta, A.to(dtype).reshape(groups, d // groups, -1), matrix(B), matrix(C), slope)


def _as_given(grad: Tensor, matrix: Tensor) -> Tensor:
    """The gradient of B or C in the shape and dtype of ``matrix``: where that is real, complex numbers as pairs."""
    if matrix.dim() == 2:
        return grad.reshape(matrix.shape).to(matrix.dtype)
    grad = grad.sum(1) if matrix.dim() == 3 else grad
    if grad.is_complex():
        grad = torch.view_as_real(grad.contiguous()).flatten(-2)
    return grad.to(matrix.dtype).contiguous()
