"""What the Triton kernels of mamba_ssm run for Mamba-2: the chunk form, tile by tile.

A chunk of Q steps is a masked product, as in attention, and chunks hand on one state. Per (b,l,h,p,n), that is in units
of BLDN with D = H P, and with causal tiles of M rows:

    forward 4 + (Q + M)/N + 2QG/D, backward 10 + 3(Q + M)/N + 6QG/D FLOPs

forward: the states of chunks, C times the state before, the causal (C B^T) x, and C B^T once a group, not causal;
backward: states again, the gradients of states, x, B and C by states, three causal products (of x, of C B^T and of the
decays), C B^T again and its two gradients. Beside these stands all elementwise work on pairs of steps, rows and states.

A grid of tiles covers the padded last chunk too; loops over its steps end at the last one. Triton picks tile sides when
it runs: assumed are 64 (less where the axis is shorter, never under 32) and inner steps of 32. Sides of 32 or 128 make
M 32 or 128: at Q = 256, N = 128, G = 1 and a D of thousands, 6.3 or 7.0 instead of 6.5 BLDN forward. A tile wider than
the channels or states of a head is padded to it, which Triton may choose all the same and which is not assumed.
Left out: sums over the few programs that share a group, idle lanes of tiles over heads, the multiplication in a fast
exponential, and what lanes that hold copies of a row or column repeat, exponentials most of all.
Given the tiles that Triton chose (``known``), the products of every kernel are these to the last digit on an H100, all
FLOPs forward within 1 % and backward within 2 %; with the tiles assumed, within 8 % and 10 % (docs/certificates.md).
Source: mamba_ssm 2.3.2, ops/triton/ssd_{combined,chunk_state,state_passing,bmm,chunk_scan}.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flopscan.core.cost import Cost


@dataclass(frozen=True)
class Tiles:
    """How a kernel cuts its axes: tiles of m rows and n columns, inner loops by k, products of at least ``dot``.

    Sides are as given, or fitted to a shorter axis: a power of two that is not under ``least``.
    """

    m: int = 64
    n: int = 64
    k: int = 32
    dot: int = 16
    wide: int = 128
    least: int | None = 32

    def rows(self, size: int) -> Axis:
        """The first axis of a grid."""
        return Axis.cut(size, self.m, self.least)

    def columns(self, size: int) -> Axis:
        """The second axis of a grid."""
        return Axis.cut(size, self.n, self.least)

    def inner(self, size: int) -> int:
        """The axis that is summed over, in whole steps."""
        return up(size, self.k)

    def whole(self, size: int) -> int:
        """The axis where one product takes all of it: a power of two."""
        return max(power(size), self.dot)

    def states(self, n: int) -> int:
        """The summed axis of states: whole where it is short."""
        return self.whole(n) if self.whole(n) <= self.wide else self.inner(n)


@dataclass(frozen=True)
class Axis:
    """An axis in tiles: how long one is, how many there are, and their length together."""

    side: int
    tiles: int
    size: int

    @staticmethod
    def cut(size: int, side: int, least: int | None) -> Axis:
        """``size`` in tiles of ``side``, fitted where there is a least."""
        side = side if least is None else min(side, max(least, power(size)))
        return Axis(side, -(-size // side), up(size, side))


def up(size: int, step: int) -> int:
    """``size`` rounded up to whole steps."""
    return -(-size // step) * step


def power(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


@dataclass(frozen=True)
class Chunk:
    """The work on one chunk of ``limit`` steps, of ``q`` at most, with ``p`` channels and ``n`` states a head."""

    q: int
    limit: int
    p: int
    n: int
    tiles: Tiles
    given: frozenset[str] = frozenset()
    dt_softplus: bool = False
    recompute_output: bool = False

    @property
    def steps(self) -> int:
        """The steps that an inner loop takes."""
        return self.tiles.inner(self.limit)

    def _starts(self) -> range:
        """Where the tiles of steps start."""
        rows = self.tiles.rows(self.q)
        return range(0, rows.size, rows.side)

    @property
    def before(self) -> int:
        """The pairs of a step and one not after it, in causal tiles."""
        side = self.tiles.rows(self.q).side
        return sum(side * self.tiles.inner(min(first + side, self.limit)) for first in self._starts())

    @property
    def after(self) -> int:
        """The pairs of a step and one not before it."""
        side = self.tiles.rows(self.q).side
        return sum(side * self.tiles.inner(max(self.limit - first, 0)) for first in self._starts())

    @property
    def triangle(self) -> int:
        """The pairs in the tiles on and under the diagonal, of the padded chunk too."""
        side, columns = self.tiles.rows(self.q).side, self.tiles.columns(self.q)
        return sum(side * min(up(first + side, columns.side), columns.size) for first in self._starts())

    @property
    def stripes(self) -> int:
        """The same where a loop over columns ends with the last row of a tile."""
        side, column = self.tiles.rows(self.q).side, self.tiles.columns(self.q).side
        return sum(side * up(first + side, column) for first in self._starts())


@dataclass(frozen=True)
class Scan:
    """A scan of ``l`` steps, and the tiles of its kernels: those that are known by name, and the others."""

    b: int
    l: int
    h: int
    g: int
    work: Chunk
    known: Mapping[str, Tiles]

    def chunks(self, kernel: str) -> list[tuple[Chunk, int]]:
        """The chunks as ``kernel`` cuts them, and how many there are of each: the full ones, and the last."""
        work = replace(self.work, tiles=self.known.get(kernel, self.work.tiles))
        full = (self.l - 1) // work.q
        return [(work, full), (replace(work, limit=self.l - full * work.q), 1)]

    def cost(self, kernel: str) -> Cost:
        """One launch of ``kernel``: each chunk, for every head, or for every group of heads."""
        of_chunk, heads = KERNELS[kernel], self.g if kernel in PER_GROUP else self.h
        return sum((of_chunk(chunk) * (self.b * heads * times) for chunk, times in self.chunks(kernel)), Cost())


def executed_forward(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, given: frozenset[str], chunk_size: int,
    dt_softplus: bool = False, tiles: Tiles = Tiles(), known: Mapping[str, Tiles] | None = None,
) -> Cost:  # fmt: skip
    """The chunk form: per chunk and head its step sizes, states, their passing on and the outputs; per group C B^T."""
    work = Chunk(chunk_size, chunk_size, p, n, tiles, given, dt_softplus)
    scan = Scan(b, l, h, g, work, known or {})
    return sum(map(scan.cost, (*AGAIN, "_chunk_scan_fwd_kernel")), Cost())


def executed_backward(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, given: frozenset[str], chunk_size: int, dt_softplus: bool = False,
    recompute_output: bool = False, tiles: Tiles = Tiles(), known: Mapping[str, Tiles] | None = None,
) -> Cost:  # fmt: skip
    """Step sizes, states and C B^T again, then one kernel for each gradient."""
    work = Chunk(chunk_size, chunk_size, p, n, tiles, given, dt_softplus, recompute_output)
    scan = Scan(b, l, h, g, work, known or {})
    gate = ("_chunk_scan_bwd_dz_kernel",) if "z" in given else ()
    masked = sum(
        (Cost(cmp=chunk.triangle * times) for chunk, times in scan.chunks("_chunk_scan_bwd_dcb_kernel")), Cost()
    )
    handed_back = -(-l // chunk_size) - ("initial_states" not in given)
    cost = sum(map(scan.cost, (*AGAIN, *gate, *GRADIENTS)), Cost())
    return cost + masked * (b * g) + _passed_back(p, n) * (b * h * handed_back)


_SIGMOID = Cost(exp=1, add=1, div=1)
_SOFTPLUS = Cost(exp=2, add=1, cmp=1)
_DECAY = Cost(add=1, cmp=1, exp=1)  # exp(min(difference, 0))


def _step_sizes(chunk: Chunk) -> Cost:
    """_chunk_cumsum_fwd: dt, clamped and set to 0 past the end, and the running sum of dt A."""
    each = Cost(cmp=3, mul=1, add=1)
    if "dt_bias" in chunk.given:
        each += Cost(add=1)
    if chunk.dt_softplus:
        each += _SOFTPLUS
    return each * power(chunk.q)


def _states(chunk: Chunk) -> Cost:
    """_chunk_state_fwd: x^T (B scaled by decay and dt)."""
    p, n = chunk.tiles.rows(chunk.p), chunk.tiles.columns(chunk.n)
    scales = (_DECAY + Cost(mul=1)) * (p.tiles * n.tiles)
    return (scales + Cost(mul=n.size * p.tiles, fma=p.size * n.size)) * chunk.steps


def _passed(chunk: Chunk) -> Cost:
    """_state_passing_fwd: one multiply-add a state and chunk."""
    return Cost(exp=1, fma=chunk.p * chunk.n)


def _scores(chunk: Chunk) -> Cost:
    """_bmm_chunk_fwd: C B^T of a group, all pairs."""
    t = chunk.tiles
    return Cost(fma=t.rows(chunk.q).size * t.columns(chunk.q).size * t.inner(chunk.n))


def _outputs(chunk: Chunk) -> Cost:
    """_chunk_scan_fwd: C times the state before, scaled; then the causal pairs, weighted by decay and dt, times x."""
    rows, p = chunk.tiles.rows(chunk.q), chunk.tiles.columns(chunk.p)
    each = Cost(mul=1, fma=chunk.tiles.states(chunk.n))
    if "D" in chunk.given:
        each += Cost(mul=1, add=1)
    if "z" in chunk.given:
        each += _SIGMOID + Cost(mul=2)
    pairs = (_DECAY + Cost(mul=2, cmp=1)) * p.tiles + Cost(fma=p.size)
    return each * (rows.size * p.size) + Cost(exp=rows.size * p.tiles) + pairs * chunk.before


def _gradient_of_z(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dz: the gate's two gradients, D's, and if asked for the gated output again."""
    each = _SIGMOID + Cost(mul=6, add=2)
    if "D" in chunk.given:
        each += Cost(mul=1, add=1)
    if chunk.recompute_output:
        each += Cost(mul=2)
    return each * (chunk.tiles.rows(chunk.q).size * chunk.tiles.whole(chunk.p))


