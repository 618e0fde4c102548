"""One decoding step of a selective scan: every state decays, takes the new input and is read out.

S = exp(dt A) S + (dt x) B^T, y = S C + D x, gated by z; d channels (Mamba), or h heads of p channels (Mamba-2).
Source: mamba_ssm `selective_state_update` and its Triton kernel.
"""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.contract import Contract
from flopscan.core.cost import Cost
from flopscan.core.rule import moved
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, exp, fma
from flopscan.core.trace import Call, TensorSpec, itemsize
from flopscan.rules import rule, seam
from flopscan.rules.ssd import gated, softplus
from flopscan.rules.ssd_kernel import power, up

UPDATE = "flopscan::selective_state_update"
# with state_batch_indices the first axis of state is a cache of more sequences than these
_FLAT = Contract.parse(
    "state: _ p n, x: b p, dt: b p, A: p n, B: b n | b 1 n, C: b n | b 1 n, D?: p, z?: b p, dt_bias?: p,"
    " state_batch_indices?: b"
)
_HEADS = Contract.parse(
    "state: _ h p n, x: b h p, dt: b h p, A: h p n, B: b n | b g n, C: b n | b g n, D?: h p, z?: b h p,"
    " dt_bias?: h p, state_batch_indices?: b, h % g"
)


def _contract(call: Call) -> Contract:
    """The contract with heads, or without."""
    return _HEADS if len(call["state"].shape) == 4 else _FLAT


def _sizes(call: Call) -> dict[str, Any]:
    """One head and one group where the shapes have none, and whether the kernel takes one dt and A a head."""
    heads = len(call["state"].shape) == 4
    one = {} if heads else {"h": 1}
    groups = {} if heads and len(call["B"].shape) == 3 else {"g": 1}
    return {**one, **groups, "tied": all(_expanded(call.get(name), k) for name, k in _PER_HEAD.items())}


_PER_HEAD = {"A": 2, "dt": 1, "dt_bias": 1}


def _expanded(spec: TensorSpec | None, axes: int) -> bool:
    """Whether the last ``axes`` of an operand are one number each, expanded."""
    return spec is not None and spec.strides is not None and not any(spec.strides[-axes:])


def _moves(call: Call) -> tuple[int, int]:
    """The states of the sequences at hand are read and written; all else is read once, the output written."""
    state = call["state"]
    used = TensorSpec((call["x"].shape[0], *state.shape[1:]), state.dtype).nbytes
    read, written = moved(call)
    return read - state.nbytes + used, written + used


