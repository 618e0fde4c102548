"""What the CUDA kernels of causal_conv1d run: the convolution on lengths in whole blocks of threads.

Where steps lie next to each other in memory, 128 threads take 4 steps each (16-bit numbers: 8), and the length is
rounded up to 512 (1024). Where channels do, a block takes 64 steps of 32 (64) channels, backward 128 steps once there
are more than 128, and both are rounded up; the backward there computes SiLU's input again for w - 1 steps more a
thread, which takes 16 steps of a block of 64 or 32 of one of 128 (16-bit: twice). Filters are 2 to 4 wide; another runs
elsewhere and counts as defined. A decoding step has no padding. Left out are sums between threads, and what a compiler
makes of SiLU: its fast exponential and fast division are a multiplication more each (benchmarks/hardware).
Source: causal_conv1d 1.7.0, csrc/causal_conv1d_{fwd,bwd,update}.cu.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.trace import Call, itemsize

THREADS = 128


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
    """w multiply-adds and SiLU's exp, add and division for every step of every block."""
    if 2 <= w <= 4 and not update:
        d, l, _ = _blocks(call, l, d, backward=False)
    each = Cost(fma=w, exp=1, add=1, div=1) if activation else Cost(fma=w)
    return each * (b * d * l)


def executed_backward(
    b: Any, d: Any, l: Any, w: Any, given: frozenset[str], call: Call, s: Any = 0, activation: str | None = None
) -> Cost:
    """2w multiply-adds and the bias' addition for every step; with SiLU its input again and its slope."""
    thread, handed_on = 0, min(w - 1, l + s)
    if 2 <= w <= 4:
        d, l, thread = _blocks(call, l, d, backward=True)
    cost = Cost(fma=2 * w, add=int("bias" in given)) * (b * d * l)
    if activation:
        again = l // thread * (thread + w - 1) if thread else l
        cost += Cost(fma=w, exp=1, div=1, add=3, mul=3) * (b * d * again)
    if "initial_states" in given:
        cost += Cost(fma=b * d * (w * (w - 1) // 2 if thread else s * w))
    return cost + Cost(add=b * d * handed_on) if "dfinal_states" in given else cost