def _gradient_of_states(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dstates: (dy scaled by decay)^T C."""
    p, n = chunk.tiles.rows(chunk.p), chunk.tiles.columns(chunk.n)
    scales = Cost(exp=p.tiles * n.tiles, mul=p.size * n.tiles)
    return (scales + Cost(fma=p.size * n.size)) * chunk.steps


def _passed_back(p: int, n: int) -> Cost:
    """_state_passing_bwd: the decay's gradient, a sum over states, and the state's, one multiply-add."""
    return Cost(mul=1, add=1, fma=1) * (p * n) + Cost(exp=1, mul=1)


def _gradient_of_x(chunk: Chunk) -> Cost:
    """_chunk_scan_chunk_state_bwd_dx: B times the gradient of states, pairs times dy; then dx, and the sum for dt."""
    rows, p = chunk.tiles.rows(chunk.q), chunk.tiles.columns(chunk.p)
    each = Cost(mul=3, add=1, fma=chunk.tiles.states(chunk.n))
    if "D" in chunk.given:
        each += Cost(mul=2, add=2)
    pairs = (_DECAY + Cost(mul=1, cmp=1)) * p.tiles + Cost(fma=p.size)
    return each * (rows.size * p.size) + _DECAY * (rows.size * p.tiles) + pairs * chunk.after


def _gradient_of_b(chunk: Chunk) -> Cost:
    """_chunk_state_bwd_db: x times the gradient of states, scaled, summed over heads, and the decay's gradient."""
    rows, n = chunk.tiles.rows(chunk.q), chunk.tiles.columns(chunk.n)
    each = Cost(mul=2, add=2, fma=chunk.tiles.whole(chunk.p)) * n.size
    return (each + (_DECAY + Cost(mul=1)) * n.tiles) * rows.size


def _gradient_of_c(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dc: dy times the states, scaled, summed over heads, and the decay's gradient."""
    rows, n = chunk.tiles.rows(chunk.q), chunk.tiles.columns(chunk.n)
    each = Cost(mul=2, add=2, fma=chunk.tiles.whole(chunk.p)) * n.size
    return (each + Cost(exp=n.tiles)) * rows.size


def _gradient_of_scores(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dcb: dy x^T on causal tiles, weighted, summed over heads."""
    return (_DECAY + Cost(mul=2, add=1, fma=chunk.tiles.whole(chunk.p))) * chunk.triangle


def _gradient_through_scores(chunk: Chunk) -> Cost:
    """_bmm_chunk_bwd, once for B and once for C: a product onto what the states gave."""
    rows, n = chunk.tiles.rows(chunk.q), chunk.tiles.columns(chunk.n)
    return Cost(add=1, fma=chunk.steps) * (rows.size * n.size)


def _gradient_of_decays(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_ddAcs_stable: dy x^T again, weighted, masked, summed along rows, masked, summed along columns.

    Then the sum over tiles, two running sums over steps and the three gradients of the decays added up.
    """
    pairs = _DECAY + Cost(mul=3, add=4, cmp=2, fma=chunk.tiles.whole(chunk.p))
    return pairs * chunk.stripes + Cost(add=(chunk.tiles.rows(chunk.q).tiles + 3) * chunk.q)


def _gradient_of_dt(chunk: Chunk) -> Cost:
    """_chunk_cumsum_bwd: dt again, the slopes of its clamp and softplus, and the sums for A and the bias."""
    each = Cost(mul=2, add=2, cmp=7)
    if "dt_bias" in chunk.given:
        each += Cost(add=2)
    if chunk.dt_softplus:
        each += _SOFTPLUS + _SIGMOID + Cost(mul=1, cmp=1)
    return each * power(chunk.q)


# What each kernel does with a chunk, and for what it is launched: heads, or groups of them.
KERNELS: dict[str, Callable[[Chunk], Cost]] = {
    "_chunk_cumsum_fwd_kernel": _step_sizes,
    "_chunk_state_fwd_kernel": _states,
    "_state_passing_fwd_kernel": _passed,
    "_bmm_chunk_fwd_kernel": _scores,
    "_chunk_scan_fwd_kernel": _outputs,
    "_chunk_scan_bwd_dz_kernel": _gradient_of_z,
    "_chunk_scan_bwd_dstates_kernel": _gradient_of_states,
    "_chunk_scan_chunk_state_bwd_dx_kernel": _gradient_of_x,
    "_chunk_state_bwd_db_kernel": _gradient_of_b,
    "_chunk_scan_bwd_dc_kernel": _gradient_of_c,
    "_chunk_scan_bwd_dcb_kernel": _gradient_of_scores,
    "_bmm_chunk_bwd_kernel": _gradient_through_scores,
    "_chunk_scan_bwd_ddAcs_stable_kernel": _gradient_of_decays,
    "_chunk_cumsum_bwd_kernel": _gradient_of_dt,
}
PER_GROUP = ("_bmm_chunk_fwd_kernel", "_bmm_chunk_bwd_kernel")
AGAIN = ("_chunk_cumsum_fwd_kernel", "_chunk_state_fwd_kernel", "_state_passing_fwd_kernel", "_bmm_chunk_fwd_kernel")
GRADIENTS = (
    "_chunk_scan_bwd_dstates_kernel", "_chunk_scan_chunk_state_bwd_dx_kernel", "_chunk_state_bwd_db_kernel",
    "_chunk_scan_bwd_dc_kernel", "_chunk_scan_bwd_dcb_kernel", "_bmm_chunk_bwd_kernel", "_bmm_chunk_bwd_kernel",
    "_chunk_scan_bwd_ddAcs_stable_kernel", "_chunk_cumsum_bwd_kernel",
)  # fmt: skip
