"""The scan of Mamba-2 (SSD), by its recurrence: one decay a head and step, heads that share B and C in groups.

For each batch b, head h and step l: S = exp(dt A) S + (dt x) B^T, y = S C + D x, over p channels and n states a head;
dt first takes its bias, softplus and the clamp to ``dt_limit``, y last its gate z.
Source: Dao and Gu, "Transformers are SSMs"; mamba_ssm `mamba_chunk_scan_combined`, `ssd_selective_scan`.
"""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, exp, fma, log1p, maximum, minimum, select
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule, seam
from flopscan.rules.ssd_kernel import executed_forward

CONTRACT = (
    "x: b l h p, dt: b l h, A: h, B: b l g n, C: b l g n, D?: h p | h, z?: b l h p, dt_bias?: h,"
    " initial_states?: b h p n, seq_idx?: b l, h % g"
)
Limit = tuple[float, float] | None
FORWARD, BACKWARD = "flopscan::ssd", "flopscan::ssd_backward"


def limits(dt_softplus: bool, dt_limit: Limit) -> tuple[float, float]:
    """The bounds of dt that may hold it: softplus is above zero anyway, and infinity holds nothing."""
    low, high = dt_limit or (0.0, math.inf)
    return (-math.inf if dt_softplus and low <= 0 else low), high


def softplus(x: Any) -> Any:
    """log(1 + e^x), and x itself where that is the same in float32."""
    return select(x > 20.0, x, log1p(exp(x)))


def gated(y: Any, z: Any) -> Any:
    """y times the SiLU of z."""
    return y * (z / (1.0 + exp(-z)))


def gate_of(z: Any) -> tuple[Any, Any]:
    """The sigmoid s of z and the gate z s."""
    s = 1.0 / (1.0 + exp(-z))
    return s, z * s


def through_gate(dout: Any, y: Any, s: Any, gate: Any) -> tuple[Any, Any]:
    """Of out = y * gate: the gradients of y and of z."""
    return dout * gate, dout * y * (s + gate * (1.0 - s))


def skip(D: Array, h: int, p: int) -> Any:
    """D of head h and channel p, in either form."""
    return D[h] if len(D.shape) == 1 else D[h, p]


def starts(initial_states: Array | None, b: int, h: int, p: int, n: int) -> list[list[Any]]:
    """The states before the first step."""
    if initial_states is None:
        return [[0.0] * n for _ in range(p)]
    return [initial_states[b, h, i].data for i in range(p)]


def begins_anew(seq_idx: Array | None, b: int, i: int) -> bool:
    """Whether step i belongs to another sequence than the one before it; the first sequence is number 0."""
    return seq_idx is not None and seq_idx[b, i] != (seq_idx[b, i - 1] if i else 0)


def recurrence(
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    dt_bias: Array | None = None,
    initial_states: Array | None = None,
    seq_idx: Array | None = None,
    dt_softplus: bool = False,
    dt_limit: Limit = None,
) -> tuple[Array, Array]:
    """The definition: the output, and the states after the last step."""
    (batch, length, heads, channels), (groups, states) = x.shape, B.shape[2:]
    y = Array(x.shape, [0.0] * len(x.data))
    last = []
    low, high = limits(dt_softplus, dt_limit)
    for b in range(batch):
        for h in range(heads):
            g = h * groups // heads
            S = starts(initial_states, b, h, channels, states)
            for i in range(length):
                if begins_anew(seq_idx, b, i):
                    S = starts(None, b, h, channels, states)
                step = dt[b, i, h] if dt_bias is None else dt[b, i, h] + dt_bias[h]
                step = softplus(step) if dt_softplus else step
                step = step if low == -math.inf else maximum(step, low)
                step = step if high == math.inf else minimum(step, high)
                a = exp(step * A[h])
                for p in range(channels):
                    drive = step * x[b, i, h, p]
                    out = 0.0 if D is None else skip(D, h, p) * x[b, i, h, p]
                    for n in range(states):
                        S[p][n] = fma(a, S[p][n], drive * B[b, i, g, n])
                        out = fma(C[b, i, g, n], S[p][n], out)
                    y[b, i, h, p] = out if z is None else gated(out, z[b, i, h, p])
            last += [s for row in S for s in row]
    return y, Array((batch, heads, channels, states), last)


def of_step(given: frozenset[str], dt_softplus: bool, dt_limit: Limit) -> Cost:
    """What dt takes for a head and step until it is a step size: its bias, softplus, the comparisons of its clamp."""
    low, high = limits(dt_softplus, dt_limit)
    cost = Cost(cmp=(low != -math.inf) + (high != math.inf))
    if "dt_bias" in given:
        cost += Cost(add=1)
    return cost + Cost(exp=2, cmp=1) if dt_softplus else cost


@rule(FORWARD, contract=CONTRACT, reference=recurrence, executed=executed_forward, matrix="executed")
def ssd(
    b: Any, l: Any, h: Any, p: Any, g: Any, n: Any, given: frozenset[str],
    dt_softplus: bool = False, dt_limit: Limit = None,
) -> Cost:  # fmt: skip
    """Per (b,l,h,p,n): (dt x) B 1 mul, the update and the read-out 1 multiply-add each: 5 FLOPs.

    Per (b,l,h): dt A 1 mul, its exp, and what makes dt; per (b,l,h,p): dt x 1 mul, D x, where y starts, 1 mul, the
    gate silu(z) (1 exp, 1 add, 1 div) and 1 mul. Grouped heads share B and C, which saves nothing here.
    The chunk form that kernels run (`executed`) takes 4 + 2Q/N + ... FLOPs for these 5: with a chunk Q under N/2 it
    can be fewer, since products within a chunk need no states.
    """
    each_channel = Cost(mul=1)
    if "D" in given:
        each_channel += Cost(mul=1)
    if "z" in given:
        each_channel += Cost(exp=1, add=1, div=1, mul=1)
    each_step = Cost(mul=1, exp=1) + of_step(given, dt_softplus, dt_limit)
    steps = b * l * h
    return Cost(mul=1, fma=2) * (steps * p * n) + each_channel * (steps * p) + each_step * steps


