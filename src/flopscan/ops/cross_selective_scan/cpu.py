"""The cross selective scan on a CPU by compiled code that reads and writes the image in the order of each direction.

Needs Numba (``pip install flopscan[cpu]``). Float32, float16 and bfloat16; states and arithmetic are float32, and the
four outputs are added up in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flopscan.ops.cross_selective_scan import cpu_kernels as kernels
from flopscan.ops.selective_scan.chunked import kept_every
from flopscan.ops.selective_scan.cpu import _address, _aligned, _by_block, _from_blocks, parts_of
from flopscan.ops.selective_scan.cpu_kernels import SIZE, TILE
from flopscan.ops.selective_scan.lanes import LANES
from flopscan.ops.selective_scan.threads import spread

DIRECTIONS = kernels.DIRECTIONS


def saved_shape(b: int, d: int, l: int, n: int) -> tuple[int, ...]:
    """The shape (b 4 k n d) of the states before every k-th stretch of positions."""
    every = kept_every(n)
    return (b, DIRECTIONS, (l + every - 1) // every, n, d)


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    *,
    delta_softplus: bool,
    keep: bool,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The image (b d h w) and, where asked to ``keep``, states for the gradient."""
    (b, d, h, w), n = x.shape, A.shape[1]
    blocks = -(-d // LANES)
    # each direction apart only where there are more threads than blocks: that takes four outputs
    parts = DIRECTIONS if b * blocks < torch.get_num_threads() else 1
    out = torch.empty(b, parts, d, h, w)
    saved = torch.empty(saved_shape(b, d, h * w, n) if keep else 0)
    scan = _Operands(x, delta, A, B, C, D, delta_bias, delta_softplus, saved, out, parts)
    scratch = 4 * SIZE + LANES * (n + 2 * h * w)
    if b:
        spread(lambda first, last: scan.run(first, last, scratch), b * blocks * parts, _least(h * w, n))
    merged = out[:, 0]
    for k in range(1, parts):  # in the order of one part, so that the number of threads changes nothing
        merged += out[:, k]
    return merged.to(out_dtype), saved


class _Operands:
    """Operands in float32, laid out as the kernels want them, and kept alive as long as their addresses are used."""

    def __init__(
        self, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
        delta_softplus: bool, saved: Tensor, out: Tensor, parts: int,
    ) -> None:  # fmt: skip
        (_, d, h, w), n = x.shape, A.shape[1]
        blocks = -(-d // LANES)
        streams = [each.float() for each in (x, delta, B, C)]
        bias = x.new_zeros(DIRECTIONS * d) if delta_bias is None else delta_bias
        weights = [
            None if each is None else _by_block(each, DIRECTIONS, blocks)
            for each in (A[None], None if D is None else D[None, :, None], bias[None, :, None])
        ]
        self._alive = (*streams, *weights, saved, out)
        self.scan = kernels.Scan(
            d, h, w, n, blocks, kept_every(n), int(delta_softplus), parts,
            *(place for stream in streams for place in _address(stream, 4)),
            *(0 if each is None else each.data_ptr() for each in weights),
            saved.data_ptr() if saved.dim() > 1 else 0, out.data_ptr(),
        )  # fmt: skip

    def run(self, first: int, last: int, scratch: int) -> None:
        """Scan blocks with a scratch of so many elements."""
        space = _aligned(scratch)
        kernels.forward(self.scan, first, last, space.data_ptr())

    def run_backward(self, targets: kernels.Gradients, first: int, last: int, scratch: int) -> None:
        """The gradients by way of parts of the blocks."""
        space = _aligned(scratch)
        kernels.backward(self.scan, targets, first, last, space.data_ptr())


def _least(l: int, n: int) -> int:
    """So many blocks are worth a thread of their own."""
    return max(1, 100_000 // (DIRECTIONS * l * (n + 4) * LANES))


def backward(
    grad: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    saved: Tensor,
    *,
    delta_softplus: bool,
    deterministic: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, delta, A, B, C, D and delta_bias; ``deterministic``: whatever the number of threads."""
    (b, d, h, w), n, l = x.shape, A.shape[1], x.shape[2] * x.shape[3]
    scan = _Operands(x, delta, A, B, C, D, delta_bias, delta_softplus, saved, saved, 1)
    blocks = -(-d // LANES)
    parts = parts_of(b, blocks, deterministic)
    grad = grad.float()
    of_x, of_delta = torch.empty(b, d, h, w), torch.empty(b, DIRECTIONS, d, l)
    of_A = torch.zeros(b, DIRECTIONS, blocks, n, LANES)
    of_B, of_C = torch.zeros(b, parts, DIRECTIONS, n, l), torch.zeros(b, parts, DIRECTIONS, n, l)
    of_D, of_bias = (torch.zeros(b, DIRECTIONS, blocks, 1, LANES) for _ in range(2))
    targets = kernels.Gradients(
        *_address(grad, 4),
        *(each.data_ptr() for each in (of_x, of_delta, of_A, of_B, of_C, of_D, of_bias)),
        parts,
    )
    scratch = 13 * SIZE + LANES * (n * (kept_every(n) // TILE + 1) + 3 * l)
    if b:
        spread(lambda first, last: scan.run_backward(targets, first, last, scratch), b * parts)
    of_A, of_D, of_bias = (_from_blocks(each.sum(0, keepdim=True), DIRECTIONS * d)[0] for each in (of_A, of_D, of_bias))
    found = (of_x, of_delta, of_A, of_B.sum(1), of_C.sum(1), of_D[:, 0], of_bias[:, 0])
    operands = (x, delta, A, B, C, D, delta_bias)
    return tuple(
        None if operand is None else each.to(operand.dtype) for operand, each in zip(operands, found, strict=True)
    )
