"""What the Triton kernels of mamba_ssm run for Mamba-2: the chunk form, tile by tile.

A chunk of Q steps is a masked product, as in attention, and chunks hand on one state. Per (b,l,h,p,n), that is in units
of BLDN with D = H P, and with causal tiles of M rows:

    forward 4 + (Q + M)/N + 2QG/D, backward 10 + 3(Q + M)/N + 6QG/D FLOPs

forward: the states of chunks, C times the state before, the causal (C B^T) x, and C B^T once a group, not causal;
backward: states again, the gradients of states, x, B and C by states, three causal products (of x, of C B^T and of the
decays), C B^T again and its two gradients. Beside these stands all elementwise work on pairs of steps, rows and states.

A grid of tiles covers the padded last chunk too; loops over its steps end at the last one. Triton picks tile sides when
it runs: assumed are 64 (less where the axis is shorter, never under 32) and inner steps of 32. Sides of 32 or 128 make
M 32 or 128: at Q = 256, N = 128, G = 1 and a D of thousands, 6.3 or 7.0 instead of 6.5 BLDN forward.
Left out: sums over the few programs that share a group, and idle lanes of tiles over heads.
Source: mamba_ssm 2.3.2, ops/triton/ssd_{combined,chunk_state,state_passing,bmm,chunk_scan}.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flopscan.core.cost import Cost


@dataclass(frozen=True)
class Tiles:
    """How an axis is cut: tiles of ``side`` (not under ``least``), inner loops by ``inner``, products of ``dot``."""

    side: int = 64
    least: int = 32
    inner: int = 32
    dot: int = 16
    wide: int = 128

    def of(self, size: int) -> int:
        """The side of the tiles over an axis."""
        return min(self.side, max(self.least, power(size)))

    def padded(self, size: int) -> int:
        """The axis in whole tiles."""
        return up(size, self.of(size))

    def across(self, size: int) -> int:
        """How many tiles cover the axis."""
        return self.padded(size) // self.of(size)

    def whole(self, size: int) -> int:
        """The axis where one product takes all of it: a power of two."""
        return max(power(size), self.dot)

    def states(self, n: int) -> int:
        """The summed axis of states: whole where it is short."""
        return self.whole(n) if self.whole(n) <= self.wide else up(n, self.inner)


def up(size: int, step: int) -> int:
    """``size`` rounded up to whole steps."""
    return -(-size // step) * step


def power(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


@dataclass(frozen=True)
class Chunk:
    """The sizes of the work on one chunk of ``limit`` steps, of ``q`` at most, with ``p`` channels and ``n`` states."""

    q: int
    limit: int
    p: int
    n: int
    tiles: Tiles

    @property
    def rows(self) -> int:
        """The steps in whole tiles."""
        return self.tiles.padded(self.q)

    @property
    def steps(self) -> int:
        """The steps that an inner loop takes."""
        return up(self.limit, self.tiles.inner)

    @property
    def before(self) -> int:
        """The pairs of a step and one not after it, in causal tiles."""
        side = self.tiles.of(self.q)
        return sum(side * up(min(first + side, self.limit), self.tiles.inner) for first in range(0, self.rows, side))

    @property
    def after(self) -> int:
        """The pairs of a step and one not before it."""
        side = self.tiles.of(self.q)
        return sum(side * up(max(self.limit - first, 0), self.tiles.inner) for first in range(0, self.rows, side))

    @property
    def triangle(self) -> int:
        """The pairs in the tiles on and under the diagonal, of the padded chunk too."""
        across = self.tiles.across(self.q)
        return self.tiles.of(self.q) ** 2 * across * (across + 1) // 2


def executed_forward(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, given: frozenset[str], chunk_size: int,
    dt_softplus: bool = False, tiles: Tiles = Tiles(),
) -> Cost:  # fmt: skip
    """The chunk form: per chunk and head its step sizes, states, their passing on and the outputs; per group C B^T."""
    cost = Cost()
    for chunk, times in chunks(l, chunk_size, p, n, tiles):
        per_head = _step_sizes(chunk, given, dt_softplus) + _states(chunk) + _passed(chunk) + _outputs(chunk, given)
        cost += (per_head * h + _scores(chunk) * g) * (b * times)
    return cost


def executed_backward(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, given: frozenset[str], chunk_size: int,
    dt_softplus: bool = False, recompute_output: bool = False, tiles: Tiles = Tiles(),
) -> Cost:  # fmt: skip
    """Step sizes, states and C B^T again, then one kernel for each gradient."""
    cost = Cost()
    for chunk, times in chunks(l, chunk_size, p, n, tiles):
        per_head = _step_sizes(chunk, given, dt_softplus) + _states(chunk) + _passed(chunk) + _gradient_of_states(chunk)
        per_head += _gradient_of_x(chunk, given) + _gradient_of_b(chunk) + _gradient_of_c(chunk)
        per_head += _gradient_of_scores(chunk) + _gradient_of_decays(chunk) + _gradient_of_dt(chunk, given, dt_softplus)
        if "z" in given:
            per_head += _gradient_of_z(chunk, given, recompute_output)
        per_group = _scores(chunk) + _gradient_through_scores(chunk)
        cost += (per_head * h + per_group * g) * (b * times)
    handed_back = -(-l // chunk_size) - ("initial_states" not in given)
    return cost + _passed_back(p, n) * (b * h * handed_back)


def chunks(l: int, q: int, p: int, n: int, tiles: Tiles) -> list[tuple[Chunk, int]]:
    """The chunks of ``l`` steps and how many there are of each: the full ones, and the last."""
    full = (l - 1) // q
    return [(Chunk(q, q, p, n, tiles), full), (Chunk(q, l - full * q, p, n, tiles), 1)]


_SIGMOID = Cost(exp=1, add=1, div=1)
_SOFTPLUS = Cost(exp=2, add=1, cmp=1)
_DECAY = Cost(add=1, cmp=1, exp=1)  # exp(min(difference, 0))


def _step_sizes(chunk: Chunk, given: frozenset[str], dt_softplus: bool) -> Cost:
    """_chunk_cumsum_fwd: dt, clamped and set to 0 past the end, and the running sum of dt A."""
    each = Cost(cmp=3, mul=1, add=1)
    if "dt_bias" in given:
        each += Cost(add=1)
    if dt_softplus:
        each += _SOFTPLUS
    return each * power(chunk.q)


def _states(chunk: Chunk) -> Cost:
    """_chunk_state_fwd: x^T (B scaled by decay and dt)."""
    t, p, n = chunk.tiles, chunk.tiles.padded(chunk.p), chunk.tiles.padded(chunk.n)
    scales = (_DECAY + Cost(mul=1)) * (t.across(chunk.p) * t.across(chunk.n))
    return (scales + Cost(mul=n * t.across(chunk.p), fma=p * n)) * chunk.steps


def _passed(chunk: Chunk) -> Cost:
    """_state_passing_fwd: one multiply-add a state and chunk."""
    return Cost(exp=1, fma=chunk.p * chunk.n)


def _scores(chunk: Chunk) -> Cost:
    """_bmm_chunk_fwd: C B^T of a group, all pairs."""
    return Cost(fma=chunk.rows**2 * up(chunk.n, chunk.tiles.inner))


def _outputs(chunk: Chunk, given: frozenset[str]) -> Cost:
    """_chunk_scan_fwd: C times the state before, scaled; then the causal pairs, weighted by decay and dt, times x."""
    t, p = chunk.tiles, chunk.tiles.padded(chunk.p)
    each = Cost(mul=1, fma=t.states(chunk.n))
    if "D" in given:
        each += Cost(mul=1, add=1)
    if "z" in given:
        each += _SIGMOID + Cost(mul=2)
    pairs = (_DECAY + Cost(mul=2, cmp=1)) * t.across(chunk.p) + Cost(fma=p)
    return each * (chunk.rows * p) + Cost(exp=chunk.rows * t.across(chunk.p)) + pairs * chunk.before


def _gradient_of_z(chunk: Chunk, given: frozenset[str], recompute_output: bool) -> Cost:
    """_chunk_scan_bwd_dz: the gate's two gradients, D's, and if asked for the gated output again."""
    each = _SIGMOID + Cost(mul=6, add=2)
    if "D" in given:
        each += Cost(mul=1, add=1)
    if recompute_output:
        each += Cost(mul=2)
    return each * (chunk.rows * chunk.tiles.whole(chunk.p))


def _gradient_of_states(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dstates: (dy scaled by decay)^T C."""
    t, p, n = chunk.tiles, chunk.tiles.padded(chunk.p), chunk.tiles.padded(chunk.n)
    scales = Cost(exp=t.across(chunk.p) * t.across(chunk.n), mul=p * t.across(chunk.n))
    return (scales + Cost(fma=p * n)) * chunk.steps


