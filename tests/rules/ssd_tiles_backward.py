"""The backward kernels of Mamba-2's chunk form, run tile by tile as the forward ones are."""

from __future__ import annotations

import functools
import operator
from typing import Any

from flopscan.core.tally import exp, fma, select
from flopscan.rules.ssd_kernel import power
from rules.ssd_tiles import Grid, Kernels, each, sigmoid, total


class BackwardKernels(Kernels):
    """The same operands, with ``grad``, and if there is one ``dfinal_states``."""

    def backward(self, out: Grid) -> dict[str, Any]:
        """The gradients; ``out`` is the output before the gate, which the forward kept."""
        self.cumsum()
        self.scores()
        self.states()
        self.pass_on()
        self.dy = {key: self.at("grad", key[0], key[1], key[3], key[2], key[4]) for key in out}
        results: dict[str, Any] = {}
        if self.o.get("z") is not None:
            results.update(self.gate(out))
        self.gradient_of_states()
        results["initial_states"] = self.pass_back()
        results.update(self.gradient_of_x())
        self.gradient_of_b()
        self.gradient_of_c()
        self.gradient_of_scores()
        results.update(B=self.through_scores("C", self.dB, True), C=self.through_scores("B", self.dC, False))
        self.gradient_of_decays()
        results.update(self.gradient_of_dt())
        return results

    def gate(self, out: Grid) -> dict[str, Grid]:
        dz, outz, dy, dD = Grid(), Grid(), Grid(), Grid()
        for b, c, h, _ in self.heads():
            for i, p in each(range(self.rows), range(self.t.whole(self.p))):
                key, z = (b, c, h, i, p), self.at("z", b, c, i, h, p)
                y, grad, s = self.load(out, *key), self.load(self.dy, *key), sigmoid(z)
                if self.o.get("recompute_output"):
                    outz[key] = y * z * s
                dz[key] = grad * y * s * (1.0 + z * (1.0 - s))
                dy[key] = grad * (z * s)
                if self.o.get("D") is not None:
                    dD[h, p] = self.load(dD, h, p) + dy[key] * self.at("x", b, c, i, h, p)
        self.dy = dy
        return {"z": dz, "out": outz, "D": dD}

    def grad_at(self, b: int, c: int, i: int, h: int, p: int) -> Any:
        """A masked load of the gradient of the output before the gate."""
        return self.load(self.dy, b, c, h, i, p) if i < self.limit(c) and p < self.p else self.zero

    def gradient_of_states(self) -> None:
        self.dS: Grid = {}
        for b, c, h, g in self.heads():
            for ps, ns in self.programs(self.p, self.n):
                acc = dict.fromkeys(each(ps, ns), self.zero)
                for k in self.blocks(self.limit(c)):
                    scale = exp(self.load(self.cs, b, c, h, k))
                    scaled = {p: self.grad_at(b, c, k, h, p) * scale for p in ps}
                    for p, n in each(ps, ns):
                        acc[p, n] = fma(scaled[p], self.at("C", b, c, k, g, n), acc[p, n])
                self.dS.update({(b, c, h, p, n): v for (p, n), v in acc.items() if p < self.p and n < self.n})

    def pass_back(self) -> Grid:
        """The gradients of the states after each chunk, and of each chunk's decay; those of the start are returned."""
        self.after: Grid = {}
        self.dlast: Grid = {}
        final, start = self.o.get("dfinal_states"), {}
        for b, h in each(range(self.b), range(self.h)):
            state = {(p, n): self.zero if final is None else final[b, h, p, n] for p, n in self.cells()}
            self.after.update({(b, self.chunks - 1, h, *key): v for key, v in state.items()})
            for c in reversed(range(0 if self.o.get("initial_states") is not None else 1, self.chunks)):
                scale = exp(self.cs[b, c, h, self.q - 1])
                products = (self.before[(b, c, h, *key)] * v for key, v in state.items())
                self.dlast[b, c, h] = total(products, self.zero) * scale
                state = {key: fma(scale, v, self.dS[(b, c, h, *key)]) for key, v in state.items()}
                target, at = (self.after, (b, c - 1, h)) if c else (start, (b, h))
                target.update({(*at, *key): v for key, v in state.items()})
        return start

    def gradient_of_x(self) -> dict[str, Grid]:
        dx: Grid = {}
        self.dD: Grid = {}
        self.ddt: Grid = {}
        for b, c, h, g in self.heads():
            last = self.cs[b, c, h, self.q - 1]
            for rows, ps in self.programs(self.q, self.p):
                cs = {i: self.cs[b, c, h, i] if i < self.limit(c) else self.zero for i in rows}
                scale = {i: self.decay(last, cs[i]) for i in rows}
                acc = dict.fromkeys(each(rows, ps), self.zero)
                for (i, p), n in each(acc, range(self.t.states(self.n))):
                    acc[i, p] = fma(self.at("B", b, c, i, g, n), self.load(self.after, b, c, h, p, n), acc[i, p])
                acc = {(i, p): v * scale[i] for (i, p), v in acc.items()}
                for i, k in each(rows, self.blocks(self.limit(c), rows.start)):
                    late = self.cs[b, c, h, k] if k < self.limit(c) else self.zero
                    weight = self.load(self.CB, b, c, g, k, i) * self.decay(late, cs[i])
                    weight = select(i <= k < self.limit(c), weight, self.zero)
                    for p in ps:
                        acc[i, p] = fma(weight, self.grad_at(b, c, k, h, p), acc[i, p])
                for (i, p), v in acc.items():
                    x, dy = self.at("x", b, c, i, h, p), self.grad_at(b, c, i, h, p)
                    dx[b, c, h, i, p] = v * self.load(self.dt, b, c, h, i)
                    if self.o.get("D") is not None:
                        dx[b, c, h, i, p] = dx[b, c, h, i, p] + dy * self.skip(h, p)
                        self.dD[h, p] = self.load(self.dD, h, p) + dy * x
                    self.ddt[b, c, h, i] = self.load(self.ddt, b, c, h, i) + v * x
        return {"x": dx, "D": self.dD}

    def gradient_of_b(self) -> None:
        self.dB: Grid = {}
        self.dnext: Grid = {}
        for b, c, h, g in self.heads():
            last = self.cs[b, c, h, self.q - 1]
            for rows, ns in self.programs(self.q, self.n):
                for i in rows:
                    scale = self.decay(last, self.load(self.cs, b, c, h, i)) * self.load(self.dt, b, c, h, i)
                    for n in ns:
                        acc = self.zero
                        for p in range(self.t.whole(self.p)):
                            acc = fma(self.at("x", b, c, i, h, p), self.load(self.after, b, c, h, p, n), acc)
                        acc = acc * scale
                        product = acc * self.at("B", b, c, i, g, n)
                        self.dnext[b, c, h, i + 1] = self.load(self.dnext, b, c, h, i + 1) + product
                        self.dB[b, c, g, i, n] = self.load(self.dB, b, c, g, i, n) + acc

    def gradient_of_c(self) -> None:
        self.dC: Grid = {}
        self.dprev: Grid = {}
        for b, c, h, g in self.heads():
            for rows, ns in self.programs(self.q, self.n):
                for i in rows:
                    scale = exp(self.load(self.cs, b, c, h, i) if i < self.limit(c) else self.zero)
                    for n in ns:
                        acc = self.zero
                        for p in range(self.t.whole(self.p)):
                            acc = fma(self.grad_at(b, c, i, h, p), self.load(self.before, b, c, h, p, n), acc)
                        acc = acc * scale
                        product = acc * self.at("C", b, c, i, g, n)
                        self.dprev[b, c, h, i] = self.load(self.dprev, b, c, h, i) + product
                        self.dC[b, c, g, i, n] = self.load(self.dC, b, c, g, i, n) + acc

    def pair(self, b: int, c: int, h: int, i: int, j: int) -> Any:
        """dy x^T of one pair of steps."""
        acc = self.zero
        for p in range(self.t.whole(self.p)):
            acc = fma(self.grad_at(b, c, i, h, p), self.at("x", b, c, j, h, p), acc)
        return acc

    def triangle(self) -> Any:
        """The pairs of the tiles that are not skipped."""
        return [
            (i, j) for rows, columns in self.programs(self.q, self.q) if columns.start < rows.stop
            for i, j in each(rows, columns)
        ]  # fmt: skip

    def gradient_of_scores(self) -> None:
        self.dCB: Grid = {}
        for b, c, h, g in self.heads():
            for i, j in self.triangle():
                value = self.pair(b, c, h, i, j) * self.load(self.dt, b, c, h, j)
                early = self.load(self.cs, b, c, h, j) if j < self.limit(c) else self.zero
                late = self.load(self.cs, b, c, h, i) if i < self.limit(c) else self.zero
                value = value * self.decay(late, early)
                self.dCB[b, c, g, i, j] = self.load(self.dCB, b, c, g, i, j) + value
        self.dCB = {key: select(key[3] >= key[4], v, self.zero) for key, v in self.dCB.items()}

    def through_scores(self, other: str, onto: Grid, transposed: bool) -> Grid:
        """The gradient of B (from C) or of C (from B) through C B^T, onto what the states gave."""
        result: Grid = {}
        for b, c, g in each(range(self.b), range(self.chunks), range(self.g)):
            for i, n in each(range(self.rows), range(self.t.columns(self.n).size)):
                acc = self.zero
                for k in self.blocks(self.limit(c)):
                    pair = (k, i) if transposed else (i, k)
                    inside = k < self.limit(c) and i < self.q
                    weight = self.load(self.dCB, b, c, g, *pair) if inside else self.zero
                    acc = fma(weight, self.at(other, b, c, k, g, n), acc)
                result[b, c, g, i, n] = acc + self.load(onto, b, c, g, i, n)
        return result

    def gradient_of_decays(self) -> None:
        self.ddA: Grid = {}
        for b, c, h, g in self.heads():
            tiles = []
            for first in range(0, self.rows, self.side):
                part = dict.fromkeys(range(self.q), self.zero)
                row = dict.fromkeys(range(first, first + self.side), self.zero)
                for start in range(0, first + self.side, self.column):
                    self.under_diagonal(b, c, h, g, row, range(start, start + self.column), part)
                tiles.append(part)
            for j in range(self.q):
                self.ddA[b, c, h, j] = functools.reduce(operator.add, (part[j] for part in tiles))
            self.add_up(b, c, h)

    def under_diagonal(self, b: int, c: int, h: int, g: int, row: Grid, columns: range, part: Grid) -> None:
        """A block of columns: what a pair weighs counts for every step between its two, so rows are summed up."""
        sums = dict.fromkeys(columns, self.zero)
        for i in row:
            running, weights = self.zero, []
            for j in columns:
                weight = self.pair(b, c, h, i, j) * self.load(self.dt, b, c, h, j)
                weight = weight * self.load(self.CB, b, c, g, i, j)
                decay = self.decay(self.load(self.cs, b, c, h, i), self.load(self.cs, b, c, h, j))
                weights.append(select(i > j, weight * decay, self.zero))
                running = running + weights[-1]
                sums[j] = sums[j] + select(i > j, row[i] + running, self.zero)
            row[i] = total(weights, row[i])
        part.update({j + 1: sums[j] for j in columns if j + 1 < self.q})

    def add_up(self, b: int, c: int, h: int) -> None:
        """The three gradients of the decays: running sums from the left and from the right, and that of pairs."""
        left, right, sums = self.zero, self.load(self.dlast, b, c, h), {}
        for j in reversed(range(self.q)):
            right = right + self.load(self.dprev, b, c, h, j)
            sums[j] = right
        for j in range(self.q):
            left = left + self.load(self.dnext, b, c, h, j)
            self.ddA[b, c, h, j] = self.load(self.ddA, b, c, h, j) + (left + sums[j])

    def gradient_of_dt(self) -> dict[str, Any]:
        ddt: Grid = {}
        dA: Grid = {}
        dbias: Grid = {}
        low, high = self.o.get("dt_limit") or (0.0, float("inf"))
        for b, c, h, _ in self.heads():
            for j in range(power(self.q)):
                inside = j < self.limit(c)
                decay = self.load(self.ddA, b, c, h, j) if inside else self.zero
                grad = decay * self.o["A"][h] + (self.load(self.ddt, b, c, h, j) if inside else self.zero)
                before, dt, clamped = self.step(b, c, h, j)
                held = bool(dt < low) | bool(dt > high)
                clamped = select(inside, clamped, self.zero)
                grad = select(inside, grad, self.zero)
                grad = select(held, self.zero, grad)
                if self.o.get("dt_softplus"):
                    grad = select(before <= 20.0, grad * sigmoid(before), grad)
                ddt[b, c, h, j] = grad
                dA[h] = dA.get(h, self.zero) + decay * clamped
                if self.o.get("dt_bias") is not None:
                    dbias[h] = dbias.get(h, self.zero) + grad
        return {"dt": ddt, "A": dA, "dt_bias": dbias}
