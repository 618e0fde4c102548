"""The norm gated by z of Mamba-2's block, and its gradients: norm(x) * silu(z), or norm(x * silu(z)), over groups.

Means, variances and sums over rows are counted as in `normalization`. The kernel does this arithmetic on groups padded
to a power of two, which is not counted. Source: mamba_ssm `ops.triton.layernorm_gated`.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, rsqrt, total
from flopscan.core.trace import TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule, seam
from flopscan.rules.normalization import Values, add_up, centred, rows_of, times
from flopscan.rules.ssd import gate_of, gated, through_gate

GATED = "flopscan::gated_rms_norm"
_SILU = Cost(exp=1, add=1, div=1)


def _groups(op: str, m: Any, group_size: Any) -> Any:
    """How many groups a row has. Raises ContractError where they do not divide it."""
    if group_size and m % group_size:
        raise ContractError(f"{op}: rows of {m} do not divide into groups of {group_size}")
    return m // group_size if group_size else 1


def normalized(row: Values, eps: float, is_rms_norm: bool) -> Values:
    """The row less its mean, over its standard deviation; or over its root mean square."""
    if is_rms_norm:
        rstd = rsqrt(total(times(row, row)) / len(row) + eps)
    else:
        row, _, rstd = centred(row, eps)
    return [x * rstd for x in row]


def forward_statistics(n: Any, rows: Any, is_rms_norm: bool) -> Cost:
    """Mean square (n mul, n - rows add, rows div), eps, rsqrt and scaling; with a mean that too, and centring."""
    cost = Cost(add=n, mul=2 * n, div=rows, sqrt=rows)
    return cost if is_rms_norm else cost + Cost(add=2 * n - rows, div=rows)


def gated_norm(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    z: Array | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    is_rms_norm: bool = True,
) -> Array:
    """The definition."""
    size = group_size or x.shape[-1]
    values = x.data
    if z is not None and not norm_before_gate:
        values = [gated(a, b) for a, b in zip(values, z.data, strict=True)]
    results: Values = []
    for i, row in enumerate(rows_of(Array(x.shape, values), size)):
        first = i * size % x.shape[-1]
        row = times(normalized(row, eps, is_rms_norm), weight.data[first : first + size])
        results += row if bias is None else [a + bias[first + j] for j, a in enumerate(row)]
    if z is not None and norm_before_gate:
        results = [gated(a, b) for a, b in zip(results, z.data, strict=True)]
    return Array(x.shape, results)


_CONTRACT = "x: *r m, weight: m, bias?: m, z?: *r m"


@rule(GATED, contract=_CONTRACT, reference=gated_norm)
def gated_rms_norm(
    r: Any, m: Any, given: frozenset[str], group_size: int | None = None, is_rms_norm: bool = True
) -> Cost:
    """The norm of groups, the weight n = r*m mul, the bias n add; the gate silu(z) (exp, add, div) and 1 mul each."""
    n = r * m
    cost = forward_statistics(n, r * _groups(GATED, m, group_size), is_rms_norm) + Cost(mul=n)
    if "bias" in given:
        cost += Cost(add=n)
    return cost + (_SILU + Cost(mul=1)) * n if "z" in given else cost


def to_input(g: Values, xhat: Values, rstd: Any, is_rms_norm: bool) -> Values:
    """``rstd * (g - mean(g) - xhat * mean(g * xhat))``, without the mean for RMS."""
    slope = total(times(g, xhat)) / len(g)
    if not is_rms_norm:
        average = total(g) / len(g)
        g = [a - average for a in g]
    return [rstd * (a - b * slope) for a, b in zip(g, xhat, strict=True)]


def again(row: Values, mean: Any, rstd: Any) -> Values:
    """The normalized row from its saved statistics."""
    row = row if mean is None else [x - mean for x in row]
    return [x * rstd for x in row]


def backward_statistics(n: Any, m: Any, rows: Any, is_rms_norm: bool, has_bias: bool) -> Cost:
    """The normalized rows again, the gradients of weight and bias as sums over rows of ``m``, and the input's."""
    cost = Cost(mul=6 * n, add=3 * n - m - rows, div=rows)
    if not is_rms_norm:
        cost += Cost(add=3 * n - rows, div=rows)
    return cost + Cost(add=n - m) if has_bias else cost


def gated_norm_backward(
    grad: Array,
    x: Array,
    weight: Array,
    rstd: Array,
    bias: Array | None = None,
    mean: Array | None = None,
    z: Array | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    recompute_output: bool = False,
) -> tuple[Array | None, ...]:
    """The gradients of x, weight, bias and z from saved statistics, group by group; if asked for, the output too."""
    m, size = x.shape[-1], group_size or x.shape[-1]
    gates = None if z is None else [gate_of(v) for v in z.data]
    values = (
        x.data if gates is None or norm_before_gate else [a * gate for a, (_, gate) in zip(x.data, gates, strict=True)]
    )
    dx, dz, products, sums, out = Values(), Values(), Values(), Values(), Values()
    for i, row in enumerate(rows_of(Array(x.shape, values), size)):
        at, first = slice(i * size, (i + 1) * size), i * size % m
        own = i // (m // size) + first // size * (len(x.data) // m)
        xhat = again(row, None if mean is None else mean[own], rstd[own])
        w, g = weight.data[first : first + size], grad.data[at]
        if recompute_output or (gates is not None and norm_before_gate):
            y = times(xhat, w)
            y = y if bias is None else [a + bias[first + j] for j, a in enumerate(y)]
            if gates is not None and norm_before_gate:
                g, slopes = _through(g, y, gates[at])
                dz += slopes
                y = [a * gate for a, (_, gate) in zip(y, gates[at], strict=True)] if recompute_output else y
            out += y
        products += times(g, xhat)
        sums += g
        to_x = to_input(times(g, w), xhat, rstd[own], mean is None)
        if gates is not None and not norm_before_gate:
            to_x, slopes = _through(to_x, x.data[at], gates[at])
            dz += slopes
        dx += to_x
    return (
        Array(x.shape, dx), add_up(rows_of(Array(x.shape, products), m)),
        None if bias is None else add_up(rows_of(Array(x.shape, sums), m)), None if z is None else Array(x.shape, dz),
        *([Array(x.shape, out)] if recompute_output else []),
    )  # fmt: skip


