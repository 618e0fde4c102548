"""The kernels of Mamba-2's chunk form, run tile by tile on tallying numbers: what they compute, padding included.

One function a kernel, with the loops that the Triton programs have: over tiles of the grid, over inner blocks, over the
lanes of a tile, those past the end too (they load zeros). Index names as in the rule: i, j steps of a chunk, k, p
channels, n states, h heads, g groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from flopscan.core.tally import Array, Num, Tally, exp, fma, log, maximum, minimum, select
from flopscan.rules.ssd_kernel import Tiles, power

Grid = dict[Any, Any]
each = itertools.product


def sigmoid(z: Any) -> Any:
    return 1.0 / (1.0 + exp(-z))


def total(values: Iterable[Any], zero: Any) -> Any:
    """A sum onto a register that starts at zero."""
    for value in values:
        zero = zero + value
    return zero


class Kernels:
    """The operands of one run, and its kernels. Results are dicts by index."""

    def __init__(self, operands: dict[str, Any], tiles: Tiles, tally: Tally[str]) -> None:
        self.o, self.t, self.zero = operands, tiles, Num(0.0, tally)
        self.b, self.l, self.h, self.p = operands["x"].shape
        self.g, self.n = operands["B"].shape[2:]
        self.q = operands["chunk_size"]
        self.chunks = -(-self.l // self.q)
        self.side, self.column = tiles.rows(self.q).side, tiles.columns(self.q).side
        self.rows = tiles.rows(self.q).size

    def limit(self, c: int) -> int:
        return min(self.q, self.l - c * self.q)

    def programs(self, rows: int, columns: int) -> Iterator[tuple[range, range]]:
        """The lanes of each program of a grid over axes of these sizes."""
        axes = (self.t.rows(rows), self.t.columns(columns))
        return each(*([range(at, at + axis.side) for at in range(0, axis.size, axis.side)] for axis in axes))

    def blocks(self, end: int, start: int = 0) -> range:
        """The steps that an inner loop from ``start`` to ``end`` takes, in whole blocks."""
        return range(start, start + self.t.inner(max(end - start, 0)))

    def heads(self) -> Iterator[tuple[int, int, int, int]]:
        for b, c, h in each(range(self.b), range(self.chunks), range(self.h)):
            yield b, c, h, h * self.g // self.h

    def at(self, name: str, b: int, c: int, i: int, *rest: int) -> Any:
        """A masked load of an operand over steps."""
        array: Array = self.o[name]
        if i >= self.limit(c) or any(r >= s for r, s in zip(rest, array.shape[2:], strict=True)):
            return self.zero
        return array[(b, c * self.q + i, *rest)]

    def load(self, grid: Grid, *index: int) -> Any:
        return grid.get(index, self.zero)

    def skip(self, h: int, p: int) -> Any:
        D: Array = self.o["D"]
        if len(D.shape) == 1:
            return D[h]
        return D[h, p] if p < self.p else self.zero

    def step(self, b: int, c: int, h: int, j: int) -> tuple[Any, Any, Any]:
        """dt before softplus, after it, and after the clamp."""
        before = self.at("dt", b, c, j, h)
        if self.o.get("dt_bias") is not None:
            before = before + self.o["dt_bias"][h]
        dt = before
        if self.o.get("dt_softplus"):
            dt = select(before <= 20.0, log(exp(before) + 1.0), before)
        low, high = self.o.get("dt_limit") or (0.0, float("inf"))
        return before, dt, minimum(maximum(dt, low), high)

    def cumsum(self) -> None:
        self.dt: Grid = {}
        self.cs: Grid = {}
        for b, c, h, _ in self.heads():
            running = self.zero
            for j in range(power(self.q)):
                dt = select(j < self.limit(c), self.step(b, c, h, j)[2], self.zero)
                running = running + dt * self.o["A"][h]
                if j < self.q:
                    self.dt[b, c, h, j], self.cs[b, c, h, j] = dt, running

    def decay(self, late: Any, early: Any) -> Any:
        return exp(minimum(late - early, 0.0))

    def states(self) -> None:
        self.S: Grid = {}
        for b, c, h, g in self.heads():
            last = self.cs[b, c, h, self.q - 1]
            for ps, ns in self.programs(self.p, self.n):
                acc = dict.fromkeys(each(ps, ns), self.zero)
                for k in self.blocks(self.limit(c)):
                    cs = self.cs[b, c, h, k] if k < self.limit(c) else self.zero
                    scale = self.decay(last, cs) * self.load(self.dt, b, c, h, k)
                    scaled = {n: self.at("B", b, c, k, g, n) * scale for n in ns}
                    for p, n in each(ps, ns):
                        acc[p, n] = fma(self.at("x", b, c, k, h, p), scaled[n], acc[p, n])
                self.S.update({(b, c, h, p, n): v for (p, n), v in acc.items() if p < self.p and n < self.n})

    def pass_on(self) -> Grid:
        """The states before each chunk; the states after the last are returned."""
        self.before: Grid = {}
        start, final = self.o.get("initial_states"), {}
        for b, h in each(range(self.b), range(self.h)):
            state = {(p, n): self.zero if start is None else start[b, h, p, n] for p, n in self.cells()}
            for c in range(self.chunks):
                self.before.update({(b, c, h, *key): v for key, v in state.items()})
                scale = exp(self.cs[b, c, h, self.q - 1])
                state = {key: fma(scale, v, self.S[(b, c, h, *key)]) for key, v in state.items()}
            final.update({(b, h, *key): v for key, v in state.items()})
        return final

    def cells(self) -> Iterator[tuple[int, int]]:
        return each(range(self.p), range(self.n))

    def scores(self) -> None:
        self.CB: Grid = {}
        for b, c, g in each(range(self.b), range(self.chunks), range(self.g)):
            for i, j in each(range(self.rows), range(self.t.columns(self.q).size)):
                acc = self.zero
                for n in range(self.t.inner(self.n)):
                    acc = fma(self.at("C", b, c, i, g, n), self.at("B", b, c, j, g, n), acc)
                if i < self.q and j < self.q:
                    self.CB[b, c, g, i, j] = acc

    def outputs(self) -> tuple[Grid, Grid]:
        """The output before the gate, and after it."""
        plain: Grid = {}
        out: Grid = {}
        for b, c, h, g in self.heads():
            for rows, ps in self.programs(self.q, self.p):
                cs = {i: self.load(self.cs, b, c, h, i) for i in rows}
                scale = {i: exp(cs[i]) for i in rows}
                acc = dict.fromkeys(each(rows, ps), self.zero)
                for (i, p), n in each(acc, range(self.t.states(self.n))):
                    acc[i, p] = fma(self.at("C", b, c, i, g, n), self.load(self.before, b, c, h, p, n), acc[i, p])
                acc = {(i, p): v * scale[i] for (i, p), v in acc.items()}
                for i, k in each(rows, self.blocks(min(rows.stop, self.limit(c)))):
                    weight = self.load(self.CB, b, c, g, i, k) * self.decay(cs[i], self.load(self.cs, b, c, h, k))
                    weight = select(i >= k, weight * self.load(self.dt, b, c, h, k), self.zero)
                    for p in ps:
                        acc[i, p] = fma(weight, self.at("x", b, c, k, h, p), acc[i, p])
                for (i, p), y in acc.items():
                    if self.o.get("D") is not None:
                        y = y + self.at("x", b, c, i, h, p) * self.skip(h, p)
                    gated = y
                    if self.o.get("z") is not None:
                        z = self.at("z", b, c, i, h, p)
                        gated = y * (z * sigmoid(z))
                    plain[b, c, h, i, p], out[b, c, h, i, p] = y, gated
        return plain, out

    def forward(self) -> tuple[Grid, Grid]:
        """The output by (b, c, h, i, p) and the last states by (b, h, p, n)."""
        self.cumsum()
        self.states()
        final = self.pass_on()
        self.scores()
        return self.outputs()[1], final
