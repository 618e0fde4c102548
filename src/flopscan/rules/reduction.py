"""Reductions and scans: n numbers to r results. A sum of k numbers is k - 1 additions, so all sums together are n - r.

Which axes are reduced does not matter for the count: the shapes of operand and result say it all.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, exp, log1p, maximum, minimum, select, sqrt, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule


def sizes(call: Call) -> dict[str, Any]:
    """The numbers that go in and the results that come out."""
    n = call["self"].numel
    return {"n": n, "r": call.out.numel if n else 0}


def lines_along(call: Call) -> dict[str, Any]:
    """The numbers, and the lines along ``dim`` that they stand in."""
    spec = next(call.tensors())
    length = spec.shape[call["dim"]] if spec.shape else 1
    return {"n": spec.numel, "r": spec.numel // length if length else 0}


def groups(self: Array, dim: Any = None) -> list[list[Any]]:
    """The numbers that each result is made of, results in row-major order. No ``dim`` means all axes."""
    rank = len(self.shape)
    dims = range(rank) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    reduced = {d % rank for d in dims} if rank else set()
    found: dict[tuple[int, ...], list[Any]] = {}
    for index, value in zip(itertools.product(*map(range, self.shape)), self.data, strict=True):
        found.setdefault(tuple(i for axis, i in enumerate(index) if axis not in reduced), []).append(value)
    return list(found.values())


def reduce_by(compute: Callable[[list[Any]], Any]) -> Callable[..., Array]:
    """The reference that makes each result from its numbers by ``compute``."""

    def reference(self: Array, dim: Any = None) -> Array:
        results = [compute(values) for values in groups(self, dim)]
        return Array((len(results),), results)

    return reference


def along(dim: int, compute: Callable[..., Sequence[Any]], *arrays: Array) -> Array:
    """The array whose lines along ``dim`` are ``compute`` of those of ``arrays``."""
    shape = arrays[0].shape
    if not shape:
        return Array((), compute(*(a.data for a in arrays)))
    result = Array(shape, arrays[0].data)
    axis = dim % len(shape)
    for rest in itertools.product(*(range(s) if i != axis else (0,) for i, s in enumerate(shape))):
        line = [rest[:axis] + (i,) + rest[axis + 1 :] for i in range(shape[axis])]  # noqa: RUF005
        for index, value in zip(line, compute(*([a[i] for i in line] for a in arrays)), strict=True):
            result[index] = value
    return result


def scan_by(step: Callable[[Any, Any], Any]) -> Callable[[Array, int], Array]:
    """The reference of a running reduction."""
    return lambda self, dim: along(dim, lambda line: list(itertools.accumulate(line, step)), self)


def twice(cost: Cost) -> Cost:
    """Each part of a complex number alone."""
    return cost * 2


def folded(step: Callable[[Any, Any], Any]) -> Callable[[list[Any]], Any]:
    """The reduction of a list by ``step``."""
    return lambda values: functools.reduce(step, values)


_DIMS: Any = (None, 0, 1, -1, [0], [0, 1], [1, 2], [0, -1], [])
_ONE = (None, 0, 1, 2, -1)
_LINE = (0, 1, -1)


def _example(dims: Any) -> Any:
    def example(m: int, n: int, k: Any = (1, 2, 3), dim: Any = dims) -> dict[str, Any]:
        spec = TensorSpec((m, n, k), "float64")
        return {"self": spec} if dim is None else {"self": spec, "dim": dim}

    return example


@rule(
    "aten::sum",
    sizes=sizes, reference=reduce_by(total), example=_example(_DIMS), complex=twice,
)  # fmt: skip
def sum_(n: Any, r: Any) -> Cost:
    """n - r additions."""
    return Cost(add=n - r)


@rule(
    "aten::mean", sizes=sizes, reference=reduce_by(lambda x: total(x) / len(x)), example=_example(_DIMS), complex=twice
)
def mean(n: Any, r: Any) -> Cost:
    """n - r additions and a division a result."""
    return Cost(add=n - r, div=r)


@rule(
    "aten::nansum",
    sizes=sizes,
    reference=reduce_by(lambda values: total([select(x != x, 0.0, x) for x in values])),
    example=_example(_DIMS),
)
def nansum(n: Any, r: Any) -> Cost:
    """n comparisons (each number with itself) and n - r additions."""
    return Cost(add=n - r, cmp=n)


@rule("aten::prod", sizes=sizes, reference=reduce_by(folded(lambda x, y: x * y)), example=_example(_ONE))
def prod(n: Any, r: Any) -> Cost:
    """n - r multiplications."""
    return Cost(mul=n - r)


def _moments(values: list[Any], correction: Any) -> tuple[Any, Any]:
    average = total(values) / len(values)
    centred = [x - average for x in values]
    return total([x * x for x in centred]) / (len(values) - correction), average


def _spread(finish: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def reference(self: Array, dim: Any = None, correction: Any = 1) -> Any:
        results = [finish(*_moments(values, correction)) for values in groups(self, dim)]
        if not isinstance(results[0], tuple):
            return Array((len(results),), results)
        return tuple(Array((len(results),), column) for column in zip(*results, strict=True))

    return reference


def _example_var(
    m: int, n: int, dim: Any = (None, 0, 1, [0, 1], [1, 2]), correction: Any = (None, 0, 1, 0.5)
) -> dict[str, Any]:
    options = {
        "dim": [dim] if isinstance(dim, int) else dim,
        **({} if correction is None else {"correction": correction}),
    }
    return {"self": TensorSpec((m + 1, n + 1, 2), "float64"), **options}


@rule("aten::var", sizes=sizes, reference=_spread(lambda variance, _: variance), example=_example_var)
@rule("aten::var_mean", sizes=sizes, reference=_spread(lambda variance, mean: (variance, mean)), example=_example_var)
def var(n: Any, r: Any) -> Cost:
    """Mean, centred values and their squares: n - r additions, n, n multiplications, n - r additions, two divisions."""
    return Cost(add=3 * n - 2 * r, mul=n, div=2 * r)


@rule("aten::std", sizes=sizes, reference=_spread(lambda variance, _: sqrt(variance)), example=_example_var)
@rule(
    "aten::std_mean",
    sizes=sizes,
    reference=_spread(lambda variance, mean: (sqrt(variance), mean)),
    example=_example_var,
)
def std(n: Any, r: Any) -> Cost:
    """A variance and its square root."""
    return var(n, r) + Cost(sqrt=r)


@rule("aten::amax", sizes=sizes, reference=reduce_by(folded(maximum)), example=_example(_DIMS))
@rule("aten::amin", sizes=sizes, reference=reduce_by(folded(minimum)), example=_example(_DIMS))
def amax(n: Any, r: Any) -> Cost:
    """n - r comparisons."""
    return Cost(cmp=n - r)


def _best(better: Callable[[Any, Any], Any]) -> Callable[[list[Any]], tuple[Any, int]]:
    def compute(values: list[Any]) -> tuple[Any, int]:
        at = 0
        for i, value in enumerate(values[1:], 1):
            if better(value, values[at]):
                at = i
        return values[at], at

    return compute


def _extreme(better: Callable[[Any, Any], Any], which: int | None = None) -> Callable[..., Any]:
    def reference(self: Array, dim: Any = None) -> Any:
        found = [_best(better)(values) for values in groups(self, dim)]
        both = tuple(Array((len(found),), column) for column in zip(*found, strict=True))
        return both if which is None and dim is not None else both[which or 0]

    return reference


def _greater(x: Any, y: Any) -> Any:
    return x > y


def _less(x: Any, y: Any) -> Any:
    return x < y


@rule("aten::max", sizes=sizes, reference=_extreme(_greater), example=_example(_ONE))
@rule("aten::min", sizes=sizes, reference=_extreme(_less), example=_example(_ONE))
@rule("aten::argmax", sizes=sizes, reference=_extreme(_greater, 1), example=_example(_ONE))
@rule("aten::argmin", sizes=sizes, reference=_extreme(_less, 1), example=_example(_ONE))
def extreme(n: Any, r: Any) -> Cost:
    """n - r comparisons, each of which selects value and index."""
    return Cost(cmp=n - r)


def _both(self: Array, dim: Any = None) -> tuple[Array, Array]:
    return reduce_by(folded(minimum))(self, dim), reduce_by(folded(maximum))(self, dim)


@rule("aten::aminmax", sizes=sizes, reference=_both, example=_example(_ONE))
def aminmax(n: Any, r: Any) -> Cost:
    """n - r comparisons for each of the two."""
    return Cost(cmp=2 * (n - r))


def _truths(combine: Callable[[list[bool]], Any]) -> Callable[..., Array]:
    return reduce_by(lambda values: combine([bool(x != 0) for x in values]))


@rule("aten::any", sizes=sizes, reference=_truths(any), example=_example(_ONE))
@rule("aten::all", sizes=sizes, reference=_truths(all), example=_example(_ONE))
@rule("aten::count_nonzero", sizes=sizes, reference=_truths(sum), example=_example(_ONE))
@rule("aten::_is_all_true", "aten::_is_any_true", sizes=sizes)
def tested(n: Any) -> Cost:
    """n comparisons with zero; what is done with truth values is integer work."""
    return Cost(cmp=n)


@rule("aten::cumsum", sizes=lines_along, reference=scan_by(lambda x, y: x + y), example=_example(_LINE), complex=twice)
def cumsum(n: Any, r: Any) -> Cost:
    """An addition for all but the first number of a line."""
    return Cost(add=n - r)


@rule("aten::cumprod", sizes=lines_along, reference=scan_by(lambda x, y: x * y), example=_example(_LINE))
def cumprod(n: Any, r: Any) -> Cost:
    """A multiplication for all but the first number of a line."""
    return Cost(mul=n - r)


@rule(
    "aten::cummax",
    sizes=lines_along,
    reference=lambda self, dim: (scan_by(maximum)(self, dim),),
    example=_example(_LINE),
)
@rule(
    "aten::cummin",
    sizes=lines_along,
    reference=lambda self, dim: (scan_by(minimum)(self, dim),),
    example=_example(_LINE),
)
def cummax(n: Any, r: Any) -> Cost:
    """A comparison for all but the first number of a line."""
    return Cost(cmp=n - r)


def _logaddexp(x: Any, y: Any) -> Any:
    return maximum(x, y) + log1p(exp(-abs(x - y)))


@rule(
    "aten::logcumsumexp",
    "aten::_logcumsumexp",
    sizes=lines_along,
    reference=scan_by(_logaddexp),
    example=_example(_LINE),
)
def logcumsumexp(n: Any, r: Any) -> Cost:
    """A logaddexp (1 cmp, 2 add, 2 exp) for all but the first number of a line."""
    return Cost(add=2, exp=2, cmp=1) * (n - r)


def _diagonal(call: Call) -> tuple[int, int]:
    spec = call["self"]
    return min(spec.shape) * spec.nbytes // max(spec.numel, 1), call.out.nbytes


@rule(
    "aten::trace",
    contract="self: m n",
    moves=_diagonal,
    reference=lambda self: Array((), [total([self[i, i] for i in range(min(self.shape))])]),
    complex=twice,
)
def trace(m: Any, n: Any) -> Cost:
    """A sum over the diagonal."""
    return Cost(add=max(min(m, n) - 1, 0))