# The functions of packages that are this scan. `_mamba_chunk_scan_combined_fwd` and `_bwd` are what computes in the
# real package, below autograd; transformers has its function under another name, with a body in torch.

_MODULE = "mamba_ssm.ops.triton.ssd_combined"
_OPERANDS = (
    "x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_states", "dfinal_states", "seq_idx",
    "dt_softplus", "dt_limit", "chunk_size", "recompute_output",
)  # fmt: skip


def _own(bound: Operands) -> Operands:
    """The operands of the definition, and the size of a chunk."""
    own = {name: bound[name] for name in _OPERANDS if bound.get(name) is not None}
    return {"grad": bound["dout"], **own} if "dout" in bound else own


def _renamed(bound: Operands) -> Operands:
    """The same where x is called ``hidden_states``."""
    return _own({**bound, "x": bound["hidden_states"]})


def _last(x: TensorSpec, B: TensorSpec, dtype: str = "float32") -> TensorSpec:
    """The states after the last step."""
    return TensorSpec((x.shape[0], *x.shape[2:], B.shape[3]), dtype)


def _results(bound: Operands) -> Outputs:
    """The output; where asked for the last states, and the last states of each of the sequences laid end to end."""
    own = _renamed(bound) if "hidden_states" in bound else bound
    x, B = own["x"], own["B"]
    results = [TensorSpec(x.shape, x.dtype)]
    if bound["return_final_states"]:
        results.append(_last(x, B))
    if bound.get("return_varlen_states"):
        (ends,) = bound["cu_seqlens"].shape
        results.append(TensorSpec((ends - 1, *x.shape[2:], B.shape[3]), own["C"].dtype))
    return results[0] if len(results) == 1 else tuple(results)


def _kernel_results(bound: Operands) -> Outputs:
    """The output, with z that before the gate, dt and its running sum by chunk, states by chunk and at the end."""
    x, B, C, q = bound["x"], bound["B"], bound["C"], bound["chunk_size"]
    batch, length, heads, channels = x.shape
    chunks, states = -(-length // q), B.shape[3]
    out = TensorSpec(x.shape, x.dtype)
    steps = TensorSpec((batch, heads, chunks, q))
    kept = TensorSpec((batch, chunks, heads, channels, states), C.dtype)
    results = (out, None if bound["z"] is None else out, steps, steps, kept, _last(x, B))
    if bound.get("cu_seqlens") is None:
        return results
    (ends,) = bound["cu_seqlens"].shape
    return (*results, TensorSpec((ends - 1, heads, channels, states), C.dtype))


def _kernel_gradients(bound: Operands) -> Outputs:
    """The gradients of x, dt, A, B, C, D, z, dt_bias and the initial states; where asked for the gated output."""
    x, initial = bound["x"], bound["initial_states"]
    like = [_like(bound[name]) for name in ("x", "dt", "A", "B", "C", "D", "z", "dt_bias")]
    like[2], like[7] = _like(bound["A"], "float32"), _like(bound["dt_bias"], "float32")
    last = [TensorSpec(x.shape, x.dtype)] if bound["recompute_output"] else []
    return (*like, _like(initial, x.dtype), *last)


def _like(x: TensorSpec | None, dtype: str = "") -> TensorSpec | None:
    return None if x is None else TensorSpec(x.shape, dtype or x.dtype)


_SCAN = "x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None, cu_seqlens=None"
_CHECKED = "2.3.2"
for _name in ("mamba_chunk_scan_combined", "MambaChunkScanCombinedFn"):
    seam(
        Seam(
            f"{_MODULE}:{_name}",
            FORWARD,
            f"{_SCAN}, dt_softplus=False, dt_limit=None, return_final_states=False, return_varlen_states=False,"
            " state_dtype=None",
            _results,
            backward=BACKWARD,
            operands=_own,
            version=_CHECKED,
        )
    )
seam(
    Seam(
        f"{_MODULE}:_mamba_chunk_scan_combined_fwd",
        FORWARD,
        f"{_SCAN}, dt_softplus=False, dt_limit=None",
        _kernel_results,
        operands=_own,
        results=1,
        version=_CHECKED,
    )
)
seam(
    Seam(
        f"{_MODULE}:_mamba_chunk_scan_combined_bwd",
        BACKWARD,
        "dout, x, dt, A, B, C, out, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, dfinal_states=None,"
        " seq_idx=None, dt_softplus=False, dt_limit=None, dx=None, ddt=None, dB=None, dC=None, dz=None,"
        " recompute_output=False",
        _kernel_gradients,
        operands=_own,
        version=_CHECKED,
    )
)
seam(
    Seam(
        "transformers.models.*:mamba2_chunk_scan",
        FORWARD,
        "hidden_states, dt, A, B, C, chunk_size, D=None, dt_bias=None, initial_states=None, dt_softplus=False,"
        " dt_limit=None, return_final_states=False, **kwargs",
        _results,
        backward=BACKWARD,
        operands=_renamed,
        version="5.23",
    )
)
