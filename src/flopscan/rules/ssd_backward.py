"""The gradients of Mamba-2's scan (SSD), by its recurrence run backwards over states that are computed again."""

from __future__ import annotations

import itertools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Num, dot, exp, fma, log1p, select, total
from flopscan.rules import rule
from flopscan.rules.ssd import (
    BACKWARD,
    CONTRACT,
    Limit,
    begins_anew,
    gate_of,
    limits,
    of_step,
    skip,
    starts,
    through_gate,
)
from flopscan.rules.ssd_kernel import executed_backward

Step = tuple[Any, Any, bool, Any, list[Any], list[list[Any]], list[list[Any]]]


def recurrence_backward(
    grad: Array,
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    dt_bias: Array | None = None,
    initial_states: Array | None = None,
    dfinal_states: Array | None = None,
    seq_idx: Array | None = None,
    dt_softplus: bool = False,
    dt_limit: Limit = None,
    recompute_output: bool = False,
) -> tuple[Array | None, ...]:
    """The gradients of x, dt, A, B, C, D, z, dt_bias and the initial states; if asked for, the gated output too."""
    (batch, length, heads, channels), (groups, states) = x.shape, B.shape[2:]
    dx, ddt, dA, dB, dC, out = (_zeros(y) for y in (x, dt, A, B, C, x))
    dD, dz, dstart = (None if y is None else _zeros(y) for y in (D, z, initial_states))
    bounds = limits(dt_softplus, dt_limit)
    for b in range(batch):
        for h in range(heads):
            g = h * groups // heads
            steps = _forward_again(b, h, g, x, dt, A, B, dt_bias, initial_states, seq_idx, bounds, dt_softplus)
            carry = starts(dfinal_states, b, h, channels, states)
            for i in reversed(range(length)):
                step, slope, held, a, drive, before, S = steps[i]
                decay, dstep = 0.0, 0.0
                for p in range(channels):
                    at = (b, i, h, p)
                    dy, value = grad[at], x[at]
                    if z is not None and dz is not None:
                        y = dot(C[b, i, g], S[p], 0.0 if D is None else skip(D, h, p) * value)
                        s, gate = gate_of(z[at])
                        dy, dz[at] = through_gate(dy, y, s, gate)
                        out[at] = y * gate if recompute_output else y
                    into, decay = _adjoint(B, C, dB, dC, (b, i, g), dy, drive[p], a, carry[p], S[p], before[p], decay)
                    dx[at] = step * into
                    dstep = fma(into, value, dstep)
                    if D is not None and dD is not None:
                        dx[at] = fma(skip(D, h, p), dy, dx[at])
                        own = (h,) if len(D.shape) == 1 else (h, p)
                        dD[own] = fma(dy, value, dD[own])
                decay = decay * a
                dA[h] = fma(step, decay, dA[h])
                dstep = fma(A[h], decay, dstep)
                dstep = dstep if slope is None else dstep * slope
                ddt[b, i, h] = _instead(dstep, 0.0) if held else dstep
                if begins_anew(seq_idx, b, i):
                    carry = starts(None, b, h, channels, states)
            if dstart is not None:
                for p, n in itertools.product(range(channels), range(states)):
                    dstart[b, h, p, n] = carry[p][n]
    dbias = None
    if dt_bias is not None:
        dbias = Array.make((heads,), lambda h: total(ddt[b, i, h] for b in range(batch) for i in range(length)))
    return (dx, ddt, dA, dB, dC, dD, dz, dbias, dstart, *([out] if recompute_output else []))


