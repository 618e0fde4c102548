"""Layer, root-mean-square and group normalization and their gradients: n numbers in r rows, each normalized alone.

Mean and variance are counted as defined, from centred values: E[x*x] - E[x]**2 takes fewer operations but is another
number in floating point. A square that is summed is a multiplication and an addition, not a multiply-add, and so is
every other product here: normalization is no contraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import moved
from flopscan.core.tally import Array, rsqrt, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule

Values = list[Any]
# Which gradients an example asks for: those of input, weight and bias.
MASKS = ([True] * 3, [True, False, False], [True, True, False], [False, True, True], [False, False, True])


def options(call: Call) -> dict[str, bool]:
    """Whether weight and bias are there, and which gradients are wanted."""
    given = {f"has_{name}": call.get(name) is not None for name in ("weight", "bias")}
    mask = call.get("output_mask", (True, True, True))
    return {**given, **dict(zip(("to_input", "to_weight", "to_bias"), mask, strict=False))}


def without(*unread: str) -> Callable[[Call], tuple[int, int]]:
    """The bytes moved where the operands ``unread`` are there but not needed."""

    def moves(call: Call) -> tuple[int, int]:
        read, written = moved(call)
        return read - sum(spec.nbytes for name in unread if isinstance(spec := call.get(name), TensorSpec)), written

    return moves


def rows_of(values: Array, size: int) -> list[Values]:
    """The numbers in rows of ``size``."""
    return [values.data[i : i + size] for i in range(0, len(values.data), size)]


def add_up(rows: list[Values]) -> Array:
    """The sum of the rows, column by column."""
    return Array((len(rows[0]),), map(total, zip(*rows, strict=True)))


def times(values: Values, others: Values) -> Values:
    """The products, one by one."""
    return [x * y for x, y in zip(values, others, strict=True)]


def centred(values: Values, eps: float) -> tuple[Values, Any, Any]:
    """The values less their mean, the mean, and one over their standard deviation."""
    mean = total(values) / len(values)
    less = [x - mean for x in values]
    return less, mean, rsqrt(total(times(less, less)) / len(values) + eps)


def _sizes(call: Call) -> dict[str, Any]:
    n, k = call["input"].numel, math.prod(call["normalized_shape"])
    return {"n": n, "k": k, "r": n // k if k else 0, **options(call)}


def _operands(m: int, n: int, *extra: str, parameters: Any = ()) -> dict[str, Any]:
    specs = {name: TensorSpec((m, n, 2), "float64") for name in (*extra, "input")}
    return {**specs, "normalized_shape": [n, 2], **{name: TensorSpec((n, 2), "float64") for name in parameters}}


def _affine(values: Values, weight: Array | None, bias: Array | None) -> Values:
    values = values if weight is None else times(values, weight.data)
    return values if bias is None else [x + b for x, b in zip(values, bias.data, strict=True)]


def _layer_norm(
    input: Array, normalized_shape: Any, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    results: Values = []
    statistics = []
    for row in rows_of(input, math.prod(normalized_shape)):
        less, mean, rstd = centred(row, eps)
        results += _affine([x * rstd for x in less], weight, bias)
        statistics.append((mean, rstd))
    means, scales = zip(*statistics, strict=True)
    return Array(input.shape, results), Array((len(means),), means), Array((len(scales),), scales)


@rule(
    "aten::native_layer_norm",
    sizes=_sizes,
    reference=_layer_norm,
    example=lambda m, n, parameters=((), ("weight",), ("bias",), ("weight", "bias")): {
        "weight": None, "bias": None, **_operands(m, n, parameters=parameters), "eps": 1e-5,
    },
)  # fmt: skip
def layer_norm(n: Any, r: Any, has_weight: Any, has_bias: Any) -> Cost:
    """Mean (n - r add, r div), centring (n add), variance (n mul, n - r add, r div), eps, rsqrt, scaling (n mul).

    The weight is n multiplications, the bias n additions.
    """
    return Cost(add=3 * n - r + n * has_bias, mul=2 * n + n * has_weight, div=2 * r, sqrt=r)


def _gradients(
    grad_out: Array, rows: list[Values], scales: Values, weight: Array | None, mask: Any, *, mean: bool
) -> tuple[Array | None, Array | None]:
    """The gradients for input and weight from the rows (centred or not) and their scales."""
    results: Values = []
    products = []
    for gradient, row, rstd in zip(rows_of(grad_out, len(rows[0])), rows, scales, strict=True):
        if mask[1]:
            row = [x * rstd for x in row]
            products.append(times(gradient, row))
        if mask[0]:
            g = gradient if weight is None else times(gradient, weight.data)
            slope = total(times(g, row)) / len(g)
            slope = slope if mask[1] else slope * rstd * rstd
            if mean:
                average = total(g) / len(g)
                g = [x - average for x in g]
            results += [rstd * (a - x * slope) for a, x in zip(g, row, strict=True)]
    return Array(grad_out.shape, results) if mask[0] else None, add_up(products) if mask[1] else None


def _layer_norm_backward(
    grad_out: Array,
    input: Array,
    normalized_shape: Any,
    mean: Array,
    rstd: Array,
    weight: Array | None,
    output_mask: Any,
) -> tuple[Array | None, ...]:
    size = math.prod(normalized_shape)
    rows = rows_of(input, size)
    if output_mask[0] or output_mask[1]:
        rows = [[x - m for x in row] for row, m in zip(rows, mean.data, strict=True)]
    to_bias = add_up(rows_of(grad_out, size)) if output_mask[2] else None
    return *_gradients(grad_out, rows, rstd.data, weight, output_mask, mean=True), to_bias


def _layer_norm_gradients(
    m: int, n: int, weight: Any = (True, False),
    output_mask: Any = MASKS,
) -> dict[str, Any]:  # fmt: skip
    operands = _operands(m, n, "grad_out", parameters=("weight", "bias") if weight else ())
    mask = output_mask if weight else [True, False, False]
    statistics = {name: TensorSpec((m, 1, 1), "float64") for name in ("mean", "rstd")}
    return {"weight": None, "bias": None, **operands, **statistics, "output_mask": mask}


@rule(
    "aten::native_layer_norm_backward",
    sizes=_sizes,
    moves=without("bias"),
    reference=_layer_norm_backward,
    example=_layer_norm_gradients,
)
def layer_norm_backward(n: Any, k: Any, r: Any, has_weight: Any, to_input: Any, to_weight: Any, to_bias: Any) -> Cost:
    """``rstd * (g - mean(g) - z * mean(g * z))`` with g the gradient times the weight, z the normalized input.

    For the weight the sum of gradient times z over the rows, for the bias that of the gradient. Where no weight
    gradient asks for z, the centred input takes its place and the mean is scaled instead (2r mul).
    """
    cost = Cost(add=n) if to_input or to_weight else Cost()
    if to_weight:
        cost += Cost(mul=2 * n, add=n - k)
    if to_bias:
        cost += Cost(add=n - k)
    if to_input:
        cost += Cost(mul=3 * n + n * has_weight + 2 * r * (not to_weight), add=4 * n - 2 * r, div=2 * r)
    return cost


def _rms_norm(
    input: Array, normalized_shape: Any, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array]:
    results: Values = []
    scales = []
    for row in rows_of(input, math.prod(normalized_shape)):
        scales.append(rsqrt(total(times(row, row)) / len(row) + eps))
        results += _affine([x * scales[-1] for x in row], weight, None)
    return Array(input.shape, results), Array((len(scales),), scales)


@rule(
    "aten::_fused_rms_norm",
    sizes=_sizes,
    reference=_rms_norm,
)
def rms_norm(n: Any, r: Any, has_weight: Any) -> Cost:
    """Mean square (n mul, n - r add, r div), eps (r add), rsqrt, scaling (n mul); the weight is n multiplications."""
    return Cost(add=n, mul=2 * n + n * has_weight, div=r, sqrt=r)


def _rms_norm_backward(
    grad_out: Array, input: Array, normalized_shape: Any, rstd: Array, output_mask: Any, weight: Array | None = None
) -> tuple[Array | None, Array | None]:
    rows = rows_of(input, math.prod(normalized_shape))
    return _gradients(grad_out, rows, rstd.data, weight, output_mask, mean=False)


@rule(
    "aten::_fused_rms_norm_backward",
    sizes=_sizes,
    reference=_rms_norm_backward,
)
def rms_norm_backward(n: Any, k: Any, r: Any, has_weight: Any, to_input: Any, to_weight: Any) -> Cost:
    """``rstd * (g - z * mean(g * z))``; for the weight the sum of gradient times z. As layer_norm, without a mean."""
    cost = Cost(mul=2 * n, add=n - k) if to_weight else Cost()
    if to_input:
        cost += Cost(mul=3 * n + n * has_weight + 2 * r * (not to_weight), add=2 * n - r, div=r)
    return cost


def _group_sizes(call: Call) -> dict[str, Any]:
    n, channels = call["input"].numel, call["N"] * call["C"]
    return {"n": n, "r": call["N"] * call["group"], "channels": channels, **options(call)}


def _group_operands(m: int, n: int, g: int, *extra: str, parameters: Any) -> dict[str, Any]:
    channels = 2 * g
    specs = {name: TensorSpec((m, channels, n), "float64") for name in (*extra, "input")}
    given = {name: TensorSpec((channels,), "float64") if name in parameters else None for name in ("weight", "bias")}
    return {**specs, **given, "N": m, "C": channels, "HxW": n, "group": g}


def _group_norm(
    input: Array, weight: Array | None, bias: Array | None, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Array, Array, Array]:
    results: Values = []
    statistics = []
    for i, row in enumerate(rows_of(input, C // group * HxW)):
        less, mean, rstd = centred(row, eps)
        first = i % group * (C // group)
        for c, values in enumerate(rows_of(Array((len(less),), less), HxW), first):
            scale = rstd if weight is None else rstd * weight[c]
            values = [x * scale for x in values]
            results += values if bias is None else [x + bias[c] for x in values]
        statistics.append((mean, rstd))
    means, scales = zip(*statistics, strict=True)
    return Array(input.shape, results), Array((N, group), means), Array((N, group), scales)


@rule(
    "aten::native_group_norm",
    sizes=_group_sizes,
    reference=_group_norm,
    example=lambda m, n, g, parameters=((), ("weight",), ("weight", "bias")): {
        **_group_operands(m, n, g, parameters=parameters), "eps": 1e-5,
    },
)  # fmt: skip
def group_norm(n: Any, r: Any, channels: Any, has_weight: Any, has_bias: Any) -> Cost:
    """As layer_norm over r groups, the weight folded into the scale once a sample and channel (``channels`` mul)."""
    return Cost(add=3 * n - r + n * has_bias, mul=2 * n + channels * has_weight, div=2 * r, sqrt=r)


def _group_norm_backward(
    grad_out: Array, input: Array, mean: Array, rstd: Array, weight: Array | None,
    N: int, C: int, HxW: int, group: int, output_mask: Any,
) -> tuple[Array | None, ...]:  # fmt: skip
    to_input, to_weight, to_bias = output_mask
    per = C // group
    gradients, rows, scales = rows_of(grad_out, HxW), rows_of(input, HxW), rstd.data
    products = sums = []
    if to_input or to_weight:
        rows = [[x - mean.data[i // per] for x in row] for i, row in enumerate(rows)]
        products = [total(times(g, x)) for g, x in zip(gradients, rows, strict=True)]
    if to_input or to_bias:
        sums = [total(g) for g in gradients]
    scaled = [x * scales[i // per] for i, x in enumerate(products)] if to_weight else []
    return (
        _group_input_gradient(gradients, rows, products, sums, scales, weight, per) if to_input else None,
        add_up(rows_of(Array((N, C), scaled), C)) if to_weight else None,
        add_up(rows_of(Array((N, C), sums), C)) if to_bias else None,
    )


def _group_input_gradient(
    gradients: list[Values], rows: list[Values], products: Values, sums: Values, scales: Values,
    weight: Array | None, per: int,
) -> Array:  # fmt: skip
    own: Values = [1.0] * len(rows)
    if weight is not None:
        own = weight.data * (len(rows) // len(weight.data))
        products, sums = times(products, own), times(sums, own)
    results: Values = []
    for i, rstd in enumerate(scales):
        channels = slice(i * per, (i + 1) * per)
        size = per * len(rows[0])
        slope = total(products[channels]) / size * rstd * rstd * rstd
        shift = total(sums[channels]) / size * rstd
        for g, row, w in zip(gradients[channels], rows[channels], own[channels], strict=True):
            scale = rstd if weight is None else rstd * w
            results += [a * scale - x * slope - shift for a, x in zip(g, row, strict=True)]
    return Array((len(results),), results)


def _group_norm_gradients(
    m: int, n: int, g: int, weight: Any = (True, False), output_mask: Any = MASKS
) -> dict[str, Any]:
    operands = _group_operands(m, n, g, "grad_out", parameters=("weight",) if weight else ())
    del operands["bias"]
    statistics = {name: TensorSpec((m, g), "float64") for name in ("mean", "rstd")}
    return {**operands, **statistics, "output_mask": output_mask if weight else [True, False, False]}


@rule(
    "aten::native_group_norm_backward",
    sizes=_group_sizes,
    reference=_group_norm_backward,
    example=_group_norm_gradients,
)
def group_norm_backward(
    n: Any, r: Any, channels: Any, C: Any, has_weight: Any, to_input: Any, to_weight: Any, to_bias: Any
) -> Cost:
    """``g * scale - x * slope - shift``: x centred, the scale rstd * weight, slope and shift from sums over the group.

    A sum over each sample and channel of g * x (for input and weight) and of g (for input and bias) is shared by all.
    """
    cost = Cost()
    if to_input or to_weight:
        cost += Cost(add=2 * n - channels, mul=n)
    if to_input or to_bias:
        cost += Cost(add=n - channels)
    if to_weight:
        cost += Cost(add=channels - C, mul=channels)
    if to_bias:
        cost += Cost(add=channels - C)
    if to_input:
        cost += Cost(add=2 * (channels - r) + 2 * n, mul=3 * channels * has_weight + 4 * r + 2 * n, div=2 * r)
    return cost
