"""The selective scan that gives its one state, without a read-out: Spatial-Mamba mixes the states of neighbours first.

For each batch b, channel d and step l: h = exp(delta A) h + (delta u) B, y = h + D u. Source: Spatial-Mamba,
`SelectiveScanStateFn`, whose kernel has one state a channel.
"""

from __future__ import annotations

import itertools
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, exp, fma, log1p, select
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule
from flopscan.rules.selective_scan import advance

STATES = "flopscan::selective_scan_states"
_OPTIONAL = {"D": "d", "z": "b d l", "delta_bias": "d"}
_GIVEN = tuple(given for k in range(4) for given in itertools.combinations(_OPTIONAL, k))


def recurrence(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    D: Array | None = None,
    z: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
) -> Array:
    """The definition, one step after the other."""
    batch, channels, length = u.shape
    out = Array(u.shape, [0.0] * len(u.data))
    for b, d in itertools.product(range(batch), range(channels)):
        h: list[Any] = [0.0]
        for i in range(length):
            step = delta[b, d, i] if delta_bias is None else delta[b, d, i] + delta_bias[d]
            if delta_softplus:
                step = select(step > 20.0, step, log1p(exp(step)))
            _, h = advance(h, A, B, (b, d, i, channels), step, step * u[b, d, i])
            y = h[0] if D is None else fma(D[d], u[b, d, i], h[0])
            out[b, d, i] = y if z is None else y * (z[b, d, i] / (1.0 + exp(-z[b, d, i])))
    return out


def example(b: int, l: int, g: int, given: Any = _GIVEN, delta_softplus: Any = (True, False)) -> dict[str, Any]:
    """Operands with two channels a group."""
    d = 2 * g
    sizes = {"b": b, "d": d, "l": l}
    steps, B = TensorSpec((b, d, l), "float64"), TensorSpec((b, g, 1, l), "float64")
    optional = {name: TensorSpec(tuple(sizes[a] for a in _OPTIONAL[name].split()), "float64") for name in given}
    return {
        "u": steps, "delta": steps, "A": TensorSpec((d, 1), "float64"), "B": B, **optional,
        "delta_softplus": delta_softplus,
    }  # fmt: skip


@rule(
    STATES, contract="u: b d l, delta: b d l, A: d 1, B: b 1 l | b g 1 l, D?: d, z?: b d l, delta_bias?: d",
    reference=recurrence, example=example,
)  # fmt: skip
def selective_scan_states(b: Any, d: Any, l: Any, given: frozenset[str], delta_softplus: bool = False) -> Cost:
    """Per (b,d,l): delta*A, its exp, delta*u and B*(delta u): 3 mul + 1 exp; the update 1 multiply-add: 5 FLOPs.

    D*u onto the state is a multiply-add; the bias, softplus and the gate z are those of the selective scan.
    """
    each = Cost(mul=3, exp=1, fma=1)
    if "D" in given:
        each += Cost(fma=1)
    if "delta_bias" in given:
        each += Cost(add=1)
    if delta_softplus:
        each += Cost(exp=2, cmp=1)
    if "z" in given:
        each += Cost(exp=1, add=1, div=1, mul=1)
    return each * (b * d * l)
