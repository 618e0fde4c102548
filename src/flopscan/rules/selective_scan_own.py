"""What flopscan's own CUDA kernels of the selective scan execute, forward and backward.

The implementation is `flopscan.ops.selective_scan.cuda` with the forms that it takes unless told otherwise. For two
states and more a channel is on `lanes` lanes of `each` states, so n counts as lanes x each; blocks take whole tiles of
l, and d of a group counts as a multiple of a block's channels. For one state lanes lie along l, in chunks of 32 x span.

Counted are the FADD, FMUL and FFMA that threads retire, whatever the dtypes, and their EX2 (exp), RCP (div) and
comparisons of floating-point numbers, as in `selective_scan_kernel`. Bias and D are added where they are absent too.
From the source: what is computed where. From the counters of an H100 (NVRTC 13.0 for sm_90): which products fuse with
the sums that follow them, in the backward different in each form.

A call is priced so where its operand ``kernel`` is "flopscan": a trace does not say which kernel will run, and reports
take the public one. Not counted: what crosses the edges of segments, which are there where b d is too small to fill the
GPU, and additions that the memory makes. On the cases of benchmarks/hardware/certificates/flopscan_scan-*.json all
counts are exact, but for additions where a group or the length ends within a block: 0.5 % of the FLOPs.
"""

from __future__ import annotations

from typing import NamedTuple

from flopscan.core.cost import Cost

_SHUFFLED = 31 + 30 + 28 + 24 + 16  # the lanes that combine in the five steps of a scan over a warp


class States(NamedTuple):
    """A form for two states and more; ``main``: what the backward computes once for 4 steps, softplus and z apart."""

    lanes: int
    each: int
    tile: int
    sub: int
    warps: int
    main: Cost

    @property
    def padded(self) -> int:
        """States, with those that only fill up."""
        return self.lanes * self.each

    @property
    def block(self) -> int:
        """Channels of a block."""
        return 32 // self.lanes * self.warps


def form(n: int) -> States:
    """The form for so many states."""
    return next(one for one in _FORMS if n <= one.padded)


