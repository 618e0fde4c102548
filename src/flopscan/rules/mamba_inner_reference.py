"""What Mamba's fused block computes, on tallying numbers: the references of its parts, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flopscan.core.tally import Array, Num, dot, rsqrt, total
from flopscan.rules import REGISTRY

Maybe = Array | None


def reference(op: str) -> Callable[..., Any]:
    """The definition of an operator that has a rule."""
    found = REGISTRY[f"flopscan::{op}"].reference
    assert found is not None
    return found


def flip(x: Array) -> Array:
    """The steps, which are the last axis, from the last to the first."""
    last = x.shape[-1] - 1
    return Array(x.shape, [x.data[i - i % (last + 1) + last - i % (last + 1)] for i in range(len(x.data))])


def added(x: Array, y: Array) -> Array:
    """The sum of two arrays."""
    return Array(x.shape, [a + b for a, b in zip(x.data, y.data, strict=True)])


def kept(compute: Callable[..., Any], *operands: Any) -> Any:
    """What ``compute`` makes of the operands, as numbers that are at hand: nothing is counted."""
    tally = operands[0].data[0].tally

    def plainly(x: Any) -> Any:
        return x.map(float) if isinstance(x, Array) and isinstance(x.data[0], Num) else x

    def numbered(x: Any) -> Any:
        return x.map(lambda value: Num(value, tally)) if isinstance(x, Array) else x

    result = compute(*map(plainly, operands))
    return tuple(map(numbered, result)) if isinstance(result, tuple) else numbered(result)


def half(xz: Array, which: int) -> Array:
    """x, the first half of the channels, or z, the second."""
    b, d, l = xz.shape[0], xz.shape[1] // 2, xz.shape[2]
    return Array.make((b, d, l), lambda i, c, t: xz[i, which * d + c, t])


def convolved(xz: Array, weight: Array, bias: Maybe) -> Array:
    """The convolution of x, and SiLU."""
    result: Array = reference("causal_conv1d")(
        half(xz, 0), weight.reshape(weight.shape[0], weight.shape[2]), bias, activation="silu"
    )
    return result


def projected(u: Array, weight: Array) -> Array:
    """b f l: the product of every step with ``weight``, f d."""
    b, d, l = u.shape
    return Array.make((b, weight.shape[0], l), lambda i, f, t: dot(weight[f], (u[i, c, t] for c in range(d))))


def features(x_dbl: Array, first: int, count: int) -> Array:
    """Some of the features of each step."""
    b, _, l = x_dbl.shape
    return Array.make((b, count, l), lambda i, f, t: x_dbl[i, first + f, t])


def with_states(x_dbl: Array, first: int, A: Array, bias: Maybe) -> Array:
    """B or C as the scan takes them: b 1 n l, with its bias."""
    found = features(x_dbl, first, A.shape[1])
    if bias is not None:
        found = Array.make(found.shape, lambda i, n, t: found[i, n, t] + bias[n])
    return found.reshape(found.shape[0], 1, *found.shape[1:])


def normalized(x: Array, weight: Maybe) -> Array:
    """The root-mean-square norm over the features of each step, which are the second axis from the right."""
    if weight is None:
        return x
    y = reference("residual_norm")(by_rows(x), weight, is_rms_norm=True)[0]
    return of_rows(y, x.shape)


def by_rows(x: Array) -> Array:
    """b l rows of the features, which are the second axis from the right."""
    m, l = x.shape[-2:]
    return Array.make((x.shape[0] * l, m), lambda row, f: x.data[(row // l * m + f) * l + row % l])


def of_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `by_rows`."""
    m, l = shape[-2:]
    return Array(shape, [rows[i * l + t, f] for i in range(shape[0]) for f in range(m) for t in range(l)])


def through_norm(grad: Array, x: Array, weight: Maybe) -> tuple[Array, Maybe]:
    """The gradients of what `normalized` takes, from the kept scale of each row; of x as it is without a norm."""
    if weight is None:
        return grad, None
    rows = by_rows(x)
    rstd = kept(_scales, rows)
    found = reference("residual_norm_backward")(by_rows(grad), rows, weight, rstd)
    return of_rows(found[0], x.shape), found[1]


def _scales(rows: Array) -> Array:
    """One over the root mean square of each row, as the forward kept it."""
    return Array((rows.shape[0],), [rsqrt(total(x * x for x in row.data) / rows.shape[1] + 1e-6) for row in rows])