def _passed_back(p: int, n: int) -> Cost:
    """_state_passing_bwd: the decay's gradient, a sum over states, and the state's, one multiply-add."""
    return Cost(mul=1, add=1, fma=1) * (p * n) + Cost(exp=1, mul=1)


def _gradient_of_x(chunk: Chunk, given: frozenset[str]) -> Cost:
    """_chunk_scan_chunk_state_bwd_dx: B times the gradient of states, pairs times dy; then dx, and the sum for dt."""
    t, p = chunk.tiles, chunk.tiles.padded(chunk.p)
    each = Cost(mul=3, add=1, fma=t.states(chunk.n))
    if "D" in given:
        each += Cost(mul=2, add=2)
    pairs = (_DECAY + Cost(mul=1, cmp=1)) * t.across(chunk.p) + Cost(fma=p)
    return each * (chunk.rows * p) + _DECAY * (chunk.rows * t.across(chunk.p)) + pairs * chunk.after


def _gradient_of_b(chunk: Chunk) -> Cost:
    """_chunk_state_bwd_db: x times the gradient of states, scaled, summed over heads, and the decay's gradient."""
    t = chunk.tiles
    each = Cost(mul=2, add=2, fma=t.whole(chunk.p)) * t.padded(chunk.n)
    return (each + (_DECAY + Cost(mul=1)) * t.across(chunk.n)) * chunk.rows