def update(
    state: Array,
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    dt_bias: Array | None = None,
    state_batch_indices: Array | None = None,
    dt_softplus: bool = False,
) -> tuple[Array, Array]:
    """The definition: the output, and the states of all sequences afterwards."""
    batch, n = x.shape[0], A.shape[-1]
    heads, p = (1, x.shape[1]) if len(x.shape) == 2 else x.shape[1:]
    groups = 1 if len(B.shape) == 2 else B.shape[1]
    y, S = Array(x.shape, [0.0] * len(x.data)), Array(state.shape, state.data)
    for b in range(batch):
        slot = b if state_batch_indices is None else state_batch_indices[b]
        for h in range(heads):
            own = (b * groups + h * groups // heads) * n
            for c in range(h * p, (h + 1) * p):
                at, here = b * heads * p + c, (slot * heads * p + c) * n
                step = dt.data[at] if dt_bias is None else dt.data[at] + dt_bias.data[c]
                step = softplus(step) if dt_softplus else step
                drive = step * x.data[at]
                out = 0.0 if D is None else D.data[c] * x.data[at]
                for k in range(n):
                    decay = exp(step * A.data[c * n + k])
                    S.data[here + k] = fma(decay, S.data[here + k], drive * B.data[own + k])
                    out = fma(C.data[own + k], S.data[here + k], out)
                y.data[at] = out if z is None else gated(out, z.data[at])
    return y, S


def executed(
    b: Any, h: Any, p: Any, n: Any, given: frozenset[str], tied: bool, call: Call, dt_softplus: bool = False
) -> Cost:
    """What the threads of `_selective_scan_update_kernel` run: 128 of them on a block of channels, 256 over 128 states.

    States are padded to N, a power of two. A thread has I states of a channel, 4 where n divides by 16 (then Triton
    loads as many at once) and else one, of max(1, block N / (threads I)) channels. N / I threads share a channel, and
    each does all that is done once a channel: the bias 1 add; softplus an exp2, 11 multiply-adds, 2 add and 2 mul, its
    log being a polynomial; D x 1 multiply-add; the gate 2 add, 4 mul, an exp2 and a reciprocal. Each state: dt A
    log2(e) 2 mul, exp2, dt B and (dt B) x 2 mul, the update 1 multiply-add, and onto the first of a thread's products
    with C (1 mul) the others, I-1 multiply-adds. Threads then exchange sums log2(N / I) times, each an add; where I = 1
    the first is fused with the product.
    Where A, dt and its bias are one number a head, expanded, dt and the decay are made once a thread, and dt B once for
    each of its states, or once in all where N covers the threads and B is not of 16 bits.

    FLOPs and exponentials are exact on an H100 (benchmarks/hardware: 1 to 256 states, not expanded and expanded).
    """
    block, threads = next((size, threads) for most, size, threads in _BLOCKS if n <= most)
    lanes, items = power(n), 1 if n % 16 else 4
    exchanges, channels = (lanes // items).bit_length() - 1, max(1, block * lanes // (threads * items))
    fused = int(items == 1 and exchanges > 0)
    step, decay = _step(given, dt_softplus), Cost(mul=2, exp=1)
    channel = Cost(mul=1 + items, fma=2 * items - 1 + fused, add=exchanges - fused) + _end(given)
    if tied:
        once = Cost(mul=1 if lanes >= threads and itemsize(call["B"].dtype) == 4 else items)
        thread = step + decay + once + channel * channels
    else:
        thread = (step + (decay + Cost(mul=1)) * items + channel) * channels
    return thread * (b * h * (up(p, block) // block) * threads)


def _step(given: frozenset[str], dt_softplus: bool) -> Cost:
    """What makes dt."""
    cost = Cost(exp=1, fma=11, add=2, mul=2, cmp=1) if dt_softplus else Cost()
    return cost + Cost(add=1) if "dt_bias" in given else cost


def _end(given: frozenset[str]) -> Cost:
    """D x, and the gate."""
    cost = Cost(exp=1, div=1, add=2, mul=4) if "z" in given else Cost()
    return cost + Cost(fma=1) if "D" in given else cost


# By the number of states: the channels that a program takes, and its threads.
_BLOCKS = ((16, 32, 128), (32, 16, 128), (64, 8, 128), (128, 4, 128), (math.inf, 4, 256))


@rule(UPDATE, contracts=_contract, sizes=_sizes, reference=update, executed=executed, moves=_moves)
def selective_state_update(
    b: Any, h: Any, p: Any, n: Any, g: Any, given: frozenset[str], dt_softplus: bool = False
) -> Cost:
    """Per (b,h,p,n), as a step of the scan: dt A and (dt x) B 2 mul, 1 exp, update and read-out 2 multiply-adds.

    Per (b,h,p): dt x 1 mul, D x, where y starts, 1 mul; the bias 1 add; softplus an exp, a log and a comparison; the
    gate z silu (1 exp, 1 add, 1 div) and 1 mul. By the shapes: A and dt that are one number a head, expanded, count as
    what they are expanded to (`executed` counts what the kernel then saves).
    """
    each = Cost(mul=1)
    if "D" in given:
        each += Cost(mul=1)
    if "dt_bias" in given:
        each += Cost(add=1)
    if dt_softplus:
        each += Cost(exp=2, cmp=1)
    if "z" in given:
        each += Cost(exp=1, add=1, div=1, mul=1)
    return Cost(mul=2, exp=1, fma=2) * (b * h * p * n) + each * (b * h * p)


_OPERANDS = ("state", "x", "dt", "A", "B", "C", "D", "z", "dt_bias", "state_batch_indices", "dt_softplus")


def _own(bound: Operands) -> Operands:
    """The operands of the definition; transformers calls x ``hidden_states``."""
    bound = {**bound, "x": bound.get("x", bound.get("hidden_states"))}
    return {name: bound[name] for name in _OPERANDS if bound.get(name) is not None}


def _output(bound: Operands) -> Outputs:
    """The output; the states are written in place."""
    x = _own(bound)["x"]
    return TensorSpec(x.shape, x.dtype)


_PACKAGE = (
    "mamba_ssm.ops.triton.selective_state_update:selective_state_update",
    "state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, state_batch_indices=None",
    "2.3.2",
)
_MODELS = "state, hidden_states, dt, A, B, C, D=None, dt_bias=None, dt_softplus=False, z=None, **kwargs"
for _path, _signature, _version in (
    _PACKAGE,
    ("transformers.models.*:mamba_selective_state_update", _MODELS, "5.23"),
    ("transformers.models.*:mamba2_selective_state_update", _MODELS, "5.23"),
):
    seam(Seam(_path, UPDATE, _signature, _output, operands=_own, version=_version))