def chunk(n: int, l: int, gated: bool) -> int:
    """Steps from one kept state to the next: short with z, else as many as keep no more than the public kernel."""
    short = min(max(64, 4 * _power_of_two(n)), 256)
    return short if gated else max(short, _power_of_two(-(-l // (2 * -(-l // 2048)))))


def _power_of_two(x: int) -> int:
    return 1 << (x - 1).bit_length()


def _whole(x: int, of: int) -> int:
    """``x``, rounded up to a multiple."""
    return -(-x // of) * of


def softplus(dtype: str) -> Cost:
    """Of a step: exp(-|x|), its log1p as a polynomial, shorter in 16 bits, and the larger of x and 0."""
    return Cost(exp=1, mul=1, fma=9 if dtype == "float32" else 6, cmp=1)


_SLOPE = Cost(add=1, mul=1, div=1, cmp=1)  # of softplus: 1 / (1 + exp(-x))


def forward(b: int, d: int, l: int, n: int, g: int, gated: bool, dtype: str, delta_softplus: bool) -> Cost:
    """Per (b,d',l',n') 6 FLOPs and 1 exp2; per (b,d',l') lanes + 3, softplus 19 and 1 exp2 in float32, z 5 and 1."""
    step = Cost(exp=1, add=1, div=1, mul=3) if gated else Cost()
    if delta_softplus:
        step += softplus(dtype)
    if n == 1:
        span, block = _rows(l, 8, 2)
        # the bias, products, the state, y; a scan over the lanes of a warp, once for each span
        step += Cost(exp=1, add=1, mul=5, fma=3)
        channels, steps = b * g * _whole(d // g, block), _whole(l, 32 * span)
        over_lanes = Cost(mul=_SHUFFLED, fma=_SHUFFLED + 32) * (channels * steps // span // 32)
        return step * (channels * steps) + over_lanes
    at = form(n)
    channels, steps = b * g * _whole(d // g, at.block), _whole(l, at.tile)
    # bias and delta u; D u onto y, and the sums over a channel's lanes
    step += Cost(add=at.lanes, mul=1, fma=1)
    step += Cost(exp=1, mul=2, fma=2) * at.padded
    return step * (channels * steps) + Cost(mul=at.padded) * channels


def backward(b: int, d: int, l: int, n: int, g: int, gated: bool, dtype: str, delta_softplus: bool) -> Cost:
    """Per (b,d',l') at 16 states 368 FLOPs and 30 exp2, states made again 69 and 16, softplus 23 and 1, z 49 and 2."""
    if n == 1:
        return _backward_of_rows(b, d, l, g, gated, dtype, delta_softplus)
    at = form(n)
    channels, steps = b * g * _whole(d // g, at.block), _whole(l, at.tile)
    step = Cost()
    again = Cost(add=1, mul=2 * at.padded + at.lanes, fma=at.padded, exp=at.padded)
    if delta_softplus:
        step += softplus(dtype) + _SLOPE
        again += softplus(dtype)
    if gated:  # the gate twice, its slope, and the output before it
        step += Cost(add=3 + at.lanes - 1, mul=7, fma=at.padded + 2, exp=2, div=2)
    # sums over the warps of a block, for each number of B's and C's gradients
    of_warps = Cost(add=2 * n * at.warps) * (channels // at.block * l)
    made_again = _made_again(l, at.tile, chunk(n, l, gated))
    # sums over the lanes of a channel for D and the bias
    ends = Cost(mul=at.padded, add=2 * at.lanes * (at.lanes.bit_length() - 1)) * channels
    once = at.main * (channels * steps // 4) + step * (channels * steps) + of_warps
    return once + again * (channels * made_again) + ends


def _made_again(l: int, tile: int, chunk: int) -> int:
    """The steps whose states are made once more: of each chunk all but its last tile."""
    return sum(_whole(min(chunk, l - start), tile) - tile for start in range(0, l, chunk))


def _backward_of_rows(b: int, d: int, l: int, g: int, gated: bool, dtype: str, delta_softplus: bool) -> Cost:
    """Of one state: two scans over the lanes of a warp, once for each span."""
    span, block = _rows(l, 16, 4)
    channels, steps = b * g * _whole(d // g, block), _whole(l, 32 * span)
    step = Cost(add=3, mul=12, fma=9, exp=1)
    if delta_softplus:
        step += softplus(dtype) + _SLOPE
    if gated:
        step += Cost(add=2, mul=7, fma=2, exp=1, div=1)
    each_span = Cost(add=32, mul=2 * _SHUFFLED + 33, fma=2 * _SHUFFLED + 32)
    if gated and dtype == "float32":
        each_span += Cost(mul=24 * 8) if span == 8 else Cost()
    if dtype == "float16":  # one sum more is fused
        step += Cost(add=-1, fma=1)
        each_span += Cost(add=-32, mul=-32, fma=32)
    spans = channels * steps // span // 32
    of_warps = Cost(add=2 * 4) * (channels // block * steps)
    return step * (channels * steps) + each_span * spans + of_warps + Cost(add=3 * 5 * 32) * channels


def _rows(l: int, short: int, long: int) -> tuple[int, int]:
    """Steps of a lane and channels of a block, for one state; a warp takes ``short`` channels up to 256 steps."""
    return 2 if l <= 64 else 4 if l <= 128 else 8, 4 * (short if l <= 256 else long)


_FORMS = (
    States(2, 1, 64, 8, 4, Cost(add=48, mul=96, fma=59, exp=15)),
    States(2, 2, 64, 8, 4, Cost(add=56, mul=158, fma=106, exp=30)),
    States(2, 4, 64, 8, 4, Cost(add=48, mul=250, fma=232, exp=60)),
    States(4, 4, 64, 8, 4, Cost(add=80, mul=488, fma=452, exp=120)),
    States(8, 4, 64, 8, 4, Cost(add=128, mul=964, fma=892, exp=240)),
    States(16, 4, 32, 8, 4, Cost(add=392, mul=2100, fma=1484, exp=448)),
    States(16, 8, 32, 4, 4, Cost(add=680, mul=4148, fma=3020, exp=960)),
    States(16, 16, 32, 4, 2, Cost(add=1192, mul=8116, fma=6028, exp=1920)),
)
