"""What Mamba-2's fused block computes, on tallying numbers: the references of its parts, one after the other."""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.tally import Array, dot, rsqrt, total
from flopscan.rules.mamba_inner_reference import Maybe, kept, reference
from flopscan.rules.normalization import rows_of, times
from flopscan.rules.ssd import Limit, gate_of

Sizes = tuple[int, int, int, int]  # k beside the scan, h*p channels, c convolved, h heads


def take(x: Array, first: int, count: int) -> Array:
    """Some of the channels of each step: b l count."""
    return Array.make((*x.shape[:2], count), lambda b, i, c: x[b, i, first + c])


def turned(x: Array) -> Array:
    """b c l of b l c, or the other way round."""
    return Array.make((x.shape[0], x.shape[2], x.shape[1]), lambda b, c, i: x[b, i, c])


def beside(*parts: Array) -> Array:
    """Channels after channels: b l all."""
    rows = [
        value for b in range(parts[0].shape[0]) for i in range(parts[0].shape[1]) for x in parts for value in x[b, i]
    ]
    return Array((*parts[0].shape[:2], sum(x.shape[2] for x in parts)), rows)


def sizes_of(zxbcdt: Array, conv1d_weight: Array, D: Array, headdim: int | None) -> Sizes:
    h = D.shape[0]
    dim, c = h * (D.shape[1] if len(D.shape) == 2 else headdim or 0), conv1d_weight.shape[0]
    return (zxbcdt.shape[2] - dim - c - h) // 2, dim, c, h


