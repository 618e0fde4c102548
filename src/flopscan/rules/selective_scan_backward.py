"""The gradient of the selective scan, by the adjoint of its recurrence.

With g the gradient of the states h, and dy that of the output before its gate, from the last step to the first:

    g = conj(C) dy + carry        dC = conj(h) dy    dB = (delta u) g    d(delta u) = sum of Re g conj(B)
    carry = conj(exp(delta A)) g
    q = carry conj(h before)      dA = delta q       ddelta = u d(delta u) + sum of Re q conj(A)

where for complex A dy is doubled, as the output takes twice a real part. The gradient of a complex number is torch's:
the derivative by its real part plus i times that by its imaginary part. Source: the chain rule.

The states, the factors exp(delta A) and the output before its gate are computed again, as every kernel does; where the
operand ``recompute`` is False they were kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Pair, exp, fma, log1p, select
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.selective_scan import (
    CONTRACT,
    Place,
    advance,
    by_state,
    entry,
    example,
    first_states,
    indices,
    read_out,
)
from flopscan.rules.selective_scan_kernel import executed_backward


class Step(NamedTuple):
    """A step of the forward: size, slope of softplus, size times u; of each state its factor, before and after."""

    size: Any
    slope: Any
    drive: Any
    factors: list[Any]
    before: list[Any]
    after: list[Any]


def recurrence_backward(
    grad: Array,
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
    initial_state: Array | None = None,
    grad_last_state: Array | None = None,
    recompute: bool = True,
) -> tuple[Any, ...]:
    """The gradients of u, delta, A, B, C, D, z, delta_bias and the initial state.

    The states are computed again, unless they were kept.
    """
    batch, channels, length = u.shape
    du, ddelta, dz = (Array(u.shape, [0.0] * len(u.data)) for _ in range(3))
    dstate = None if initial_state is None else _zeros_like(initial_state)
    dA, dB, dC = (_zeros_like(x) for x in (A, B, C))
    dD, dbias = ([0.0] * channels for _ in range(2))
    of = _again if recompute else _kept
    states_of = A.map(of), B.map(of), C.map(of)
    for b in range(batch):
        for d in range(channels):
            start = [of(state) for state in first_states(A, initial_state, b, d)]
            steps = _forward_again(b, d, start, u, delta, states_of[0], states_of[1], delta_bias, delta_softplus, of)
            carry = first_states(A, grad_last_state, b, d)
            for i in reversed(range(length)):
                at, step, dy = (b, d, i, channels), steps[i], grad[b, d, i]
                if z is not None:
                    y = read_out(step.after, states_of[2], at, None if D is None else of(D[d]) * of(u[b, d, i]))
                    dy, dz[b, d, i] = _gate_backward(dy, y, z[b, d, i])
                through_drive, through_decay = _retreat(carry, step, dy, A, B, C, dA, dB, dC, at)
                du[b, d, i] = step.size * through_drive
                if D is not None:
                    du[b, d, i] = fma(D[d], dy, du[b, d, i])
                    dD[d] = fma(dy, u[b, d, i], dD[d])
                dstep = fma(u[b, d, i], through_drive, through_decay)
                ddelta[b, d, i] = dstep if step.slope is None else dstep * step.slope
                if delta_bias is not None:
                    dbias[d] = ddelta[b, d, i] + dbias[d]
            if dstate is not None:
                for n, x in enumerate(carry):
                    dstate[b, d, n] = x
    return (
        du, ddelta, dA, dB, dC, None if D is None else Array((channels,), dD), None if z is None else dz,
        None if delta_bias is None else Array((channels,), dbias), dstate,
    )  # fmt: skip


def _again(x: Any) -> Any:
    """``x`` itself: what is made of it is counted."""
    return x


def _kept(x: Any) -> Any:
    """``x`` without its tally: what is made of it was made before, and kept."""
    return Pair(float(x.re), float(x.im)) if isinstance(x, Pair) else float(x)


def _forward_again(
    b: int, d: int, h: list[Any], u: Array, delta: Array, A: Array, B: Array, bias: Array | None, softplus: bool,
    of: Callable[[Any], Any],
) -> list[Step]:  # fmt: skip
    """The steps of a channel, from its states ``h`` on."""
    steps = []
    for i in range(u.shape[2]):
        size, slope = delta[b, d, i] if bias is None else delta[b, d, i] + bias[d], None
        if softplus:
            power = exp(size)
            linear = size > 20.0
            slope = select(linear, 1.0, power / (1.0 + power))
            size = select(linear, size, log1p(power))
        drive = size * u[b, d, i]
        factors, after = advance(h, A, B, (b, d, i, u.shape[1]), of(size), of(drive))
        steps.append(Step(size, slope, drive, factors, h, after))
        h = after
    return steps


def _retreat(
    carry: list[Any], step: Step, dy: Any, A: Array, B: Array, C: Array, dA: Array, dB: Array, dC: Array, at: Place
) -> tuple[Any, Any]:
    """The gradients of delta u and of delta by way of the decay; ``carry``, dA, dB and dC take their part of a step."""
    d = at[1]
    through_drive, through_decay = 0.0, 0.0
    if isinstance(carry[0], Pair):
        dy = 2.0 * dy
    for n, h in enumerate(step.after):
        g = _onto(carry[n], dy, _conj(entry(C, at, n, h)))
        _accumulate(dC, at, n, dy, _conj(h))
        _accumulate(dB, at, n, step.drive, g)
        through_drive = _inner(g, entry(B, at, n, h), through_drive)
        carry[n] = _conj(step.factors[n]) * g
        q = carry[n] * _conj(step.before[n])
        dA[d, n] = _onto(dA[d, n], step.size, q)
        through_decay = _inner(q, A[d, n], through_decay)
    return through_drive, through_decay


def _gate_backward(dout: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """Of out = y * z * s with s = 1 / (1 + exp(-z)): the gradients of y and of z."""
    s = 1.0 / (1.0 + exp(-z))
    gate = z * s
    return dout * gate, dout * y * (s + gate * (1.0 - s))


def _zeros_like(x: Array) -> Array:
    return x.map(lambda entry: Pair(0.0, 0.0) if isinstance(entry, Pair) else 0.0)


def _conj(x: Any) -> Any:
    """The complex conjugate; a real number is its own."""
    return Pair(x.re, -x.im) if isinstance(x, Pair) else x


def _onto(total: Any, scale: Any, x: Any) -> Any:
    """``total`` plus a real ``scale`` times ``x``."""
    if isinstance(x, Pair):
        return Pair(fma(scale, x.re, total.re), fma(scale, x.im, total.im))
    return fma(scale, x, total)


def _inner(x: Any, y: Any, total: Any) -> Any:
    """``total`` plus the real part of ``x`` times the conjugate of ``y``."""
    if isinstance(x, Pair):
        return fma(x.re, y.re, fma(x.im, y.im, total))
    return fma(x, y, total)


def _accumulate(into: Array, at: Place, n: int, scale: Any, x: Any) -> None:
    """Add ``scale`` times ``x`` to the gradient of B or C, in the form that this has."""
    places = indices(into, at, n, isinstance(x, Pair))
    parts = (x,) if len(places) == 1 else (x.re, x.im)
    for place, part in zip(places, parts, strict=True):
        into[place] = _onto(into[place], scale, part)


@functools.wraps(example)
def _example_backward(**sizes: Any) -> dict[str, Any]:
    operands = example(**sizes)
    return {"grad": operands["u"], **operands}


def _moves(call: Call) -> tuple[int, int]:
    """Operands are read and gradients written once; states that were kept are not read: they are computed again."""
    kept = call.get("saved")
    read = sum(x.nbytes for x in call.tensors()) - (kept.nbytes if isinstance(kept, TensorSpec) else 0)
    return read, sum(x.nbytes for x in call.outputs)


@rule(
    "flopscan::selective_scan_backward", contracts=by_state(f"grad: b d l, {CONTRACT}, grad_last_state?: b d n"),
    reference=recurrence_backward, example=_example_backward, executed=executed_backward, moves=_moves,
    complex=lambda cost: cost,
)  # fmt: skip
def selective_scan_backward(
    b: Any, d: Any, l: Any, n: Any, given: frozenset[str], call: Call, delta_softplus: bool = False,
    recompute: bool = True,
) -> Cost:  # fmt: skip
    """Per (b,d,l,n), with the states computed again: 4 mul + 7 multiply-adds + 1 exp = 18 FLOPs + 1 exp.

    Again: delta*A, its exp, B*(delta u) and the update, 2 mul + 1 multiply-add + 1 exp. The adjoint: the carry and q,
    2 mul; g, dC, dB, dA and the sums over states of g*B and q*A, 6 multiply-adds. With the factors and the states kept
    (``recompute`` False) it is 14 FLOPs and no exp. z takes the output before the gate, which is one multiply-add more
    per (b,d,l,n) unless that was kept.

    With complex A: again 6 mul + 4 multiply-adds + 1 exp + 2 trig; the carry and q 8 mul + 4 add, the rest 12
    multiply-adds: 50 FLOPs + 3 transcendentals, or 36 FLOPs with factors and states kept. dy is doubled, 1 mul per
    (b,d,l), and where z takes the output that is 2 multiply-adds more per (b,d,l,n).
    """
    each_state, again, each_step, read = Cost(mul=2, fma=6), Cost(mul=2, fma=1, exp=1), Cost(mul=2, fma=1), Cost(fma=1)
    doubled = before_gate = Cost()
    if call["A"].is_complex:
        each_state, again = Cost(mul=8, add=4, fma=12), Cost(mul=6, fma=4, exp=1, trig=2)
        each_step, read = each_step + Cost(mul=1), Cost(fma=2)
        doubled = Cost(fma=1) if "D" in given else Cost(mul=1)
    if "D" in given:
        each_step += Cost(fma=2)
    if "delta_bias" in given:
        each_step += Cost(add=2)
    if delta_softplus:
        each_step += Cost(exp=2, cmp=1, add=1, div=1, mul=1)
    if "z" in given:
        each_step += Cost(exp=1, add=3, div=1, mul=5)
        again, before_gate = again + read, doubled + (Cost(mul=1) if "D" in given else Cost())
    if recompute:
        each_state, each_step = each_state + again, each_step + before_gate
    return each_state * (b * d * l * n) + each_step * (b * d * l)
