"""The norm that first adds a residual, and its gradients: norm(dropout(x * rowscale) + dropout(x1) + residual).

One normalized row may be weighted twice. Means, variances and sums over rows are counted as in `normalization`; drawing
random numbers is not counted. Source: mamba_ssm `ops.triton.layer_norm`.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, select
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule, seam
from flopscan.rules.gated_norm import again, backward_statistics, forward_statistics, like, normalized, to_input
from flopscan.rules.normalization import Values, add_up, rows_of, times

RESIDUAL = "flopscan::residual_norm"


def residual_norm(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    x1: Array | None = None,
    weight1: Array | None = None,
    bias1: Array | None = None,
    rowscale: Array | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    is_rms_norm: bool = False,
) -> tuple[Array | None, ...]:
    """The definition: the norm by each weight, and what was normalized. A draw of dropout is a plain number."""
    m = x.shape[-1]
    values = x.data if rowscale is None else [a * rowscale[i // m] for i, a in enumerate(x.data)]
    values = _kept(values, dropout_p)
    if x1 is not None:
        values = [a + b for a, b in zip(values, _kept(x1.data, dropout_p), strict=True)]
    if residual is not None:
        values = [a + b for a, b in zip(values, residual.data, strict=True)]
    rows = [normalized(row, eps, is_rms_norm) for row in rows_of(Array(x.shape, values), m)]

    def scaled(weight: Array, bias: Array | None) -> Array:
        results = [y for row in rows for y in times(row, weight.data)]
        return Array(x.shape, results if bias is None else [y + bias[i % m] for i, y in enumerate(results)])

    return scaled(weight, bias), None if weight1 is None else scaled(weight1, bias1), Array(x.shape, values)


def _kept(values: Values, dropout_p: float) -> Values:
    """What a dropout of almost nothing keeps: a draw compared with the rate and a scaling each."""
    return [select(abs(a) >= 0.0, a * 1.0, 0.0) for a in values] if dropout_p else values


_CONTRACT = "x: r m, weight: m, bias?: m, residual?: r m, x1?: r m, weight1?: m, bias1?: m, rowscale?: r"


@rule(RESIDUAL, contract=_CONTRACT, reference=residual_norm)
def residual_rms_norm(r: Any, m: Any, given: frozenset[str], dropout_p: float = 0.0, is_rms_norm: bool = False) -> Cost:
    """The norm, the weight n = r*m mul, the bias n add, and the same for a second weight.

    Before it: the scale of rows n mul, dropout a comparison and a mul for each element of x and x1, and each of x1 and
    the residual n add.
    """
    n = r * m
    cost = forward_statistics(n, r, is_rms_norm)
    cost += Cost(mul=n * (1 + ("weight1" in given) + ("rowscale" in given)))
    cost += Cost(add=n * sum(name in given for name in ("bias", "bias1", "x1", "residual")))
    return cost + Cost(cmp=1, mul=1) * (n * (1 + ("x1" in given))) if dropout_p else cost


def residual_norm_backward(
    grad: Array,
    x: Array,
    weight: Array,
    rstd: Array,
    bias: Array | None = None,
    mean: Array | None = None,
    dresidual: Array | None = None,
    dy1: Array | None = None,
    weight1: Array | None = None,
    bias1: Array | None = None,
    rowscale: Array | None = None,
    dropout_p: float = 0.0,
    has_residual: bool = False,
    has_x1: bool = False,
    recompute_output: bool = False,
) -> tuple[Array | None, ...]:
    """The gradients of x, weight, bias, the residual, x1, weight1 and bias1; if asked for, the output too."""
    m, dx, out = x.shape[-1], Values(), Values()
    seconds = None if dy1 is None else rows_of(dy1, m)
    hats = []
    for i, row in enumerate(rows_of(x, m)):
        xhat = again(row, None if mean is None else mean[i], rstd[i])
        g = times(grad.data[i * m : (i + 1) * m], weight.data)
        if seconds is not None and weight1 is not None:
            g = [a + b for a, b in zip(g, times(seconds[i], weight1.data), strict=True)]
        if recompute_output:
            y = times(xhat, weight.data)
            out += y if bias is None else [a + b for a, b in zip(y, bias.data, strict=True)]
        dx += to_input(g, xhat, rstd[i], mean is None)
        hats.append(xhat)
    dx = dx if dresidual is None else [a + b for a, b in zip(dx, dresidual.data, strict=True)]
    dx1 = Array(x.shape, _kept(dx, dropout_p)) if has_x1 else None
    to_x = _kept(dx, dropout_p)
    to_x = to_x if rowscale is None else [a * rowscale[i // m] for i, a in enumerate(to_x)]
    first = _to_parameters(rows_of(grad, m), hats, bias)
    second = (None, None) if seconds is None else _to_parameters(seconds, hats, bias1)
    return (
        Array(x.shape, to_x), *first, Array(x.shape, dx) if has_residual else None, dx1, *second,
        *([Array(x.shape, out)] if recompute_output else []),
    )  # fmt: skip


def _to_parameters(grads: list[Values], hats: list[Values], bias: Array | None) -> tuple[Array, Array | None]:
    """The gradients of a weight and of its bias."""
    products = [times(g, xhat) for g, xhat in zip(grads, hats, strict=True)]
    return add_up(products), None if bias is None else add_up(grads)


@rule(
    f"{RESIDUAL}_backward",
    contract=(
        "grad: r m, x: r m, weight: m, bias?: m, mean?: r, rstd?: r, dresidual?: r m, dy1?: r m, weight1?: m,"
        " bias1?: m, rowscale?: r"
    ),
    reference=residual_norm_backward,
)
def residual_rms_norm_backward(
    r: Any, m: Any, given: frozenset[str], dropout_p: float = 0.0, has_x1: bool = False, is_rms_norm: bool = False,
    recompute_output: bool = False,
) -> Cost:  # fmt: skip
    """The norm's gradients; a second weight 2n mul, n add and a sum over rows, its bias a sum over rows.

    The residual's gradient is n add, dropout a comparison and a mul for each element of x and x1, the scale of rows
    n mul, the output, if it is asked for, n mul (with a bias n add).
    """
    n, has_bias = r * m, "bias" in given
    cost = backward_statistics(n, m, r, is_rms_norm, has_bias)
    if "dy1" in given:
        cost += Cost(mul=2 * n, add=2 * n - m + ("bias1" in given) * (n - m))
    cost += Cost(add=n * ("dresidual" in given), mul=n * ("rowscale" in given))
    if dropout_p:
        cost += Cost(cmp=1, mul=1) * (n * (1 + has_x1))
    return cost + Cost(mul=n, add=n * has_bias) if recompute_output else cost


# The package's two functions that launch kernels, below autograd.

_OPERANDS = (
    "x", "weight", "bias", "residual", "x1", "weight1", "bias1", "rowscale", "mean", "rstd", "dresidual", "dy1",
    "dropout_p", "has_x1", "is_rms_norm", "recompute_output",
)  # fmt: skip


def _own(bound: Operands) -> Operands:
    """The operands of the definition."""
    own = {name: bound[name] for name in _OPERANDS if bound.get(name) is not None}
    return {"grad": bound["dy"], **own} if "dy" in bound else own


def _results(bound: Operands) -> Outputs:
    """Two outputs, mean, one over the standard deviation, what was normalized, the seeds and masks of dropout."""
    x, residual, x1, p = bound["x"], bound["residual"], bound["x1"], bound["dropout_p"]
    rows, width = x.shape
    y = like(x, bound["out_dtype"] or "")
    wanted = (residual.dtype if residual is not None else bound["residual_dtype"]) or x.dtype
    statistics, masks = TensorSpec((rows,)), bound["return_dropout_mask"] and p > 0
    mask = TensorSpec((rows, width), "bool") if masks else None
    return (
        y, None if bound["weight1"] is None else y, None if bound["is_rms_norm"] else statistics, statistics,
        like(x, wanted), TensorSpec((rows if x1 is None else 2 * rows,), "int64") if p > 0 else None,
        mask, None if x1 is None else mask,
    )  # fmt: skip


def _gradients(bound: Operands) -> Outputs:
    """The gradients of x, weight, bias, the residual, x1, weight1 and bias1; where asked for the output."""
    x, dx = bound["x"], like(bound["x"], bound["x_dtype"] or "")
    parameters = [None if bound[n] is None else like(bound[n]) for n in ("weight", "bias", "weight1", "bias1")]
    to_residual = like(x) if bound["has_residual"] else None
    found = (dx, *parameters[:2], to_residual, dx if bound["has_x1"] else None, *parameters[2:])
    return (*found, like(bound["dy"])) if bound["recompute_output"] else found


for _path, _op, _signature, _outputs in (
    (
        "_layer_norm_fwd", RESIDUAL, "x, weight, bias, eps, residual=None, x1=None, weight1=None, bias1=None,"
        " dropout_p=0.0, rowscale=None, out_dtype=None, residual_dtype=None, is_rms_norm=False,"
        " return_dropout_mask=False", _results,
    ),
    (
        "_layer_norm_bwd", f"{RESIDUAL}_backward", "dy, x, weight, bias, eps, mean, rstd, dresidual=None, dy1=None,"
        " weight1=None, bias1=None, seeds=None, dropout_p=0.0, rowscale=None, has_residual=False, has_x1=False,"
        " is_rms_norm=False, x_dtype=None, recompute_output=False", _gradients,
    ),
):  # fmt: skip
    seam(Seam(f"mamba_ssm.ops.triton.layer_norm:{_path}", _op, _signature, _outputs, operands=_own, version="2.3.2"))
