"""What the CUDA kernels of causal_conv1d run: the convolution on lengths in whole blocks of threads.

Where steps lie next to each other in memory, 128 threads take 4 steps each (16-bit numbers: 8), and the length is
rounded up to 512 (1024). Where channels do, a block takes 64 steps of 32 (64) channels, backward 128 steps once there
are more than 128, and both are rounded up; the backward there computes SiLU's input again for w - 1 steps more a
thread, which takes 16 steps of a block of 64 or 32 of one of 128 (16-bit: twice). Filters are 2 to 4 wide; another runs
elsewhere and counts as defined. A decoding step has no padding.

Counted are the FADD, FMUL and FFMA that threads retire, RCP (div) and EX2 (exp). Compiled for speed, e^-y is 2^(-y
log2 e), a multiplication more, and y / (1 + e^-y) is y times a reciprocal, another one more; in the slope g s (1 + y (1
- s)) the reciprocal is s itself, and one multiplication and one addition are an fma.

Sums over threads, one for each tap of the filter and one for the bias: a block of 128 steps' threads shuffles within
its 4 warps, where 31, 30, 28, 24 and 16 lanes add, and one thread adds up the warps: 4 * 129 + 3 additions; it takes
every step's addition for the bias, given or not. Where channels are neighbours the 4 (2) threads of a channel exchange
sums, and all of them add, twice (once). The memory adds up blocks, which is not counted.

All this is exact on an H100 (counters in benchmarks/hardware; tests/test_certificates.py), in float32 and bfloat16, but
for sequence indices, decoding steps and states, which were not run there.
Source: causal_conv1d 1.7.0, csrc/causal_conv1d_{fwd,bwd,update}.cu; cub's BlockReduce.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.trace import Call, itemsize

THREADS = 128


_WARP = 32
_SHUFFLES = sum(_WARP - (1 << k) for k in range(5))  # the lanes that add in the five steps of a sum over a warp


def _blocks(call: Call, l: int, d: int, *, backward: bool) -> tuple[int, int, int]:
    """Channels and steps in whole blocks, and the steps of one thread where channels are neighbours (else 0)."""
    x = call["x"]
    narrow = itemsize(x.dtype) < 4
    if x.strides is None or not (x.strides[1] == 1 and x.strides[2] > 1):
        return d, _up(l, THREADS * (8 if narrow else 4)), 0
    steps, channels = 128 if backward and l > 128 else 64, 64 if narrow else 32
    return _up(d, channels), _up(l, steps), steps * channels // THREADS


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def executed_forward(
    b: Any, d: Any, l: Any, w: Any, call: Call, activation: str | None = None, update: bool = False
) -> Cost:
    """w multiply-adds and SiLU's exp, add and division, with 2 multiplications, for every step of every block."""
    fast = 2 <= w <= 4
    if fast and not update:
        d, l, _ = _blocks(call, l, d, backward=False)
    silu = Cost(exp=1, add=1, div=1, mul=2 if fast else 0)
    return (Cost(fma=w) + silu if activation else Cost(fma=w)) * (b * d * l)


def executed_backward(
    b: Any, d: Any, l: Any, w: Any, given: frozenset[str], call: Call, s: Any = 0, activation: str | None = None
) -> Cost:
    """2w multiply-adds and the bias' addition for every step; with SiLU its input again and its slope; the sums."""
    handed_on = Cost(add=b * d * min(w - 1, l + s)) if "dfinal_states" in given else Cost()
    if not 2 <= w <= 4:
        each = Cost(fma=2 * w, add=int("bias" in given))
        each += Cost(fma=w, exp=1, div=1, add=3, mul=3) if activation else Cost()
        states = Cost(fma=b * d * s * w) if "initial_states" in given else Cost()
        return each * (b * d * l) + states + handed_on
    d, l, thread = _blocks(call, l, d, backward=True)
    summed = w + ("bias" in given)
    if thread:
        again, biased, states = l // thread * (thread + w - 1), "bias" in given, w * (w - 1) // 2
        sums = l // thread * _exchanges(call) * summed
    else:
        again, biased, states = l, True, s * w
        sums = (_SHUFFLES * THREADS // _WARP + THREADS // _WARP - 1) * summed
    cost = Cost(fma=2 * w, add=int(biased)) * l + Cost(add=sums)
    if activation:
        cost += Cost(fma=w + 1, exp=1, div=1, add=2, mul=3) * again
    if "initial_states" in given:
        cost += Cost(fma=states)
    return cost * (b * d) + handed_on


def _exchanges(call: Call) -> int:
    """The steps in which the threads of one channel exchange their sums, where channels are neighbours."""
    return 1 if itemsize(call["x"].dtype) < 4 else 2