def scanned(
    u: Array, delta: Array, A: Array, A_b: Maybe, B: Array, C: Array, D: Maybe, z: Array,
    delta_bias: Maybe, delta_softplus: bool,
) -> tuple[Array, Maybe]:  # fmt: skip
    """The gated outputs of the scan, and of the one from the last step to the first if there is one."""
    scan = reference("selective_scan")
    there = scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    if A_b is None:
        return there, None
    turned = (flip(x) for x in (u, delta))
    back = scan(*turned, A_b, *_turned(B, C), D, flip(z), delta_bias, delta_softplus)
    return there, flip(back)


def _turned(*states: Array) -> list[Array]:
    return [flip(x) if len(x.shape) > 2 else x for x in states]


def block(
    xz: Array,
    conv1d_weight: Array,
    x_proj_weight: Array,
    delta_proj_weight: Array,
    A: Array,
    conv1d_bias: Maybe = None,
    out_proj_weight: Maybe = None,
    out_proj_bias: Maybe = None,
    A_b: Maybe = None,
    B: Maybe = None,
    C: Maybe = None,
    D: Maybe = None,
    delta_bias: Maybe = None,
    B_proj_bias: Maybe = None,
    C_proj_bias: Maybe = None,
    delta_softplus: bool = True,
    b_rms_weight: Maybe = None,
    c_rms_weight: Maybe = None,
    dt_rms_weight: Maybe = None,
) -> Array:
    """The output: b l m, or without out_proj b d l."""
    u = convolved(xz, conv1d_weight, conv1d_bias)
    x_dbl, r = projected(u, x_proj_weight), delta_proj_weight.shape[1]
    delta = normalized(projected(features(x_dbl, 0, r), delta_proj_weight), dt_rms_weight)
    if B is None:
        B = normalized(with_states(x_dbl, r, A, B_proj_bias), b_rms_weight)
    if C is None:
        C = normalized(with_states(x_dbl, x_dbl.shape[1] - A.shape[1], A, C_proj_bias), c_rms_weight)
    y, back = scanned(u, delta, A, A_b, B, C, D, half(xz, 1), delta_bias, delta_softplus)
    y = y if back is None else added(y, back)
    if out_proj_weight is None:
        return y
    found = projected(y, out_proj_weight)
    b, m, l = found.shape
    out = Array.make((b, l, m), lambda i, t, f: found[i, f, t])
    if out_proj_bias is None:
        return out
    return Array.make(out.shape, lambda i, t, f: out[i, t, f] + out_proj_bias[f])


def block_backward(
    grad: Array,
    xz: Array,
    conv1d_weight: Array,
    x_proj_weight: Array,
    delta_proj_weight: Array,
    A: Array,
    conv1d_bias: Maybe = None,
    out_proj_weight: Maybe = None,
    out_proj_bias: Maybe = None,
    A_b: Maybe = None,
    B: Maybe = None,
    C: Maybe = None,
    D: Maybe = None,
    delta_bias: Maybe = None,
    B_proj_bias: Maybe = None,
    C_proj_bias: Maybe = None,
    delta_softplus: bool = True,
    b_rms_weight: Maybe = None,
    c_rms_weight: Maybe = None,
    dt_rms_weight: Maybe = None,
) -> tuple[Any, ...]:
    """The gradients of all operands in this order, xz first, from what the forward kept."""
    r, z, n = delta_proj_weight.shape[1], half(xz, 1), A.shape[1]
    u = kept(convolved, xz, conv1d_weight, conv1d_bias)
    x_dbl = kept(projected, u, x_proj_weight)
    raw_delta = kept(projected, features(x_dbl, 0, r), delta_proj_weight)
    raw_B = kept(with_states, x_dbl, r, A, B_proj_bias) if B is None else B
    raw_C = kept(with_states, x_dbl, x_dbl.shape[1] - n, A, C_proj_bias) if C is None else C
    norms = ((raw_delta, dt_rms_weight), (raw_B, b_rms_weight), (raw_C, c_rms_weight))
    operands = (*(kept(normalized, *norm) for norm in norms), D, z, delta_bias, delta_softplus)
    delta, *rest = operands
    dy = grad if out_proj_weight is None else _through_rows(grad, out_proj_weight)
    du, ddelta, dA, dA_b, dB, dC, dD, dz, dbias = _scanned_backward(dy, u, delta, A, A_b, *rest)
    dout, dout_bias = None, None if out_proj_bias is None else _column_sums(_rows(grad))
    if out_proj_weight is not None:
        dout = _outer(_rows(grad), kept(_both, u, delta, A, A_b, *rest))
    (ddelta, ddt_norm), (dB, dB_norm), (dC, dC_norm) = (
        through_norm(gradient, *norm) for gradient, norm in zip((ddelta, dB, dC), norms, strict=True)
    )
    own = [dx.reshape(dx.shape[0], *dx.shape[2:]) for dx, given in ((dB, B), (dC, C)) if given is None]
    dB_bias, dC_bias = (
        None if bias is None or given is not None else _column_sums(dx.reshape(dx.shape[0], *dx.shape[2:]))
        for bias, given, dx in ((B_proj_bias, B, dB), (C_proj_bias, C, dC))
    )
    ddelta_proj = _outer(ddelta, features(x_dbl, 0, r))
    dx_dbl = _stacked([_transposed(ddelta, delta_proj_weight), *own])
    dx_proj = _outer(dx_dbl, u)
    columns = Array.make(x_proj_weight.shape[::-1], lambda c, f: x_proj_weight[f, c])
    du = Array.make(du.shape, lambda i, c, t: dot(
        columns[c], (dx_dbl[i, f, t] for f in range(dx_dbl.shape[1])), du[i, c, t]
    ))  # fmt: skip
    taps = conv1d_weight.reshape(conv1d_weight.shape[0], conv1d_weight.shape[2])
    convolution = reference("causal_conv1d_backward")
    dx, dconv, dconv_bias, _ = convolution(du, half(xz, 0), taps, conv1d_bias, activation="silu")
    return (
        _stacked([dx, dz]), dconv.reshape(*conv1d_weight.shape), dx_proj, ddelta_proj, dA, dconv_bias, dout, dout_bias,
        dA_b, None if B is None else dB, None if C is None else dC, dD, dbias, dB_bias, dC_bias, dB_norm, dC_norm,
        ddt_norm,
    )  # fmt: skip