def _through(douts: Values, ys: Values, gates: Values) -> tuple[Values, Values]:
    """The gradients through a row of gates."""
    both = [through_gate(dout, y, *gate) for dout, y, gate in zip(douts, ys, gates, strict=True)]
    return [dy for dy, _ in both], [slope for _, slope in both]


@rule(
    f"{GATED}_backward", contract=f"grad: *r m, {_CONTRACT}, mean?: _, rstd?: _",
    reference=gated_norm_backward,
)  # fmt: skip
def gated_rms_norm_backward(
    r: Any, m: Any, given: frozenset[str], group_size: int | None = None, norm_before_gate: bool = True,
    is_rms_norm: bool = True, recompute_output: bool = False,
) -> Cost:  # fmt: skip
    """The norm's gradients; through the gate, with s and silu(z) again, per element exp, div, 3 add and 5 mul.

    Gated after the norm it takes the norm's output again (n mul, with a bias n add), gated before it the norm's input
    (n mul). The output, if it is asked for, is n mul more (without its gate, and with a bias n add).
    """
    n, has_bias = r * m, "bias" in given
    cost = backward_statistics(n, m, r * _groups(GATED, m, group_size), is_rms_norm, has_bias)
    if "z" in given:
        cost += Cost(exp=1, add=3, div=1, mul=6) * n
    after = "z" in given and norm_before_gate
    cost += Cost(add=n * has_bias) if after or recompute_output else Cost()
    return cost + Cost(mul=n) if recompute_output else cost


# The package's functions: the two that launch kernels, below autograd, and those with a gradient above them.

_OPERANDS = (
    "x", "weight", "bias", "z", "mean", "rstd", "group_size", "norm_before_gate", "is_rms_norm", "recompute_output",
)  # fmt: skip


def _own(bound: Operands) -> Operands:
    """The operands of the definition."""
    own = {name: bound[name] for name in _OPERANDS if bound.get(name) is not None}
    return {"grad": bound["dy"], **own} if "dy" in bound else own


def _root_mean_square(bound: Operands) -> Operands:
    """The same where the function says by its name that there is no mean."""
    return {**_own(bound), "is_rms_norm": True}


def _output(bound: Operands) -> Outputs:
    """The output."""
    return like(bound["x"])


def _results(bound: Operands) -> Outputs:
    """The output, and by group and row its mean and one over its standard deviation."""
    x, out = bound["x"], bound["out"]
    statistics = TensorSpec((x.shape[0] * _groups(GATED, x.shape[1], bound["group_size"]),))
    return like(x if out is None else out), None if bound["is_rms_norm"] else statistics, statistics


def _gradients(bound: Operands) -> Outputs:
    """The gradients of x, weight, bias and z; where asked for the output."""
    found = tuple(None if bound[name] is None else like(bound[name]) for name in ("x", "weight", "bias", "z"))
    return (*found, like(bound["x"])) if bound["recompute_output"] else found


def like(x: TensorSpec, dtype: str = "") -> TensorSpec:
    """A fresh tensor of the shape of ``x``."""
    return TensorSpec(x.shape, dtype or x.dtype)


_MODULE = "mamba_ssm.ops.triton.layernorm_gated"
_GROUPS = "group_size=None, norm_before_gate=True"
for _path, _op, _signature, _outputs in (
    ("_layer_norm_fwd", GATED, f"x, weight, bias, eps, z=None, out=None, {_GROUPS}, is_rms_norm=False", _results),
    (
        "_layer_norm_bwd", f"{GATED}_backward", f"dy, x, weight, bias, eps, mean, rstd, z=None, {_GROUPS},"
        " is_rms_norm=False, recompute_output=False, dz=None, out=None", _gradients,
    ),
):  # fmt: skip
    seam(Seam(f"{_MODULE}:{_path}", _op, _signature, _outputs, operands=_own, version="2.3.2"))
for _path, _signature, _root in (
    ("layernorm_fn", f"x, weight, bias, z=None, eps=1e-6, {_GROUPS}, is_rms_norm=False", False),
    ("rmsnorm_fn", f"x, weight, bias, z=None, eps=1e-6, {_GROUPS}", True),
):
    seam(
        Seam(
            f"{_MODULE}:{_path}",
            GATED,
            _signature,
            _output,
            backward=f"{GATED}_backward",
            operands=_root_mean_square if _root else _own,
            version="2.3.2",
        )
    )
