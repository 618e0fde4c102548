"""The selective scan (S6) of Mamba and VMamba, by its recurrence, forward and backward.

For each batch b, channel d and step l: h = exp(delta A) h + (delta u) B, y = C h + D u, over n states.
Source: Gu and Dao, "Mamba", algorithm 2; mamba_ssm `selective_scan_ref`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from flopscan.core.contract import Contract
from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, Pair, complex_exp, complex_fma, exp, fma, log1p, select
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule, seam

CONTRACT = (
    "u: b d l, delta: b d l, A: d n, B: d n | b n l | b g n l, C: d n | b n l | b g n l,"
    " D?: d, z?: b d l, delta_bias?: d"
)


_REAL = Contract.parse(CONTRACT)
# complex B and C come as pairs along the length, or constant as complex numbers
_COMPLEX = Contract.parse(CONTRACT.replace("b n l", "b n 2l").replace("b g n l", "b g n 2l"))


def _contract(call: Call) -> Contract:
    """The contract by the kind of A."""
    A = call.get("A")
    if not (isinstance(A, TensorSpec) and A.is_complex):
        return _REAL
    for name in ("B", "C"):
        if isinstance(x := call.get(name), TensorSpec) and len(x.shape) == 2 and not x.is_complex:
            raise ContractError(
                f"{call.op}: operand '{name}' is constant and real where 'A' is complex; expected {A.dtype}"
            )
    return _COMPLEX


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
    """The definition, one step after the other; the states are complex where A is."""
    batch, channels, length = u.shape
    out = Array(u.shape, [0.0] * len(u.data))
    advance = _advance_complex if isinstance(A.data[0], Pair) else _advance
    for b in range(batch):
        for d in range(channels):
            h: list[Any] = [0.0 if advance is _advance else Pair(0.0, 0.0)] * A.shape[1]
            for i in range(length):
                step = delta[b, d, i] if delta_bias is None else delta[b, d, i] + delta_bias[d]
                if delta_softplus:
                    step = _softplus(step)
                start = None if D is None else D[d] * u[b, d, i]
                y = advance(h, A, B, C, (b, d, i, channels), step, step * u[b, d, i], start)
                if z is not None:
                    gate = z[b, d, i]
                    y = y * (gate / (1.0 + exp(-gate)))
                out[b, d, i] = y
    return out


def _advance(
    h: list[Any], A: Array, B: Array, C: Array, at: tuple[int, int, int, int], step: Any, drive: Any, start: Any
) -> Any:
    """The output of a step before its gate; ``h`` becomes the states after it."""
    b, d, i, channels = at
    y = 0.0 if start is None else start
    for n in range(len(h)):
        h[n] = fma(exp(step * A[d, n]), h[n], drive * _per_group(B, b, d, i, n, channels))
        y = fma(_per_group(C, b, d, i, n, channels), h[n], y)
    return y


def _advance_complex(
    h: list[Any], A: Array, B: Array, C: Array, at: tuple[int, int, int, int], step: Any, drive: Any, start: Any
) -> Any:
    """The same for complex states: the output is twice the real part of the sum over them."""
    b, d, i, channels = at
    total: Any = 0.0
    for n in range(len(h)):
        h[n] = complex_fma(complex_exp(A[d, n] * step), h[n], _pair(B, b, d, i, n, channels) * drive)
        c = _pair(C, b, d, i, n, channels)
        total = fma(c.re, h[n].re, fma(-c.im, h[n].im, total))
    return 2.0 * total if start is None else fma(2.0, total, start)


def _pair(x: Array, b: int, d: int, i: int, n: int, channels: int) -> Any:
    """Complex B or C: constant as it is, else the pair at twice the step."""
    if len(x.shape) == 2:
        return x[d, n]
    return Pair(*(_per_group(x, b, d, 2 * i + part, n, channels) for part in range(2)))


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
    state: Any = ("float64", "complex128"),
) -> dict[str, Any]:
    d = 2 * g
    sizes = {"b": b, "d": d, "l": l, "n": n, "g": g, "2l": 2 * l}
    kind = state if form == "d n" else "float64"
    form = form.replace("l", "2l") if state != "float64" else form

    def tensor(axes: str, dtype: str = "float64") -> TensorSpec:
        return TensorSpec(tuple(sizes[a] for a in axes.split()), dtype)

    optional = {"D": "d", "z": "b d l", "delta_bias": "d"}
    return {
        "u": tensor("b d l"), "delta": tensor("b d l"), "A": tensor("d n", state),
        "B": tensor(form, kind), "C": tensor(form, kind),
        **{name: tensor(axes) if name in given else None for name, axes in optional.items()},
        "delta_softplus": delta_softplus,
    }  # fmt: skip


@rule(
    "flopscan::selective_scan", contracts=_contract, reference=recurrence, example=_example, complex=lambda cost: cost
)
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
) -> tuple[Any, ...]:
    """The gradients of u, delta, A, B, C, D, z and delta_bias; the states are computed again, not read back."""
    batch, channels, length = u.shape
    states = A.shape[1]
    du, ddelta, dz = (Array(u.shape, [0.0] * len(u.data)) for _ in range(3))
    dA, dB, dC = (Array(x.shape, [0.0] * len(x.data)) for x in (A, B, C))
    dD, dbias = ([0.0] * channels for _ in range(2))
    for b in range(batch):
        for d in range(channels):
            steps = _forward_again(b, d, u, delta, A, B, delta_bias, delta_softplus)
            carry: list[Any] = [0.0] * states
            for i in reversed(range(length)):
                step, slope, drive, a, w, h = steps[i]
                dy = grad[b, d, i]
                if z is not None:
                    y = 0.0 if D is None else D[d] * u[b, d, i]
                    for n in range(states):
                        y = fma(_per_group(C, b, d, i, n, channels), h[n], y)
                    dy, dz[b, d, i] = _gate_backward(dy, y, z[b, d, i])
                total, slopes = 0.0, 0.0
                for n in range(states):
                    g = fma(_per_group(C, b, d, i, n, channels), dy, carry[n])
                    _accumulate(dC, dy, h[n], b, d, i, n, channels)
                    _accumulate(dB, g, drive, b, d, i, n, channels)
                    total = fma(g, _per_group(B, b, d, i, n, channels), total)
                    q = g * w[n]
                    dA[d, n] = fma(step, q, dA[d, n])
                    slopes = fma(A[d, n], q, slopes)
                    carry[n] = a[n] * g
                du[b, d, i] = step * total
                if D is not None:
                    du[b, d, i] = fma(D[d], dy, du[b, d, i])
                    dD[d] = fma(dy, u[b, d, i], dD[d])
                dstep = fma(u[b, d, i], total, slopes)
                ddelta[b, d, i] = dstep if slope is None else dstep * slope
                if delta_bias is not None:
                    dbias[d] = ddelta[b, d, i] + dbias[d]
    return (
        du, ddelta, dA, dB, dC, None if D is None else Array((channels,), dD), None if z is None else dz,
        None if delta_bias is None else Array((channels,), dbias),
    )  # fmt: skip


def _forward_again(
    b: int, d: int, u: Array, delta: Array, A: Array, B: Array, bias: Array | None, softplus: bool
) -> list[Any]:
    """Per step: its size, the slope of softplus, delta*u, and per state the factor a, a*h before and h."""
    steps = []
    h: list[Any] = [0.0] * A.shape[1]
    for i in range(u.shape[2]):
        step, slope = delta[b, d, i] if bias is None else delta[b, d, i] + bias[d], None
        if softplus:
            power = exp(step)
            linear = step > 20.0
            slope = select(linear, 1.0, power / (1.0 + power))
            step = select(linear, step, log1p(power))
        drive = step * u[b, d, i]
        a = [exp(step * A[d, n]) for n in range(A.shape[1])]
        w = [a[n] * h[n] for n in range(A.shape[1])]
        h = [w[n] + drive * _per_group(B, b, d, i, n, u.shape[1]) for n in range(A.shape[1])]
        steps.append((step, slope, drive, a, w, h))
    return steps


def _gate_backward(dout: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """Of out = y * z * s with s = 1 / (1 + exp(-z)): the gradients of y and of z."""
    s = 1.0 / (1.0 + exp(-z))
    gate = z * s
    return dout * gate, dout * y * (s + gate * (1.0 - s))


def _accumulate(into: Array, x: Any, y: Any, b: int, d: int, i: int, n: int, channels: int) -> None:
    index: tuple[int, ...] = (d, n)
    if len(into.shape) == 3:
        index = (b, n, i)
    elif len(into.shape) == 4:
        index = (b, d * into.shape[1] // channels, n, i)
    into[index] = fma(x, y, into[index])


def _example_backward(**sizes: Any) -> dict[str, Any]:
    operands = _example(**sizes, state="float64")
    return {"grad": operands["u"], **operands}


_example_backward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p for name, p in inspect.signature(_example).parameters.items() if name != "state"]
)


@rule(
    "flopscan::selective_scan_backward", contract=f"grad: b d l, {CONTRACT}",
    reference=recurrence_backward, example=_example_backward,
)  # fmt: skip
def selective_scan_backward(
    b: Any, d: Any, l: Any, n: Any, given: frozenset[str], delta_softplus: bool = False
) -> Cost:
    """Per (b,d,l,n), with the states computed again: 5 mul + 1 add + 6 multiply-adds + 1 exp = 18 FLOPs + 1 exp.

    delta*A, its exp, B*(delta u), a*h, the sum; then the adjoint a*g + C*dy, the gradients of C and B, the two sums
    over states (g*B and A*q), q = g*(a h) and the gradient of A. z takes the output before the gate, which is one
    multiply-add more per (b,d,l,n) unless it was kept.
    """
    each_state = Cost(mul=5, add=1, fma=6, exp=1)
    each_step = Cost(mul=2, fma=1)  # delta*u; u's gradient; delta's
    if "D" in given:
        each_step += Cost(fma=2)
    if "delta_bias" in given:
        each_step += Cost(add=2)
    if delta_softplus:
        each_step += Cost(exp=2, cmp=1, add=1, div=1, mul=1)
    if "z" in given:
        each_state += Cost(fma=1)
        each_step += Cost(exp=1, add=3, div=1, mul=5) + (Cost(mul=1) if "D" in given else Cost())
    return each_state * (b * d * l * n) + each_step * (b * d * l)


# The functions of packages that are a selective scan. Those of a compiled module are below autograd: they give a
# kernel's scratch besides, and their authors' own autograd functions call them.

_OPERANDS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus")
_CHUNK = 2048  # steps between the states that the kernel keeps


def _own(bound: Operands) -> Operands:
    """The operands of the definition, without the kernel's scratch."""
    return {name: bound[name] for name in ("grad", *_OPERANDS) if bound.get(name) is not None}


