"""The selective scan (S6) of Mamba and VMamba, by its recurrence.

For each batch b, channel d and step l: h = exp(delta A) h + (delta u) B, y = C h + D u, over n states. Where A is
complex so are the states, and y takes twice the real part. Source: Gu and Dao, "Mamba", algorithm 2; mamba_ssm
`selective_scan_ref`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flopscan.core.contract import Contract
from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Pair, complex_exp, complex_fma, exp, fma, log1p, select
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule
from flopscan.rules.selective_scan_kernel import executed_forward

CONTRACT = (
    "u: b d l, delta: b d l, A: d n, B: d n | b n l | b g n l, C: d n | b n l | b g n l,"
    " D?: d, z?: b d l, delta_bias?: d, initial_state?: b d n, d % g"
)
_OPTIONAL = {"D": "d", "z": "b d l", "delta_bias": "d"}
_GIVEN = tuple(given for k in range(4) for given in itertools.combinations(_OPTIONAL, k))
Place = tuple[int, int, int, int]  # a batch, a channel, a step, and how many channels there are


def by_state(text: str) -> Callable[[Call], Contract]:
    """The contract ``text`` for real A; for complex A, B and C as pairs along the length, or constant and complex."""
    real = Contract.parse(text)
    paired = Contract.parse(text.replace("b n l", "b n 2l").replace("b g n l", "b g n 2l"))

    def contract(call: Call) -> Contract:
        A = call.get("A")
        if not (isinstance(A, TensorSpec) and A.is_complex):
            return real
        for name in ("B", "C"):
            if isinstance(x := call.get(name), TensorSpec) and len(x.shape) == 2 and not x.is_complex:
                raise ContractError(
                    f"{call.op}: operand '{name}' is constant and real where 'A' is complex; expected {A.dtype}"
                )
        return paired

    return contract


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
    initial_state: Array | None = None,
) -> Array:
    """The definition, one step after the other."""
    batch, channels, length = u.shape
    out = Array(u.shape, [0.0] * len(u.data))
    for b in range(batch):
        for d in range(channels):
            h = first_states(A, initial_state, b, d)
            for i in range(length):
                at = (b, d, i, channels)
                step = delta[b, d, i] if delta_bias is None else delta[b, d, i] + delta_bias[d]
                if delta_softplus:
                    step = select(step > 20.0, step, log1p(exp(step)))
                start = None if D is None else D[d] * u[b, d, i]
                _, h = advance(h, A, B, at, step, step * u[b, d, i])
                y = read_out(h, C, at, start)
                if z is not None:
                    gate = z[b, d, i]
                    y = y * (gate / (1.0 + exp(-gate)))
                out[b, d, i] = y
    return out


def no_states(A: Array) -> list[Any]:
    """The states of a channel before its first step."""
    zero = Pair(0.0, 0.0) if isinstance(A.data[0], Pair) else 0.0
    return [zero] * A.shape[1]


def first_states(A: Array, initial_state: Array | None, b: int, d: int) -> list[Any]:
    """The states of a channel before its first step, which may be given."""
    return no_states(A) if initial_state is None else [initial_state[b, d, n] for n in range(A.shape[1])]


def advance(h: list[Any], A: Array, B: Array, at: Place, step: Any, drive: Any) -> tuple[list[Any], list[Any]]:
    """The factors exp(step A) of a step, and the states after it; ``drive`` is step times u."""
    grow, update = (complex_exp, complex_fma) if isinstance(h[0], Pair) else (exp, fma)
    factors = [grow(A[at[1], n] * step) for n in range(len(h))]
    return factors, [update(factors[n], x, entry(B, at, n, x) * drive) for n, x in enumerate(h)]


def read_out(h: list[Any], C: Array, at: Place, start: Any) -> Any:
    """The output of a step before its gate, onto ``start``; of complex states twice the real part of the sum."""
    if isinstance(h[0], Pair):
        total: Any = 0.0
        for n, x in enumerate(h):
            c = entry(C, at, n, x)
            total = fma(c.re, x.re, fma(-c.im, x.im, total))
        return 2.0 * total if start is None else fma(2.0, total, start)
    y = 0.0 if start is None else start
    for n, x in enumerate(h):
        y = fma(entry(C, at, n, x), x, y)
    return y


def entry(x: Array, at: Place, n: int, state: Any) -> Any:
    """B or C at a place and state n, in whichever of its forms it comes; beside a complex ``state``, complex."""
    places = indices(x, at, n, isinstance(state, Pair))
    return x[places[0]] if len(places) == 1 else Pair(*(x[place] for place in places))


def indices(x: Array, at: Place, n: int, paired: bool) -> tuple[tuple[int, ...], ...]:
    """Where B or C has the entry of a place and state n: two numbers where it is variable and ``paired``."""
    b, d, i, channels = at
    if len(x.shape) == 2:
        return ((d, n),)
    row = (b, n) if len(x.shape) == 3 else (b, d * x.shape[1] // channels, n)
    return ((*row, 2 * i), (*row, 2 * i + 1)) if paired else ((*row, i),)


def example(
    b: int,
    l: int,
    n: int,
    g: int,
    form: Any = ("d n", "b n l", "b g n l"),
    given: Any = _GIVEN,
    delta_softplus: Any = (True, False),
    state: Any = ("float64", "complex128"),
) -> dict[str, Any]:
    """Operands with B and C of one form, two channels a group."""
    d = 2 * g
    sizes = {"b": b, "d": d, "l": l, "n": n, "g": g, "2l": 2 * l}
    kind = state if form == "d n" else "float64"
    form = form.replace("l", "2l") if state != "float64" else form

    def tensor(axes: str, dtype: str = "float64") -> TensorSpec:
        return TensorSpec(tuple(sizes[a] for a in axes.split()), dtype)

    return {
        "u": tensor("b d l"), "delta": tensor("b d l"), "A": tensor("d n", state),
        "B": tensor(form, kind), "C": tensor(form, kind),
        **{name: tensor(axes) if name in given else None for name, axes in _OPTIONAL.items()},
        "delta_softplus": delta_softplus,
    }  # fmt: skip


def moves(call: Call) -> tuple[int, int]:
    """Operands are read once, the output and where asked the last state written; states kept for a gradient are not."""
    return sum(x.nbytes for x in call.tensors()), sum(x.nbytes for x in call.outputs[:2])


@rule(
    "flopscan::selective_scan", contracts=by_state(CONTRACT), reference=recurrence, example=example,
    executed=executed_forward, moves=moves, complex=lambda cost: cost,
)  # fmt: skip
def selective_scan(
    b: Any, d: Any, l: Any, n: Any, given: frozenset[str], call: Call, delta_softplus: bool = False
) -> Cost:
    """Per (b,d,l,n): delta*A, its exp, B*(delta u): 2 mul + 1 exp; the update and the read-out: 2 multiply-adds.

    Per (b,d,l): delta*u 1 mul; D*u, where y starts, 1 mul; the bias 1 add; softplus an exp, a log and a comparison;
    the gate z silu (1 exp, 1 add, 1 div) and 1 mul. In all 6 FLOPs + 1 exp per (b,d,l,n).

    With complex A: delta*A and B*(delta u) 2 mul each, the exponential 1 exp + 2 trig + 2 mul, the update 4 and the
    real read-out 2 multiply-adds: 18 FLOPs + 3 transcendentals; doubling the real part is 1 mul per (b,d,l), or the
    multiply-add onto D*u.
    """
    each_state, each_step = Cost(mul=2, exp=1, fma=2), Cost(mul=1)
    if call["A"].is_complex:
        each_state = Cost(mul=6, exp=1, trig=2, fma=6)
        each_step += Cost(fma=1) if "D" in given else Cost(mul=1)
    if "D" in given:
        each_step += Cost(mul=1)
    if "delta_bias" in given:
        each_step += Cost(add=1)
    if delta_softplus:
        each_step += Cost(exp=2, cmp=1)
    if "z" in given:
        each_step += Cost(exp=1, add=1, div=1, mul=1)
    return each_state * (b * d * l * n) + each_step * (b * d * l)