def scan_operands(zxbcdt: Array, conved: Array, sizes: Sizes, groups: int) -> tuple[Array, Array, Array, Array, Array]:
    """z, x, dt, B and C with their heads and groups."""
    k, dim, c, h = sizes
    b, l, n = *zxbcdt.shape[:2], (c - dim) // (2 * groups)
    z = take(zxbcdt, 2 * k, dim)
    x, B, C = (
        take(conved, first, count) for first, count in ((0, dim), (dim, groups * n), (dim + groups * n, groups * n))
    )
    heads, group = (b, l, h, dim // h), (b, l, groups, n)
    dt = take(zxbcdt, 2 * k + dim + c, h)
    return z.reshape(*heads), x.reshape(*heads), dt, B.reshape(*group), C.reshape(*group)


def conved_of(zxbcdt: Array, weight: Array, bias: Maybe, sizes: Sizes, activation: str | None) -> Array:
    """b l c: x, B and C after the convolution."""
    k, dim, c, _ = sizes
    result = reference("causal_conv1d")(turned(take(zxbcdt, 2 * k + dim, c)), weight, bias, activation=activation)
    return turned(result)


def split(
    zxbcdt: Array,
    conv1d_weight: Array,
    dt_bias: Array,
    A: Array,
    D: Array,
    conv1d_bias: Maybe = None,
    initial_states: Maybe = None,
    seq_idx: Maybe = None,
    dt_limit: Limit = None,
    activation: str | None = "silu",
    rmsnorm_weight: Maybe = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Maybe = None,
    outproj_bias: Maybe = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
) -> Array:
    """The output: b l m, or without out_proj b l (k + hp)."""
    y = before_projection(
        zxbcdt, conv1d_weight, dt_bias, A, D, conv1d_bias, initial_states, seq_idx, dt_limit, activation,
        rmsnorm_weight, rmsnorm_eps, headdim, ngroups, norm_before_gate,
    )  # fmt: skip
    if outproj_weight is None:
        return y
    return Array.make((*y.shape[:2], outproj_weight.shape[0]), lambda b, i, f: dot(
        outproj_weight[f], y[b, i], 0.0 if outproj_bias is None else outproj_bias[f]
    ))  # fmt: skip


def before_projection(
    zxbcdt: Array, conv1d_weight: Array, dt_bias: Array, A: Array, D: Array, conv1d_bias: Maybe,
    initial_states: Maybe, seq_idx: Maybe, dt_limit: Limit, activation: str | None, rmsnorm_weight: Maybe,
    rmsnorm_eps: float, headdim: int | None, ngroups: int, norm_before_gate: bool,
) -> Array:  # fmt: skip
    """b l (k + hp): the gated unit beside the scan, and the scan, gated and normalized."""
    sizes = sizes_of(zxbcdt, conv1d_weight, D, headdim)
    conved = conved_of(zxbcdt, conv1d_weight, conv1d_bias, sizes, activation)
    z, x, dt, B, C = scan_operands(zxbcdt, conved, sizes, ngroups)
    y, _ = reference("ssd")(
        x, dt, A, B, C, D, z if rmsnorm_weight is None else None, dt_bias, initial_states, seq_idx, True, dt_limit
    )
    y = y.reshape(*zxbcdt.shape[:2], sizes[1])
    if rmsnorm_weight is not None:
        y = reference("gated_rms_norm")(
            y, rmsnorm_weight, None, z.reshape(*y.shape), rmsnorm_eps, sizes[1] // ngroups, norm_before_gate
        )
    return beside(reference("swiglu")(take(zxbcdt, 0, 2 * sizes[0])), y) if sizes[0] else y


def split_backward(
    grad: Array,
    zxbcdt: Array,
    conv1d_weight: Array,
    dt_bias: Array,
    A: Array,
    D: Array,
    conv1d_bias: Maybe = None,
    initial_states: Maybe = None,
    seq_idx: Maybe = None,
    dt_limit: Limit = None,
    activation: str | None = "silu",
    rmsnorm_weight: Maybe = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Maybe = None,
    outproj_bias: Maybe = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
) -> tuple[Any, ...]:
    """The gradients of the operands in this order, without seq_idx; what the forward kept is not computed again."""
    sizes = sizes_of(zxbcdt, conv1d_weight, D, headdim)
    k, dim, c, _ = sizes
    conved = kept(conved_of, zxbcdt, conv1d_weight, conv1d_bias, sizes, activation)
    z, x, dt, B, C = scan_operands(zxbcdt, conved, sizes, ngroups)
    dout = grad if outproj_weight is None else _through(grad, outproj_weight)
    parts = [reference("swiglu_backward")(take(dout, 0, k), take(zxbcdt, 0, 2 * k))[0]] if k else []
    dy, dweight, dz = take(dout, k, dim), None, None
    if rmsnorm_weight is not None:
        operands = (x, dt, A, B, C, D, None, dt_bias, initial_states, seq_idx, True, dt_limit)
        inner = kept(lambda *given: reference("ssd")(*given)[0], *operands).reshape(*dy.shape)
        options = (z.reshape(*dy.shape), dim // ngroups, norm_before_gate)
        dy, dweight, dz = _norm_backward(dy, inner, rmsnorm_weight, rmsnorm_eps, *options)
    dx, ddt, dA, dB, dC, dD, through_scan, dbias, dstart = reference("ssd_backward")(
        dy.reshape(*x.shape), x, dt, A, B, C, D, z if dz is None else None, dt_bias, initial_states, None, seq_idx,
        True, dt_limit,
    )  # fmt: skip
    dconved = turned(beside(*(flat(v) for v in (dx, dB, dC))))
    dxbc, dconv, dconv_bias, _ = reference("causal_conv1d_backward")(
        dconved, turned(take(zxbcdt, 2 * k + dim, c)), conv1d_weight, conv1d_bias, activation=activation
    )
    dzxbcdt = beside(*parts, flat(through_scan) if dz is None else dz, turned(dxbc), ddt)
    last: tuple[Maybe, Maybe] = (None, None)
    if outproj_weight is not None:
        out = kept(
            before_projection, zxbcdt, conv1d_weight, dt_bias, A, D, conv1d_bias, initial_states, seq_idx, dt_limit,
            activation, rmsnorm_weight, rmsnorm_eps, headdim, ngroups, norm_before_gate,
        )  # fmt: skip
        last = _projection_gradients(grad, out, outproj_bias is not None)
    return dzxbcdt, dconv, dbias, dA, dD, dconv_bias, dstart, dweight, *last


def flat(x: Array) -> Array:
    """b l and all that follows in one axis."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _through(grad: Array, weight: Array) -> Array:
    """The product with the transposed weight."""
    columns = Array.make(weight.shape[::-1], lambda f, m: weight[m, f])
    return Array.make((*grad.shape[:2], weight.shape[1]), lambda b, i, f: dot(columns[f], grad[b, i]))


def _projection_gradients(grad: Array, out: Array, has_bias: bool) -> tuple[Array, Maybe]:
    """The gradients of out_proj and of its bias."""
    steps = [(b, i) for b in range(grad.shape[0]) for i in range(grad.shape[1])]
    weight = Array.make((grad.shape[2], out.shape[2]), lambda m, f: dot(
        (grad[b, i, m] for b, i in steps), (out[b, i, f] for b, i in steps)
    ))  # fmt: skip
    sums = Array.make((grad.shape[2],), lambda m: total(grad[b, i, m] for b, i in steps)) if has_bias else None
    return weight, sums


def _norm_backward(
    dy: Array, inner: Array, weight: Array, eps: float, z: Array, size: int, norm_before_gate: bool
) -> tuple[Array, Array, Array]:
    """The gradients of the norm's input, weight and gate."""
    rstd = kept(_scales, inner, None if norm_before_gate else z, size, eps)
    dx, dweight, _, dz = reference("gated_rms_norm_backward")(
        dy, inner, weight, rstd, None, None, z, size, norm_before_gate
    )
    return dx, dweight, dz


def _scales(inner: Array, z: Maybe, size: int, eps: float) -> Array:
    """One over the root mean square, by group and row, as the forward kept it."""
    values = (
        inner if z is None else Array(inner.shape, [a * gate_of(b)[1] for a, b in zip(inner.data, z.data, strict=True)])
    )
    rows = [rsqrt(total(times(row, row)) / size + eps) for row in rows_of(values, size)]
    groups = inner.shape[-1] // size
    return Array((len(rows),), [rows[i] for g in range(groups) for i in range(g, len(rows), groups)])