def _adjoint(
    B: Array, C: Array, dB: Array, dC: Array, at: tuple[int, ...], dy: Any, drive: Any, a: Any,
    carry: list[Any], S: list[Any], before: list[Any], decay: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """One channel of one step: the sum over states for x and the decay's so far; ``carry`` goes one step back."""
    into: Any = 0.0
    for n in range(len(carry)):
        here = (*at, n)
        G = fma(C[here], dy, carry[n])
        dC[here] = fma(dy, S[n], dC[here])
        dB[here] = fma(drive, G, dB[here])
        into = fma(B[here], G, into)
        decay = fma(G, before[n], decay)
        carry[n] = a * G
    return into, decay


def _zeros(x: Array) -> Array:
    return Array(x.shape, [0.0] * len(x.data))


def _forward_again(
    b: int, h: int, g: int, x: Array, dt: Array, A: Array, B: Array, bias: Array | None, initial: Array | None,
    seq_idx: Array | None, bounds: tuple[float, float], softplus: bool,
) -> list[Step]:  # fmt: skip
    """Per step: its size, the slope of that, whether it is held, the decay, dt x, and the states before and after."""
    steps: list[Step] = []
    channels, states = x.shape[3], B.shape[3]
    after = starts(initial, b, h, channels, states)
    for i in range(x.shape[1]):
        before = starts(None, b, h, channels, states) if begins_anew(seq_idx, b, i) else after
        size = dt[b, i, h] if bias is None else dt[b, i, h] + bias[h]
        step, slope, held = _step_and_slope(size, softplus, bounds)
        a = exp(step * A[h])
        drive = [step * x[b, i, h, p] for p in range(channels)]
        after = [[fma(a, before[p][n], drive[p] * B[b, i, g, n]) for n in range(states)] for p in range(channels)]
        steps.append((step, slope, held, a, drive, before, after))
    return steps


def _step_and_slope(step: Any, softplus: bool, bounds: tuple[float, float]) -> tuple[Any, Any, bool]:
    """The size of a step through softplus and clamp, the slope of softplus, and whether the clamp holds it."""
    slope, held = None, False
    if softplus:
        power = exp(step)
        linear = step > 20.0
        slope = select(linear, 1.0, power / (1.0 + power))
        step = select(linear, step, log1p(power))
    low, high = bounds
    if low != -math.inf and step < low:
        step, held = _instead(step, low), True
    if high != math.inf and step > high:
        step, held = _instead(step, high), True
    return step, slope, held


def _instead(x: Any, value: float) -> Any:
    """A value in the place of ``x``: the comparison that chose it was counted."""
    return Num(value, x.tally) if isinstance(x, Num) else value


def _backward_sizes(given: frozenset[str], dt_softplus: bool, dt_limit: Limit) -> Cost:
    """What dt takes a step: its size again, the slope of softplus."""
    cost = of_step(given, dt_softplus, dt_limit)
    return cost + Cost(add=1, div=1, mul=1) if dt_softplus else cost


@rule(
    BACKWARD, contract=f"grad: b l h p, {CONTRACT}, dfinal_states?: b h p n",
    reference=recurrence_backward, executed=executed_backward, matrix="executed",
)  # fmt: skip
def ssd_backward(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, given: frozenset[str],
    dt_softplus: bool = False, dt_limit: Limit = None, recompute_output: bool = False,
) -> Cost:  # fmt: skip
    """Per (b,l,h,p,n), with the states computed again: 2 mul + 6 multiply-adds = 14 FLOPs; without, 11.

    Again (dt x) B and the update (3 FLOPs); then the adjoint G = C dy + a G of the next step, the gradients of C and B
    and the sums over states (for x) and over states and channels (for the decay a). z takes the output before the gate,
    which is one multiply-add more unless it was kept.
    Per (b,l,h,p): dt x, dx = dt (G B), and dt's part of it; D its own gradient and x's. Per (b,l,h): dt A, a, and the
    decay's gradient onto A and dt; for the bias a sum of b*l a head.
    """
    each_state, each_channel = Cost(mul=2, fma=6), Cost(mul=2, fma=1)
    if "D" in given:
        each_channel += Cost(fma=2)
    if "z" in given:
        each_state += Cost(fma=1)
        each_channel += Cost(exp=1, add=3, div=1, mul=5) + (Cost(mul=1) if "D" in given else Cost())
        each_channel += Cost(mul=1) if recompute_output else Cost()
    each_step = Cost(mul=2, exp=1, fma=2) + _backward_sizes(given, dt_softplus, dt_limit)
    steps = b * l * h
    cost = each_state * (steps * p * n) + each_channel * (steps * p) + each_step * steps
    return cost + Cost(add=h * (b * l - 1)) if "dt_bias" in given else cost
