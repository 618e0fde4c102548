"""The pieces of Mamba-2's scan in chunks, as mamba_ssm offers them one by one.

The l steps of a sequence stand in c chunks of q. `chunk_state` makes the states that each chunk adds, `state_passing`
those before each chunk, `chunk_scan` the outputs: what the steps of a chunk give each other, and what the states before
it give them. ``dA_cumsum`` is the running sum of dt*A within a chunk. Products of steps are counted for the pairs that
a chunk has, l(q + 1)/2 in all; kernels compute whole tiles of them. The gradients have no formula.

Source: Dao and Gu, "Transformers are SSMs", section 6; mamba_ssm 2.3.2, `ops/triton/ssd_chunk_state.py`,
`ssd_state_passing.py` and `ssd_chunk_scan.py`.
"""

from __future__ import annotations

import itertools
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, dot, exp, fma
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule, seam
from flopscan.rules.ssd import gated, skip

STATE, PASSING, SCAN = "flopscan::ssd_chunk_state", "flopscan::ssd_state_passing", "flopscan::ssd_chunk_scan"
_IN_CHUNKS = "x: b l h p, dt: b h c q, dA_cumsum: b h c q"


def chunk_state(B: Array, x: Array, dt: Array, dA_cumsum: Array) -> Array:
    """The states that each chunk adds, (b c h p n): sums over its steps of B x dt, decayed to the chunk's end."""
    (b, l, h, p), (_, _, g, n), (_, _, c, q) = x.shape, B.shape, dt.shape
    states = Array((b, c, h, p, n), [0.0] * (b * c * h * p * n))
    for i, k, t in itertools.product(range(b), range(h), range(l)):
        chunk, at = divmod(t, q)
        scale = dt[i, k, chunk, at] * exp(dA_cumsum[i, k, chunk, q - 1] - dA_cumsum[i, k, chunk, at])
        for channel in range(p):
            drive = x[i, t, k, channel] * scale
            for s in range(n):
                place = i, chunk, k, channel, s
                states[place] = fma(B[i, t, k * g // h, s], drive, states[place])
    return states


def state_passing(states: Array, dA_chunk_cumsum: Array, initial_states: Array | None = None) -> tuple[Array, Array]:
    """The states before each chunk, and those after the last; d = p n."""
    b, c, h, d = states.shape
    before, last = Array(states.shape, states.data), Array((b, h, d), [0.0] * (b * h * d))
    for i, k in itertools.product(range(b), range(h)):
        decays = [exp(dA_chunk_cumsum[i, k, chunk]) for chunk in range(c)]
        for s in range(d):
            state: Any = 0.0 if initial_states is None else initial_states[i, k, s]
            for chunk in range(c):
                before[i, chunk, k, s], state = state, fma(decays[chunk], state, states[i, chunk, k, s])
            last[i, k, s] = state
    return before, last


def chunk_scan(
    B: Array, C: Array, x: Array, dt: Array, dA_cumsum: Array, prev_states: Array,
    D: Array | None = None, z: Array | None = None,
) -> Array:  # fmt: skip
    """The outputs, (b l h p), from the states before each chunk."""
    (b, _, h, p), (g, n), (c, q) = x.shape, B.shape[2:], dt.shape[2:]
    scores = {
        (i, k, first + t, first + s): dot((C[i, first + t, k, m] for m in range(n)), B[i, first + s, k].data)
        for i, k, first, t in itertools.product(range(b), range(g), range(0, c * q, q), range(q))
        for s in range(t + 1)
    }
    out = Array(x.shape, [0.0] * len(x.data))
    for i, k, chunk, t in itertools.product(range(b), range(h), range(c), range(q)):
        sums, steps = dA_cumsum[i, k, chunk], dt[i, k, chunk]
        here, group, carried = chunk * q + t, k * g // h, exp(sums[t])
        weights = [scores[i, group, here, chunk * q + s] * exp(sums[t] - sums[s]) * steps[s] for s in range(t + 1)]
        for channel in range(p):
            y = 0.0 if D is None else skip(D, k, channel) * x[i, here, k, channel]
            for s, weight in enumerate(weights):
                y = fma(weight, x[i, chunk * q + s, k, channel], y)
            y = fma(dot(C[i, here, group].data, prev_states[i, chunk, k, channel].data), carried, y)
            out[i, here, k, channel] = y if z is None else gated(y, z[i, here, k, channel])
    return out


def _fits(call: Call) -> dict[str, Any]:
    """Nothing more to know. Raises ContractError where the chunks do not hold the sequence."""
    l, (c, q) = call["x"].shape[1], call["dt"].shape[2:]
    if l > c * q or (call.op == SCAN and l != c * q):
        raise ContractError(f"{call.op}: {c} chunks of {q} steps (from 'dt') do not hold the {l} steps of 'x'")
    return {}


@rule(STATE, contract=f"B: b l g n, {_IN_CHUNKS}, h % g", sizes=_fits, reference=chunk_state)
def state(b: Any, l: Any, h: Any, p: Any, n: Any) -> Cost:
    """Per (b,l,h,p,n) 1 multiply-add; per (b,l,h,p) 1 mul; per (b,l,h) the decay, 1 add and 1 exp, times dt, 1 mul."""
    steps = b * l * h
    return Cost(fma=n * p, mul=p + 1, add=1, exp=1) * steps


@rule(
    PASSING, contract="states: b c h d, dA_chunk_cumsum: b h c, initial_states?: b h d", reference=state_passing,
)  # fmt: skip
def passing(b: Any, c: Any, h: Any, d: Any) -> Cost:
    """Per (b,c,h,d) 1 multiply-add, per (b,c,h) 1 exp."""
    return Cost(fma=d, exp=1) * (b * c * h)


@rule(
    SCAN, contract=f"B: b l g n, C: b l g n, {_IN_CHUNKS}, prev_states: b c h p n, D?: h p | h, z?: b l h p, h % g",
    sizes=_fits, reference=chunk_scan,
)  # fmt: skip
def scan(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, q: Any, given: frozenset[str]
) -> Cost:  # fmt: skip
    """Of the l(q + 1)/2 pairs of steps: per group n multiply-adds; per head 1 add, 1 exp, 2 mul, p multiply-adds.

    Per (b,l,h) 1 exp; per (b,l,h,p) n + 1 multiply-adds from the states before, D x 1 mul, and the gate as in the scan.
    """
    pairs = l * (q + 1) // 2
    each = Cost(fma=n + 1)
    if "D" in given:
        each += Cost(mul=1)
    if "z" in given:
        each += Cost(exp=1, add=1, div=1, mul=1)
    within = Cost(fma=n) * (g * pairs) + Cost(fma=p, add=1, exp=1, mul=2) * (h * pairs)
    return (within + Cost(exp=1) * (l * h) + each * (l * h * p)) * b


def _states(bound: Operands) -> Outputs:
    """The states of the chunks, in float32 unless asked otherwise."""
    B, x, c = bound["B"], bound["x"], bound["dt"].shape[2]
    shape = (x.shape[0], c, *x.shape[2:], B.shape[3])
    return TensorSpec(shape, "float32" if bound["states_in_fp32"] else B.dtype)


def _passed(bound: Operands) -> Outputs:
    """The states before each chunk, and after the last."""
    states = bound["states"]
    b, _, h, d = states.shape
    return TensorSpec(states.shape, states.dtype), TensorSpec((b, h, d))


def _outputs(bound: Operands) -> Outputs:
    return TensorSpec(bound["x"].shape, bound["x"].dtype)


def _own(bound: Operands) -> Operands:
    return {name: value for name, value in bound.items() if value is not None and name != "states_in_fp32"}


_TRITON = "mamba_ssm.ops.triton"
for _module, _names, _op, _signature, _results in (
    ("ssd_chunk_state", ("chunk_state", "ChunkStateFn"), STATE, "B, x, dt, dA_cumsum, states_in_fp32=True", _states),
    ("ssd_state_passing", ("state_passing", "StatePassingFn"), PASSING,
     "states, dA_chunk_cumsum, initial_states=None", _passed),
    ("ssd_chunk_scan", ("chunk_scan", "ChunkScanFn"), SCAN, "B, C, x, dt, dA_cumsum, prev_states, D=None, z=None",
     _outputs),
):  # fmt: skip
    for _name in _names:
        seam(
            Seam(
                f"{_TRITON}.{_module}:{_name}", _op, _signature, _results, backward=f"{_op}_backward", operands=_own,
                version="2.3.2",
            )
        )  # fmt: skip
