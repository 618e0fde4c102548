"""The selective scan (S6) of Mamba and VMamba, by its recurrence.

For each batch b, channel d and step l: h = exp(delta A) h + (delta u) B, y = C h + D u, over n states.
Source: Gu and Dao, "Mamba", algorithm 2; mamba_ssm `selective_scan_ref`.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, exp, fma, log1p, select
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule

CONTRACT = (
    "u: b d l, delta: b d l, A: d n, B: d n | b n l | b g n l, C: d n | b n l | b g n l,"
    " D?: d, z?: b d l, delta_bias?: d"
)


def _per_group(x: Array, b: int, d: int, i: int, n: int, channels: int) -> Any:
    """B or C at batch b, channel d, step i, state n, in whichever of its three forms it comes."""
    if len(x.shape) == 2:
        return x[d, n]
    if len(x.shape) == 3:
        return x[b, n, i]
    return x[b, d * x.shape[1] // channels, n, i]


def recurrence(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
) -> Array:
    """The definition, one step after the other."""
    batch, channels, length = u.shape
    states = A.shape[1]
    out = Array((batch, channels, length), [0.0] * (batch * channels * length))
    for b in range(batch):
        for d in range(channels):
            h: list[Any] = [0.0] * states
            for i in range(length):
                step = delta[b, d, i] if delta_bias is None else delta[b, d, i] + delta_bias[d]
                if delta_softplus:
                    step = _softplus(step)
                drive = step * u[b, d, i]
                y = 0.0 if D is None else D[d] * u[b, d, i]
                for n in range(states):
                    h[n] = fma(exp(step * A[d, n]), h[n], drive * _per_group(B, b, d, i, n, channels))
                    y = fma(_per_group(C, b, d, i, n, channels), h[n], y)
                if z is not None:
                    gate = z[b, d, i]
                    y = y * (gate / (1.0 + exp(-gate)))
                out[b, d, i] = y
    return out


def _softplus(x: Any) -> Any:
    """log(1 + e^x), and x itself where that is the same in float32."""
    return select(x > 20.0, x, log1p(exp(x)))


def _example(
    b: int,
    l: int,
    n: int,
    g: int,
    form: Any = ("d n", "b n l", "b g n l"),
    given: Any = ((), ("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")),
    delta_softplus: Any = (True, False),
) -> dict[str, Any]:
    d = 2 * g
    sizes = {"b": b, "d": d, "l": l, "n": n, "g": g}

    def tensor(axes: str) -> TensorSpec:
        return TensorSpec(tuple(sizes[a] for a in axes.split()), "float64")

    optional = {"D": "d", "z": "b d l", "delta_bias": "d"}
    return {
        "u": tensor("b d l"), "delta": tensor("b d l"), "A": tensor("d n"), "B": tensor(form), "C": tensor(form),
        **{name: tensor(axes) if name in given else None for name, axes in optional.items()},
        "delta_softplus": delta_softplus,
    }  # fmt: skip


@rule("flopscan::selective_scan", contract=CONTRACT, reference=recurrence, example=_example)
def selective_scan(b: Any, d: Any, l: Any, n: Any, given: frozenset[str], delta_softplus: bool = False) -> Cost:
    """Per (b,d,l,n): delta*A, its exp, B*(delta u): 2 mul + 1 exp; the update and the read-out: 2 multiply-adds.

    Per (b,d,l): delta*u 1 mul; D*u, where y starts, 1 mul; the bias 1 add; softplus an exp, a log and a comparison;
    the gate z silu (1 exp, 1 add, 1 div) and 1 mul. In all 6 FLOPs + 1 exp per (b,d,l,n).
    """
    each_state = Cost(mul=2, exp=1, fma=2)
    each_step = Cost(mul=1)
    if "D" in given:
        each_step += Cost(mul=1)
    if "delta_bias" in given:
        each_step += Cost(add=1)
    if delta_softplus:
        each_step += Cost(exp=2, cmp=1)
    if "z" in given:
        each_step += Cost(exp=1, add=1, div=1, mul=1)
    return each_state * (b * d * l * n) + each_step * (b * d * l)