def _gradient_of_c(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dc: dy times the states, scaled, summed over heads, and the decay's gradient."""
    t = chunk.tiles
    each = Cost(mul=2, add=2, fma=t.whole(chunk.p)) * t.padded(chunk.n)
    return (each + Cost(exp=t.across(chunk.n))) * chunk.rows


def _gradient_of_scores(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_dcb: dy x^T on causal tiles, weighted, summed over heads."""
    return (_DECAY + Cost(mul=2, add=1, fma=chunk.tiles.whole(chunk.p))) * chunk.triangle


def _gradient_through_scores(chunk: Chunk) -> Cost:
    """The causal mask of the sum over heads, and _bmm_chunk_bwd for B and for C, onto what the states gave."""
    each = Cost(add=1, fma=chunk.steps) * (chunk.rows * chunk.tiles.padded(chunk.n))
    return Cost(cmp=chunk.triangle) + each * 2


def _gradient_of_decays(chunk: Chunk) -> Cost:
    """_chunk_scan_bwd_ddAcs_stable: dy x^T again, weighted, masked, summed along rows, masked, summed along columns.

    Then the sum over tiles, two running sums over steps and the three gradients of the decays added up.
    """
    pairs = _DECAY + Cost(mul=3, add=4, cmp=2, fma=chunk.tiles.whole(chunk.p))
    return pairs * chunk.triangle + Cost(add=(chunk.tiles.across(chunk.q) + 3) * chunk.q)


def _gradient_of_dt(chunk: Chunk, given: frozenset[str], dt_softplus: bool) -> Cost:
    """_chunk_cumsum_bwd: dt again, the slopes of its clamp and softplus, and the sums for A and the bias."""
    each = Cost(mul=2, add=2, cmp=7)
    if "dt_bias" in given:
        each += Cost(add=2)
    if dt_softplus:
        each += _SOFTPLUS + _SIGMOID + Cost(mul=1, cmp=1)
    return each * power(chunk.q)
