"""The selective scan on a CPU by compiled code; needs Numba (``pip install flopscan[cpu]``), no compiler.

Real A, B and C by position, float32, float16 and bfloat16; states and arithmetic are float32. Numba's compiler makes
the code for the processor at hand at the first call, some seconds, and keeps it on disk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flopscan.ops.selective_scan import cpu_kernels as kernels
from flopscan.ops.selective_scan.chunked import kept_every, saved_shape
from flopscan.ops.selective_scan.lanes import LANES
from flopscan.ops.selective_scan.threads import spread

__all__ = ["backward", "forward", "saved_shape", "supports"]


def supports(*operands: Tensor | None) -> bool:
    """True: what is not float64 is computed with in float32."""
    return True


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
    b, d, l = u.shape
    n, g = A.shape[1], B.shape[1]
    out = torch.empty(b, d, l)
    saved = torch.empty(saved_shape(b, d, l, n) if keep else 0)
    scan = _Operands(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, saved, out)
    blocks = b * g * scan.blocks
    if blocks:
        spread(lambda first, last: scan.run(first, last, 4 * kernels.SIZE), blocks, _least(l, n))
    return out.to(out_dtype), _from_blocks(scan.states, d), saved


class _Operands:
    """Operands in float32, laid out as the kernels want them, and kept alive as long as their addresses are used."""

    def __init__(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
        delta_bias: Tensor | None, initial_state: Tensor | None, delta_softplus: bool, saved: Tensor, out: Tensor,
    ) -> None:  # fmt: skip
        (b, d, l), n, g = u.shape, A.shape[1], B.shape[1]
        self.blocks = -(-(d // g) // LANES)
        self.states = torch.zeros(b, g, self.blocks, n, LANES)
        if initial_state is not None:
            self.states.copy_(_by_block(initial_state, g, self.blocks))
        streams = [None if x is None else x.float() for x in (u, delta, z, B, C)]
        weights = [
            _by_block(A[None], g, self.blocks),
            None if D is None else _by_block(D[None, :, None], g, self.blocks),
            _by_block(u.new_zeros(1, d, 1) if delta_bias is None else delta_bias[None, :, None], g, self.blocks),
        ]
        self._alive = (*streams, *weights, saved, out)
        self.scan = kernels.Scan(
            d, l, n, g, self.blocks, kept_every(n), int(delta_softplus),
            *(x for stream in streams for x in _address(stream, 3)[: 4 if stream is None else None]),
            *(0 if x is None else x.data_ptr() for x in weights),
            self.states.data_ptr(), saved.data_ptr() if saved.dim() > 1 else 0, out.data_ptr(),
        )  # fmt: skip

    def run(self, first: int, last: int, scratch: int) -> None:
        """Scan blocks with a scratch of so many elements."""
        space = _aligned(scratch)
        kernels.forward(self.scan, first, last, space.data_ptr())

    def run_backward(self, targets: kernels.Gradients, first: int, last: int, scratch: int) -> None:
        """The gradients by way of parts of groups; ``states`` has those of the last states, and gets the first's."""
        space = _aligned(scratch)
        kernels.backward(self.scan, targets, first, last, space.data_ptr())


def _address(x: Tensor | None, axes: int) -> tuple[int, ...]:
    """The address and the strides of an operand, zeros for one that is absent."""
    return (0,) * (axes + 1) if x is None else (x.data_ptr(), *x.stride())


def _aligned(elements: int) -> Tensor:
    """Uninitialized float32 memory that begins with a line of the cache."""
    space = torch.empty(elements + LANES)
    return space[-(space.data_ptr() // 4) % LANES :]


def _by_block(x: Tensor, groups: int, blocks: int) -> Tensor:
    """Float32 (b g k n 16) of (b d n), zero where a block has no channel."""
    x = x.float().unflatten(1, (groups, -1)).transpose(2, 3)
    x = torch.nn.functional.pad(x, (0, blocks * LANES - x.shape[-1]))
    return x.unflatten(-1, (blocks, LANES)).transpose(2, 3).contiguous()


def _from_blocks(x: Tensor, d: int) -> Tensor:
    """(b d n) of (b g k n 16)."""
    b, g, _, n, _ = x.shape
    return x.transpose(3, 4).flatten(2, 3)[:, :, : d // g].reshape(b, d, n)


def parts_of(groups: int, blocks: int, deterministic: bool) -> int:
    """In how many parts the blocks of a group are worked on, each with sums of its own for B and C.

    So many that every thread has a few; where ``deterministic`` as many as 8 threads would have.
    """
    tasks = 3 * (8 if deterministic else torch.get_num_threads())
    return min(blocks, max(1, -(-tasks // max(1, groups))))


def _least(l: int, n: int) -> int:
    """So many blocks are worth a thread of their own."""
    return max(1, 100_000 // (l * (n + 4) * LANES))


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
    """The gradients of u, delta, A, B, C, D, z, delta_bias and initial_state.

    Sums are always in the same order on as many threads, and where ``deterministic`` on any number of them.
    """
    (b, d, l), n, g = u.shape, A.shape[1], B.shape[1]
    scan = _Operands(u, delta, A, B, C, D, z, delta_bias, grad_last_state, delta_softplus, saved, saved)
    k = scan.blocks
    parts = parts_of(b * g, k, deterministic)
    grad = grad.float()
    of_u, of_delta = torch.empty(b, d, l), torch.empty(b, d, l)
    of_z = None if z is None else torch.empty(b, d, l)
    of_A = torch.zeros(b, g, k, n, LANES)
    of_B, of_C = torch.empty(b, g, parts, n, l), torch.empty(b, g, parts, n, l)
    of_D, of_bias = torch.zeros(b, g, k, 1, LANES), torch.zeros(b, g, k, 1, LANES)
    targets = kernels.Gradients(
        *_address(grad, 3),
        *(0 if x is None else x.data_ptr() for x in (of_u, of_delta, of_z, of_A, of_B, of_C, of_D, of_bias)),
        scan.states.data_ptr(),
        parts,
    )
    every = kept_every(n)
    scratch = 13 * kernels.SIZE + LANES * n * (every // kernels.TILE + 2 * every)
    if b:
        spread(lambda first, last: scan.run_backward(targets, first, last, scratch), b * g * parts)
    weights = (_from_blocks(x.sum(0, keepdim=True), d)[0] for x in (of_A, of_D, of_bias))
    of_A, of_D, of_bias = weights
    state = _from_blocks(scan.states, d)
    found = (of_u, of_delta, of_A, of_B.sum(2), of_C.sum(2), of_D[:, 0], of_z, of_bias[:, 0], state)
    operands = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return tuple(
        None if operand is None or x is None else x.to(operand.dtype)
        for operand, x in zip(operands, found, strict=True)
    )