def _both(*operands: Any) -> Array:
    """The output of the scan, or the sum of two."""
    there, back = scanned(*operands)
    return there if back is None else added(there, back)


def _scanned_backward(
    dy: Array, u: Array, delta: Array, A: Array, A_b: Maybe, B: Array, C: Array, D: Maybe, z: Array,
    delta_bias: Maybe, delta_softplus: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of u, delta, A, A_b, B, C, D, z and delta_bias, those of two directions added up."""
    scan = reference("selective_scan_backward")
    du, ddelta, dA, dB, dC, dD, dz, dbias, _ = scan(dy, u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    if A_b is None:
        return du, ddelta, dA, None, dB, dC, dD, dz, dbias
    back = scan(flip(dy), flip(u), flip(delta), A_b, *_turned(B, C), D, flip(z), delta_bias, delta_softplus)
    du, ddelta, dz = (added(x, flip(y)) for x, y in ((du, back[0]), (ddelta, back[1]), (dz, back[6])))
    dB, dC = (added(x, _turned(y)[0]) for x, y in ((dB, back[3]), (dC, back[4])))
    dD, dbias = (None if x is None else added(x, y) for x, y in ((dD, back[5]), (dbias, back[7])))
    return du, ddelta, dA, back[2], dB, dC, dD, dz, dbias


def _rows(grad: Array) -> Array:
    """b m l of b l m."""
    b, l, m = grad.shape
    return Array.make((b, m, l), lambda i, f, t: grad[i, t, f])


def _through_rows(grad: Array, weight: Array) -> Array:
    """b d l: the product of every step with ``weight``, m d, transposed."""
    return _transposed(_rows(grad), weight)


def _transposed(x: Array, weight: Array) -> Array:
    b, m, l = x.shape
    return Array.make((b, weight.shape[1], l), lambda i, c, t: dot(
        (weight[f, c] for f in range(m)), (x[i, f, t] for f in range(m))
    ))  # fmt: skip


def _outer(x: Array, y: Array) -> Array:
    """The sum over all steps of x y^T."""
    b, _, l = x.shape
    steps = [(i, t) for i in range(b) for t in range(l)]
    return Array.make((x.shape[1], y.shape[1]), lambda f, c: dot(
        (x[i, f, t] for i, t in steps), (y[i, c, t] for i, t in steps)
    ))  # fmt: skip


def _column_sums(x: Array) -> Array:
    b, m, l = x.shape
    return Array.make((m,), lambda f: total(x[i, f, t] for i in range(b) for t in range(l)))


def _stacked(parts: list[Array]) -> Array:
    """Features after features."""
    b, _, l = parts[0].shape
    data = [value for i in range(b) for part in parts for value in part[i].data]
    return Array((b, sum(part.shape[1] for part in parts), l), data)
