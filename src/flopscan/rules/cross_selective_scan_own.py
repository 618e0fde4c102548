"""What flopscan's own CUDA kernels of the cross selective scan execute, forward and backward, of one state.

The implementation is `flopscan.ops.cross_selective_scan.fused` with the walks that it takes unless told otherwise: a
channel of a direction is on some lanes of a warp, 8 steps each, so l counts as whole chunks of 8 x lanes, and d as a
multiple of a block's channels. Counted are the operations of `selective_scan_own`; the recurrence over the lanes is
there once for each run of 8. Bias and D are added where they are absent too.

From the source: what is computed where. From the counters of an H100 (NVRTC 13.0 for sm_90): which products fuse with
the sums that follow them, and what a thread computes to find its place, where whole numbers are divided as floating
ones; that depends on the sides of the image, and is a mean. All FLOPs are within 0.5 % on the cases of
benchmarks/hardware/certificates/flopscan_cross_scan-*.json.

A call is priced so where its operand ``kernel`` is "flopscan" and the image fits into the shared memory of an H100.
"""

from __future__ import annotations

from typing import NamedTuple

from flopscan.core.cost import Cost
from flopscan.rules.selective_scan_own import softplus

SPAN = 8
ROOM = 227 * 1024  # bytes of shared memory that a block of an H100 can have
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class Walk(NamedTuple):
    """The lanes of a channel, and the warps of a block that go in one direction."""

    lanes: int
    warps: int

    @property
    def block(self) -> int:
        """Channels of a block."""
        return 32 // self.lanes * self.warps


def walk(l: int, backward: bool) -> Walk:
    """How an image of so many pixels is walked through."""
    if l <= 256:
        return Walk(4, 1)
    if l <= 1024:
        return Walk(8, 1 if backward else 2)
    return Walk(32, 2 if l <= 4096 else 1)


def fits(l: int, n: int, dtype: str) -> bool:
    """Whether these kernels take such operands: else there are three steps."""
    if n != 1 or dtype not in _BYTES:
        return False
    way = walk(l, backward=True)
    products = 4 * 2 * 4 * way.block * way.lanes * SPAN
    return way.block * _whole(l, 8) * (2 * 4 + 2 * _BYTES[dtype]) + products <= ROOM


def forward(b: int, d: int, l: int, dtype: str, delta_softplus: bool) -> Cost:
    """Per direction and (b,d',l') 11.8 FLOPs and 1 exp2, softplus 20 and 1 in float32; per (b,d,l) 3 additions."""
    way = walk(l, backward=False)
    threads, runs = _work(b, d, l, way)
    run = Cost(add=SPAN, mul=39, fma=25, exp=SPAN)
    if delta_softplus:
        run += softplus(dtype) * SPAN
    return run * runs + _over_lanes(way, runs) + _merge(b, d, l) + Cost(add=5, mul=11, div=7) * threads


def backward(b: int, d: int, l: int, dtype: str, delta_softplus: bool) -> Cost:
    """Per direction and (b,d',l') 30.4 FLOPs and 1 exp2, softplus 23 and 1 in float32; sums over a block's channels."""
    way = walk(l, backward=True)
    threads, runs = _work(b, d, l, way)
    run = Cost(add=3 * SPAN + 1, mul=104, fma=57, exp=SPAN)
    if dtype == "float16":  # one sum more is fused
        run += Cost(add=-9, mul=-1, fma=9)
    if delta_softplus:  # and its slope
        run += (softplus(dtype) + Cost(add=1, mul=2, div=1, cmp=1)) * SPAN
    elif way.lanes == 32:  # where registers are few, products are made again
        run += Cost(mul=11)
    of_block = Cost(add=2 * 4 * l * way.block) * (b * -(-d // way.block))
    of_lanes = 3 * (way.lanes.bit_length() - 1)
    ends = Cost(add=6 + of_lanes, mul=16, div=9) * threads
    return run * runs + _over_lanes(way, 2 * runs) + of_block + _merge(b, d, l) + ends


def _work(b: int, d: int, l: int, way: Walk) -> tuple[int, int]:
    """The threads, and the runs of 8 steps that they have."""
    blocks, chunks = b * -(-d // way.block), -(-l // (way.lanes * SPAN))
    threads = blocks * 4 * 32 * way.warps
    return threads, threads * chunks


def _over_lanes(way: Walk, runs: int) -> Cost:
    """The recurrence over the lanes of a channel, by doubling: for each run of 8 the mean of the lanes that combine."""
    steps = [1 << i for i in range(way.lanes.bit_length() - 1)]
    combined = sum(way.lanes - by for by in steps) * runs // way.lanes
    return Cost(mul=combined, fma=combined)


def _merge(b: int, d: int, l: int) -> Cost:
    """Two sums of two directions, in whole runs of 8, and the two added up."""
    return Cost(add=2 * _whole(l, 8) + l) * (b * d)


def _whole(x: int, of: int) -> int:
    """``x``, rounded up to a multiple."""
    return -(-x // of) * of