def _squeezed(bound: Operands) -> Operands:
    """The same where n = 1 is squeezed out: A (d), B and C (b g l)."""
    own = dict(_own(bound))
    own["A"] = TensorSpec((*own["A"].shape, 1), own["A"].dtype)
    for name in ("B", "C"):
        batch, groups, length = own[name].shape
        own[name] = TensorSpec((batch, groups, 1, length), own[name].dtype)
    return own


def _weights(A: TensorSpec) -> str:
    return "complex64" if A.is_complex else "float32"


def _kernel_forward(bound: Operands) -> Outputs:
    """The output, the states at chunk boundaries, and with z the gated output."""
    u, A = bound["u"], bound["A"]
    states = A.shape[1] if len(A.shape) > 1 else 1
    out = TensorSpec(u.shape, "float32" if bound.get("out_float") else u.dtype)
    kept = TensorSpec((*u.shape[:2], -(-u.shape[2] // _CHUNK), 2 * states), _weights(A))
    return (out, kept) if bound.get("z") is None else (out, kept, TensorSpec(u.shape, u.dtype))


def _kernel_backward(bound: Operands) -> Outputs:
    """The gradients of u, delta, A, B, C, D and delta_bias, with z its own, and where asked for the gated output."""
    plain = [_like(bound[name]) for name in ("u", "delta", "A", "B", "C", "D", "delta_bias")]
    if bound.get("z") is None:
        return tuple(plain)
    gated = [_like(bound["z"])] * (2 if bound.get("recompute_out_z") else 1)
    return (*plain, *gated)


def _like(x: TensorSpec | None) -> TensorSpec | None:
    return None if x is None else TensorSpec(x.shape, x.dtype)


def _scan(bound: Operands) -> Outputs:
    """The output, and the last state where it is asked for."""
    u, A = bound["u"], bound["A"]
    out = TensorSpec(u.shape, u.dtype)
    return (out, TensorSpec((u.shape[0], *A.shape), _weights(A))) if bound["return_last_state"] else out


def _kernels(package: str, forward: str, backward: str, operands: Callable[[Operands], Operands] = _own) -> None:
    """Declare the two functions of a compiled module, by their parameters."""
    op = "flopscan::selective_scan"
    seam(Seam(f"{package}:fwd", op, forward, _kernel_forward, operands=operands, results=1))
    seam(Seam(f"{package}:bwd", f"{op}_backward", backward, _kernel_backward, operands=operands))


_kernels(
    "selective_scan_cuda",
    "u, delta, A, B, C, D, z, delta_bias, delta_softplus",
    "u, delta, A, B, C, D, z, delta_bias, grad, x, out, dz, delta_softplus, recompute_out_z",
)
_WITHOUT_GATE = "u, delta, A, B, C, D, delta_bias"
_kernels(
    "selective_scan_cuda_oflex",
    f"{_WITHOUT_GATE}, delta_softplus, nrows, out_float",
    f"{_WITHOUT_GATE}, grad, x, delta_softplus, nrows",
)
for _package, _form in (
    ("selective_scan_cuda_core", _own), ("selective_scan_cuda_nrow", _own), ("selective_scan_cuda_ndstate", _squeezed),
):  # fmt: skip
    _kernels(
        _package,
        f"{_WITHOUT_GATE}, delta_softplus, nrows",
        f"{_WITHOUT_GATE}, grad, x, delta_softplus, nrows",
        operands=_form,
    )
seam(
    Seam(
        "mamba_ssm.ops.selective_scan_interface:selective_scan_fn",
        "flopscan::selective_scan",
        "u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False",
        _scan,
        backward="flopscan::selective_scan_backward",
        operands=_own,
    )
)
