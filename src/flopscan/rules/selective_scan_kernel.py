"""What the public CUDA kernel of the selective scan executes, forward and backward.

The implementation is `selective_scan_cuda` of mamba_ssm as it is launched on NVIDIA GPUs (csrc/selective_scan, read in
2.3.2); VMamba's `selective_scan_cuda_oflex` has the same launches and the same arithmetic. A block of T threads takes
one (b, d), chunk after chunk of T*I steps, I neighbouring ones a thread. A chunk is executed whole, so l counts as l',
the next multiple of T*I. The recurrence becomes a parallel scan of pairs (a, x) under

    combine((a0, x0), (a1, x1)) = (a1 a0, a1 x0 + x1)

Counted are the FADD, FMUL and FFMA instructions that threads retire, whatever the dtype of the operands, and their EX2
(exp), SIN and COS (trig), RCP (div) and comparisons of floating-point numbers. Not counted: selections, conversions,
index arithmetic, and the atomic additions of the backward, which the memory makes: one for each valid (b,d,l,n) of the
gradient of a variable B, and of C.

From the source: launches, combinations, operations on each element. From SASS: softplus (log1pf is a polynomial), and
what the compiler fuses or computes again rather than keep. How near that comes to the hardware counters of an H100
(kernels built for sm_90 by CUDA 13.0; the table is in tests/rules/test_selective_scan_counters.py):

* real A, forward: FADD, FMUL and FFMA exact; where T is 64 the compiler saves 31 FMUL a state and chunk, 0.3 %;
* real A, variable B and C, backward: exact, but in FLOPs for T*I = 32*4 in float32, 3 %; without softplus in float32,
  3 %; with 16 items a thread in 16 bits and a chunk cut short, 1 %;
* real A, constant B or C, backward: within 6 % in FLOPs;
* complex A: forward within 2 %, backward 3 %, with constant B and C 6 %, in FLOPs; FMUL and FADD pair into FFMA
  differently in each launch;
* EX2, SIN, COS and RCP exact, beside one RCP a thread and block by which integers are divided, and but for complex A
  with T*I = 32*16 cut short, where the backward computes up to 3 of 16 of them twice;
* a warp whose steps are all above 20 skips softplus: shapes do not tell, so none is taken to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flopscan.core.cost import Cost
from flopscan.core.trace import Call
from flopscan.rules import selective_scan_own as own

_LAUNCHES = ((128, 32, 4), (256, 32, 8), (512, 32, 16), (1024, 64, 16))  # up to this l: T, I
_LONG = (128, 16)
_WARP = 32
_SHUFFLES = 31 + 30 + 28 + 24 + 16  # the lanes that combine in the five steps of a scan or a sum over a warp
_SOFTPLUS = Cost(exp=1, mul=3, fma=11, add=2)  # of log1pf(expf(x)), without its comparison


class Launch(NamedTuple):
    """Threads of a block, steps of a chunk that each of them takes, chunks of a block."""

    threads: int
    items: int
    chunks: int

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.threads // _WARP

    @property
    def steps(self) -> int:
        """Steps of a chunk."""
        return self.threads * self.items


def launch(l: int) -> Launch:
    """The launch for a length: the smallest chunk that holds it, or as many of 2048 steps as it takes."""
    threads, items = next(((t, i) for longest, t, i in _LAUNCHES if l <= longest), _LONG)
    return Launch(threads, items, -(-l // (threads * items)))


def executed_forward(
    b: Any, d: Any, l: int, n: Any, given: frozenset[str], forms: Mapping[str, str], call: Call,
    delta_softplus: bool = False,
) -> Cost:  # fmt: skip
    """Per (b,d,l',n) of real A 9.9 to 12.8 FLOPs, 10.5 where l > 1024, and 1 exp2; per (b,d,l') 30 and 1 exp2.

    Each element: delta*A, exp2, B*(delta u), C*x, 2 mul + 1 fma. Each thread: A*log2(e), 1 mul. A scan of W = T/32
    warps combines T(I-1) times within threads, 129 W within warps, T(W-1) + 31(W-1) over warps, 32 with the state
    before the chunk; then T-1 + T*I times without the product of the a's, to spread what came before. If every thread
    ran every instruction, that were 9 + 3(5+W+[W>1])/I FLOPs.

    Per (b,d,l'): bias, delta*u, D*u and a comparison, given or not; softplus 27 FLOPs and 1 exp2 of the 30; z
    4 FLOPs, 1 exp2 and 1 reciprocal more.
    """
    if call.args.get("kernel") == "flopscan":
        g = call["B"].shape[1] if forms["B"] == "b g n l" else 1
        return own.forward(b, d, l, n, g, "z" in given, call["u"].dtype, delta_softplus)
    at, is_complex, constant = launch(l), call["A"].is_complex, _constant(forms)
    within, over = at.threads * (at.items - 1), (at.threads + _WARP - 1) * (at.warps - 1)
    full = within + _shuffles(is_complex) * at.warps + over + _WARP
    state = _combinations(full, at.threads - 1 + at.steps, is_complex)
    state += _element_forward(is_complex, constant) * at.steps + _thread(is_complex, constant) * at.threads
    step = Cost(add=1, mul=2, cmp=1)
    if delta_softplus:
        step += _SOFTPLUS
    if "z" in given:
        step += Cost(exp=1, add=1, div=1, mul=3)
    return (state * n + step * at.steps) * (at.chunks * b * d)


def executed_backward(
    b: Any, d: Any, l: int, n: Any, given: frozenset[str], forms: Mapping[str, str], call: Call,
    delta_softplus: bool = False,
) -> Cost:  # fmt: skip
    """Per (b,d,l',n) of real A 29.0 to 35.5 FLOPs, 29.0 where l > 1024, and 1 exp2; per (b,d,l') 36 and 2 exp2.

    Nothing but the states between chunks is kept. Each element is computed again, scanned, and its adjoint scanned in
    reverse; outside the scans that is 10 mul, 3 fma and 2 add. Two scans by raking combine 2 T(I-1) times within
    threads and 2 T*I times without the product of the a's; a single warp takes 32(W-1) + 129 + 32(W-1) + 31 for each
    and 32 for the carry. Sums over a block, of dA by state and chunk, of dD and the bias at the end: 129 W + W-1 add.

    Per (b,d,l'): bias, D*dy, and the sums of dD and the bias 5 FLOPs; softplus, again, 27 and 1 exp2; its slope 4
    FLOPs, 1 exp2 and 1 reciprocal; without softplus in float32 delta + bias is instead computed again for each state.
    z 10 FLOPs, 1 exp2 and 1 reciprocal more, and 1 mul where the gated output is asked for, which is not counted here.
    """
    if call.args.get("kernel") == "flopscan":
        g = call["B"].shape[1] if forms["B"] == "b g n l" else 1
        return own.backward(b, d, l, n, g, "z" in given, call["u"].dtype, delta_softplus)
    at, is_complex, constant = launch(l), call["A"].is_complex, _constant(forms)
    narrow = call["u"].dtype in ("float16", "bfloat16")
    sums = (2 if is_complex else 1) * (2 if any(constant) else 1)  # of dA, and of dB, of dC or of the gradient of B*C
    unfused = Cost(mul=1, add=1, fma=-1) * (sums - 2 if is_complex else sums)  # one of the items that they add up
    state = _scans_by_raking(at, is_complex) + _block_sum(at) * sums
    state += (_thread(is_complex, constant) + unfused) * at.threads
    state += (_ADJOINT_COMPLEX if is_complex else _ADJOINT)[constant] * at.steps
    if not is_complex:
        state += _compiled(at, l % at.steps == 0, narrow, constant)
    step = Cost(add=2 if is_complex else 1, mul=1, fma=1)  # where A is complex, twice dy
    if delta_softplus:
        step += _SOFTPLUS + Cost(add=3, mul=2, exp=1, div=1, cmp=2)
    elif narrow:
        step += Cost(add=1)
    else:
        state += Cost(add=1) * at.steps
    if "z" in given:
        step += Cost(exp=1, add=2, div=1, mul=6, fma=1)
    over_chunks = Cost(add=1) * (sums * n * (at.chunks - 1))
    ends = _block_sum(at) * len(given & {"D", "delta_bias"})
    return ((state * n + step * at.steps) * at.chunks + over_chunks + ends) * (b * d)


def _constant(forms: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether B is constant over the length, and C."""
    return forms["B"] == "d n", forms["C"] == "d n"


def _combinations(full: int, last: int, is_complex: bool) -> Cost:
    """``full`` combinations, and ``last`` ones of which only x is used."""
    if is_complex:
        return Cost(mul=4, fma=4, add=2) * full + Cost(mul=2, fma=2, add=2) * last
    return Cost(mul=1, fma=1) * full + Cost(fma=1) * last


def _shuffles(is_complex: bool) -> int:
    """Combinations in a scan over a warp. Those of complex numbers are made by every lane, and then selected."""
    return 5 * _WARP if is_complex else _SHUFFLES


def _scans_by_raking(at: Launch, is_complex: bool) -> Cost:
    """The scan of the states and that of the adjoint; a block of one warp has nothing to rake."""
    full = 2 * (at.threads * (at.items - 1) + _shuffles(is_complex)) + _WARP
    applied = 2 * (_WARP - 1)
    if at.warps == 1:
        return _combinations(full, 2 * at.steps + applied, is_complex)
    raked = 2 * 2 * _WARP * (at.warps - 1)
    return _combinations(full + applied + raked, 2 * at.steps, is_complex)


def _compiled(at: Launch, whole: bool, narrow: bool, constant: tuple[bool, bool]) -> Cost:
    """What SASS has beside the source, per state and chunk of real numbers.

    From operands of 16 bits delta*u*B is computed twice, the second time fused into the subtraction from x. In float32
    with a last chunk cut short, every third item's x is computed twice.
    """
    if narrow and not constant[0]:
        return Cost(fma=1, add=-1) * at.steps
    if not (narrow or whole or any(constant)):
        return Cost(mul=1, fma=1) * (at.items // 3 * at.threads)
    return Cost()


def _block_sum(at: Launch) -> Cost:
    """The sum of one number of each thread."""
    return Cost(add=_SHUFFLES * at.warps + at.warps - 1)


def _thread(is_complex: bool, constant: tuple[bool, bool]) -> Cost:
    """Per thread and state: A's real part times log2(e), and B*C where both are constant."""
    product = Cost(mul=2, fma=2) if is_complex else Cost(mul=1)
    return Cost(mul=1) + (product if all(constant) else Cost())


def _element_forward(is_complex: bool, constant: tuple[bool, bool]) -> Cost:
    """delta*A and its exponential, B*(delta u), C*x; a constant B goes onto a variable C, and B*C once onto neither."""
    if not is_complex:
        return Cost(mul=1 if all(constant) else 2, fma=1, exp=1)
    product = Cost(mul=0 if all(constant) else 2, fma=2 if constant == (True, False) else 0)
    return Cost(mul=6, fma=2, exp=1, trig=2) + product


# The backward of an element outside the scans, by (B constant, C constant). With g the adjoint, x the state, dy:
# all: delta*A, delta*u, dy*C, g*A, g*delta: 5 mul; into du, ddelta and dA 3 fma; a*x before = x - delta*u*B and the sum
# of ddelta 2 add. Beside these:
_ADJOINT = {
    (False, False): Cost(mul=10, fma=3, add=2, exp=1),  # delta*u*B, g*B, g*B*u, g*delta*u, dy*x
    (False, True): Cost(mul=9, fma=4, add=2, exp=1),  # delta*u*B, g*B, g*B*u, g*delta*u; dy*x into dC
    (True, False): Cost(mul=10, fma=4, add=2, exp=1),  # B*C, g*u, x*B, dy*x*B, x*C; dy*x*C into dB
    (True, True): Cost(mul=6, fma=4, add=2, exp=1),  # g*u; dy*x into the gradient of B*C
}
# The same with complex numbers: a product is 2 mul + 2 fma, one with a real number 2 mul, the real part of one
# 1 mul + 1 fma; the exponential 3 mul beside its functions.
_ADJOINT_COMPLEX = {
    (False, False): Cost(mul=23, fma=11, add=3, exp=1, trig=2),
    (False, True): Cost(mul=21, fma=13, add=3, exp=1, trig=2),
    (True, False): Cost(mul=23, fma=15, add=4, exp=1, trig=2),
    (True, True): Cost(mul=15, fma=9, add=4, exp=1, trig=2),
}
