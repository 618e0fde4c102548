"""Norms of vectors, and what is scaled by them: n numbers in r vectors."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Num, Tally, maximum, minimum, select, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.elementwise import raised
from flopscan.rules.reduction import groups, sizes

_ORDERS = (2, 1, 0, 3, 4, 0.5, 2.5, math.inf, -math.inf, -1)


def _power_sum(values: list[Any], order: Any) -> Any:
    sizes = [abs(x) for x in values]
    if order == 0:
        ones = [Num(float(x.value != 0), x.tally) for x in sizes]
        sizes[0].tally["cmp"] += len(ones)
        return total(ones)
    return total([raised(x, order) for x in sizes])


def norm_of(values: list[Any], order: Any) -> Any:
    """The norm of ``values``: (sum |x|**order)**(1/order), the largest or smallest |x|, how many are not 0."""
    if math.isinf(order):
        return functools.reduce(maximum if order > 0 else minimum, [abs(x) for x in values])
    power_sum = _power_sum(values, order)
    return power_sum if order == 0 else raised(power_sum, 1.0 / order)


@functools.lru_cache(maxsize=256)
def _power(order: float) -> Cost:
    """One number raised to ``order``."""
    tally: Tally[str] = Tally()
    raised(Num(0.6, tally), order)
    return Cost(**tally)


def _power_sums(n: Any, r: Any, order: Any) -> Cost:
    return Cost(add=n - r) + (Cost(cmp=n) if order == 0 else n * _power(order))


def norms(n: Any, r: Any, order: Any) -> Cost:
    """r norms of n numbers: powers and their sums (n - r add), and a root each; of infinite order n - r comparisons."""
    if math.isinf(order):
        return Cost(cmp=n - r)
    return _power_sums(n, r, order) + (Cost() if order == 0 else r * _power(1.0 / order))


def _norms(self: Array, order: Any, dim: Any) -> Array:
    results = [norm_of(values, order) for values in groups(self, dim)]
    return Array((len(results),), results)


def _order(call: Call, name: str) -> dict[str, Any]:
    order = call.get(name)
    return {**sizes(call), "order": 2 if order is None else float(order)}


@rule(
    "aten::linalg_vector_norm",
    sizes=lambda call: _order(call, "ord"),
    reference=lambda self, ord=2, dim=None: _norms(self, ord, dim),
    example=lambda m, n, ord=_ORDERS, dim=(None, [0], [1], [0, 1]): {
        "self": TensorSpec((m, n), "float64"), "ord": ord, "dim": dim,
    },
)  # fmt: skip
@rule(
    "aten::norm",
    sizes=lambda call: _order(call, "p"),
    reference=lambda self, p=2, dim=None: _norms(self, p, dim),
    example=lambda m, n, p=_ORDERS: {"self": TensorSpec((m, n), "float64"), "p": p},
)  # fmt: skip
def vector_norm(n: Any, r: Any, order: Any) -> Cost:
    """`norms`: of order 2 n multiplications, n - r additions, r square roots; of order 1 additions alone."""
    return norms(n, r, order)


@rule(
    "aten::linalg__powsum",
    sizes=lambda call: _order(call, "ord"),
    source="the sum under the root of linalg_vector_norm; not in every torch, so not run as a proof",
)
def power_sum(n: Any, r: Any, order: Any) -> Cost:
    """n powers and n - r additions."""
    return _power_sums(n, r, order)


def _broadcast(call: Call) -> dict[str, Any]:
    shapes = (reversed(call[name].shape) for name in ("self", "other"))
    n = math.prod(b if a == 1 else a for a, b in itertools.zip_longest(*shapes, fillvalue=1))
    return {"n": n, "r": 1 if n else 0, "order": float(call.get("p", 2))}


def _distance(self: Array, other: Array, p: Any = 2) -> Array:
    return Array((), [norm_of([x - y for x, y in zip(self.data, other.data, strict=True)], p)])


@rule(
    "aten::dist",
    sizes=_broadcast,
    reference=_distance,
    example=lambda m, n, p=_ORDERS: {**{k: TensorSpec((m, n), "float64") for k in ("self", "other")}, "p": p},
)
def dist(n: Any, r: Any, order: Any) -> Cost:
    """n subtractions and the norm of the differences."""
    return Cost(add=n) + norms(n, r, order)


def _renorm(self: Array, p: Any, dim: int, maxnorm: Any) -> Array:
    others = [axis for axis in range(len(self.shape)) if axis != dim % len(self.shape)]
    scales = []
    for values in groups(self, others):
        norm = norm_of(values, p)
        scales.append(select(norm > maxnorm, maxnorm / (norm + 1e-7), 1.0))
    return Array.make(self.shape, lambda *i: self[i] * scales[i[dim]])


@rule(
    "aten::renorm",
    sizes=lambda call: {"n": call["self"].numel, "r": call["self"].shape[call["dim"]], "p": float(call["p"])},
    reference=_renorm,
    example=lambda m, n, p=(1, 2, 3), dim=(0, 1, -1), maxnorm=(0.5, 9.0): {
        "self": TensorSpec((m, n, 2), "float64"), "p": p, "dim": dim, "maxnorm": maxnorm,
    },
)  # fmt: skip
def renorm(n: Any, r: Any, p: Any) -> Cost:
    """A norm along ``dim``, compared with the largest allowed; the ratio (an addition, a division), n products."""
    return norms(n, r, p) + Cost(mul=n, add=r, div=r, cmp=r)


def _slices(v: Array, dim: int) -> list[list[Any]]:
    return groups(v, [axis for axis in range(len(v.shape)) if axis != dim])


def _spread_back(shape: tuple[int, ...], dim: int, slices: list[list[Any]]) -> Array:
    values = [iter(part) for part in slices]
    return Array.make(shape, lambda *i: next(values[i[dim]]))


def _weight_norm(v: Array, g: Array, dim: int) -> tuple[Array, Array]:
    slices = _slices(v, dim)
    lengths = [norm_of(part, 2) for part in slices]
    scales = [magnitude / length for magnitude, length in zip(g.data, lengths, strict=True)]
    scaled = [[x * scale for x in part] for part, scale in zip(slices, scales, strict=True)]
    return _spread_back(v.shape, dim, scaled), Array(g.shape, lengths)


def _weight_norm_operands(m: int, n: int, dim: int, *extra: str) -> dict[str, Any]:
    whole, slim = TensorSpec((m, 3, n), "float64"), TensorSpec((m, 1, 1) if dim == 0 else (1, 1, n), "float64")
    names = ("saved_v", "saved_g", "saved_norms") if extra else ("v", "g")
    return {**dict.fromkeys((*extra, names[0]), whole), **dict.fromkeys(names[1:], slim), "dim": dim}


def _vectors(call: Call) -> dict[str, Any]:
    tensors = list(call.tensors())
    return {"n": tensors[0].numel, "r": tensors[-1].numel}


@rule(
    "aten::_weight_norm_interface",
    sizes=_vectors,
    reference=_weight_norm,
    example=lambda m, n, dim=(0, 2): _weight_norm_operands(m, n, dim),
)
def weight_norm(n: Any, r: Any) -> Cost:
    """``v * (g / |v|)``: r norms of order 2 and r divisions, n multiplications."""
    return norms(n, r, 2) + Cost(mul=n, div=r)


def _weight_norm_backward(grad_w: Array, saved_v: Array, saved_g: Array, saved_norms: Array, dim: int) -> Any:
    to_v, to_g = [], []
    parts = zip(_slices(grad_w, dim), _slices(saved_v, dim), saved_g.data, saved_norms.data, strict=True)
    for gradient, v, magnitude, length in parts:
        along = total([a * x for a, x in zip(gradient, v, strict=True)]) / length
        scale = magnitude / length
        slope = scale * (along / length)
        to_v.append([a * scale - x * slope for a, x in zip(gradient, v, strict=True)])
        to_g.append(along)
    return _spread_back(saved_v.shape, dim, to_v), Array(saved_g.shape, to_g)


@rule(
    "aten::_weight_norm_interface_backward",
    sizes=_vectors,
    reference=_weight_norm_backward,
    example=lambda m, n, dim=(0, 2): _weight_norm_operands(m, n, dim, "grad_w"),
)
def weight_norm_backward(n: Any, r: Any) -> Cost:
    """For g ``s = sum(gradient * v) / |v|``; for v ``(g / |v|) * gradient - v * slope``, three divisions a vector."""
    return Cost(add=2 * n - r, mul=3 * n + r, div=3 * r)
