"""Matrix products. A product of length k is k multiply-adds onto an accumulator that starts at zero or at the bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import four_fold
from flopscan.core.tally import Array, dot, maximum
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import product


def _column(matrix: Array, j: int) -> list[Any]:
    return [matrix[p, j] for p in range(matrix.shape[0])]


def _product(a: Array, b: Array) -> Array:
    return Array.make((a.shape[0], b.shape[1]), lambda i, j: dot(a[i], _column(b, j)))


def _mm(self: Array, mat2: Array) -> Array:
    return _product(self, mat2)


@product("aten::mm", contract="self: m k, mat2: k n", reference=_mm, complex=four_fold)
def mm(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds. Source: the definition."""
    return Cost(fma=m * n * k)


def _bmm(self: Array, mat2: Array) -> Array:
    return _stack([_product(a, b) for a, b in zip(self, mat2, strict=True)])


def _stack(parts: list[Array]) -> Array:
    return Array((len(parts), *parts[0].shape), [x for part in parts for x in part.data])


@product("aten::bmm", contract="self: b m k, mat2: b k n", reference=_bmm, complex=four_fold)
def bmm(b: Any, m: Any, k: Any, n: Any) -> Cost:
    """b*m*n*k multiply-adds. Source: the definition."""
    return Cost(fma=b * m * n * k)


def _mv(self: Array, vec: Array) -> Array:
    return Array.make((self.shape[0],), lambda i: dot(self[i], vec))


@product("aten::mv", contract="self: m k, vec: k", reference=_mv, complex=four_fold)
def mv(m: Any, k: Any) -> Cost:
    """m*k multiply-adds. Source: the definition."""
    return Cost(fma=m * k)


def _dot(self: Array, tensor: Array) -> Array:
    return Array((), [dot(self, tensor)])


@product("aten::dot", contract="self: k, tensor: k", reference=_dot, complex=four_fold)
def inner(k: Any) -> Cost:
    """k multiply-adds. Source: the definition."""
    return Cost(fma=k)


def _vdot(self: Array, other: Array) -> Array:
    return Array((), [dot(self, other)])


product("aten::vdot", contract="self: k, other: k", reference=_vdot, complex=four_fold)(inner)


def scaled_sum(outputs: Any, k: Any, added: Any, beta: Any = 1, alpha: Any = 1) -> Cost:
    """outputs*k multiply-adds that start at ``beta * self``; an ``alpha`` scales the product before it is added.

    beta scales each of the ``added`` elements of self once, before they are broadcast; beta = 0 leaves self out.
    """
    scaling = 0 if beta in (0, 1) else added
    if alpha == 1:
        return Cost(fma=outputs * k, mul=scaling)
    return Cost(fma=outputs * k, mul=scaling + outputs, add=0 if beta == 0 else outputs)


def _accumulated(self: Array, shape: tuple[int, ...], beta: Any, alpha: Any, product: Callable[..., Any]) -> Array:
    """``beta * self + alpha * product``, where ``product(start, *index)`` accumulates onto ``start``."""
    scaled = self if beta in (0, 1) else self.map(lambda x: beta * x)

    def element(*index: int) -> Any:
        last = index[len(index) - len(self.shape) :]
        start = 0.0 if beta == 0 else scaled[tuple(0 if s == 1 else i for i, s in zip(last, self.shape, strict=True))]
        if alpha == 1:
            return product(start, *index)
        return alpha * product(0.0, *index) + start if beta else alpha * product(0.0, *index)

    return Array.make(shape, element)


def _addmm(self: Array, mat1: Array, mat2: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    return _accumulated(
        self, (mat1.shape[0], mat2.shape[1]), beta, alpha, lambda start, i, j: dot(mat1[i], _column(mat2, j), start)
    )


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


def _example_addmm(
    m: int, k: int, n: int, form: Any = ("n", "mn", "1n", "1"), beta: Any = (0, 1, 2), alpha: Any = (1, 3)
) -> dict[str, Any]:
    shape = {"n": (n,), "mn": (m, n), "1n": (1, n), "1": ()}[form]
    return {"self": _f64(*shape), "mat1": _f64(m, k), "mat2": _f64(k, n), "beta": beta, "alpha": alpha}


@product("aten::addmm", contract="self: *s, mat1: m k, mat2: k n", reference=_addmm, example=_example_addmm,
      complex=four_fold)  # fmt: skip
def addmm(m: Any, k: Any, n: Any, s: Any = 1, beta: Any = 1, alpha: Any = 1) -> Cost:
    """m*n*k multiply-adds onto self; beta and alpha other than 1 add multiplications. Source: the definition."""
    return scaled_sum(m * n, k, s, beta, alpha)


def _addmm_activation(
    self: Array, mat1: Array, mat2: Array, beta: Any = 1, alpha: Any = 1, use_gelu: bool = False
) -> Array:
    return _addmm(self, mat1, mat2, beta, alpha).map(lambda x: maximum(x, 0.0))


@product("aten::_addmm_activation", contract="self: *s, mat1: m k, mat2: k n", reference=_addmm_activation,
      example=_example_addmm)  # fmt: skip
def addmm_activation(m: Any, k: Any, n: Any, s: Any = 1, beta: Any = 1, alpha: Any = 1, use_gelu: bool = False) -> Cost:
    """addmm and a ReLU (1 cmp per output), or the tanh form of GELU: x/2 * (1 + tanh(c*(x + 0.044715*x*x*x)))."""
    each = Cost(mul=6, add=2, trig=1) if use_gelu else Cost(cmp=1)
    return scaled_sum(m * n, k, s, beta, alpha) + each * (m * n)


def _baddbmm(self: Array, batch1: Array, batch2: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    shape = (batch1.shape[0], batch1.shape[1], batch2.shape[2])
    return _accumulated(
        self, shape, beta, alpha, lambda start, b, i, j: dot(batch1[b][i], _column(batch2[b], j), start)
    )


def _example_baddbmm(
    b: int, m: int, k: int, n: int, form: Any = ("n", "1mn", "bmn"), beta: Any = (0, 1, 2), alpha: Any = (1, 3)
) -> dict[str, Any]:
    shape = {"n": (n,), "1mn": (1, m, n), "bmn": (b, m, n)}[form]
    return {"self": _f64(*shape), "batch1": _f64(b, m, k), "batch2": _f64(b, k, n), "beta": beta, "alpha": alpha}


@product("aten::baddbmm", contract="self: *s, batch1: b m k, batch2: b k n", reference=_baddbmm,
      example=_example_baddbmm, complex=four_fold)  # fmt: skip
def baddbmm(b: Any, m: Any, k: Any, n: Any, s: Any = 1, beta: Any = 1, alpha: Any = 1) -> Cost:
    """b*m*n*k multiply-adds onto self; beta and alpha other than 1 add multiplications. Source: the definition."""
    return scaled_sum(b * m * n, k, s, beta, alpha)


def _addbmm(self: Array, batch1: Array, batch2: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    def product(start: Any, i: int, j: int) -> Any:
        for a, b in zip(batch1, batch2, strict=True):
            start = dot(a[i], _column(b, j), start)
        return start

    return _accumulated(self, (batch1.shape[1], batch2.shape[2]), beta, alpha, product)


def _example_addbmm(b: int, m: int, k: int, n: int, beta: Any = (0, 1, 2), alpha: Any = (1, 3)) -> dict[str, Any]:
    return {"self": _f64(m, n), "batch1": _f64(b, m, k), "batch2": _f64(b, k, n), "beta": beta, "alpha": alpha}


@product("aten::addbmm", contract="self: *s, batch1: b m k, batch2: b k n", reference=_addbmm, example=_example_addbmm,
      complex=four_fold)  # fmt: skip
def addbmm(b: Any, m: Any, k: Any, n: Any, s: Any = 1, beta: Any = 1, alpha: Any = 1) -> Cost:
    """b*m*n*k multiply-adds: one product of length b*k per output. Source: the definition."""
    return scaled_sum(m * n, b * k, s, beta, alpha)


def _addmv(self: Array, mat: Array, vec: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    return _accumulated(self, (mat.shape[0],), beta, alpha, lambda start, i: dot(mat[i], vec, start))


def _example_addmv(m: int, k: int, beta: Any = (0, 1, 2), alpha: Any = (1, 3)) -> dict[str, Any]:
    return {"self": _f64(m), "mat": _f64(m, k), "vec": _f64(k), "beta": beta, "alpha": alpha}


@product("aten::addmv", contract="self: *s, mat: m k, vec: k", reference=_addmv, example=_example_addmv,
      complex=four_fold)  # fmt: skip
def addmv(m: Any, k: Any, s: Any = 1, beta: Any = 1, alpha: Any = 1) -> Cost:
    """m*k multiply-adds onto self. Source: the definition."""
    return scaled_sum(m, k, s, beta, alpha)


def _addr(self: Array, vec1: Array, vec2: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    return _accumulated(self, (len(vec1), len(vec2)), beta, alpha, lambda start, i, j: dot([vec1[i]], [vec2[j]], start))


def _example_addr(m: int, n: int, beta: Any = (0, 1, 2), alpha: Any = (1, 3)) -> dict[str, Any]:
    return {"self": _f64(m, n), "vec1": _f64(m), "vec2": _f64(n), "beta": beta, "alpha": alpha}


@product("aten::addr", contract="self: *s, vec1: m, vec2: n", reference=_addr, example=_example_addr, complex=four_fold)
def addr(m: Any, n: Any, s: Any = 1, beta: Any = 1, alpha: Any = 1) -> Cost:
    """m*n multiply-adds: a product of length 1 per output. Source: the definition."""
    return scaled_sum(m * n, 1, s, beta, alpha)


@product("aten::linear", contract="input: *m k, weight: n k | k, bias?: n", complex=four_fold)
@product("aten::mkldnn_linear", contract="self: *m k, weight: n k | k, bias?: n")
def linear(m: Any, k: Any, n: Any = 1) -> Cost:
    """m*n*k multiply-adds that start at the bias. Source: the definition."""
    return Cost(fma=m * n * k)


@product("aten::linear_backward", "aten::mkldnn_linear_backward", contract="self: *m k, grad_output: *m n, weight: n k")
def linear_backward(m: Any, k: Any, n: Any, output_mask: Any = (True, True, True)) -> Cost:
    """m*n*k multiply-adds for the input and as many for the weight; the bias sums m rows: n*(m-1) additions."""
    return Cost(fma=m * n * k * sum(map(bool, output_mask[:2])), add=n * (m - 1) if output_mask[2] else 0)


@product("aten::mkldnn_linear_backward_input", contract="grad_output: *m n, weight: n k")
def linear_backward_input(m: Any, n: Any, k: Any) -> Cost:
    """m*n*k multiply-adds."""
    return Cost(fma=m * n * k)


@product("aten::mkldnn_linear_backward_weights", contract="grad_output: *m n, input: *m k")
def linear_backward_weights(m: Any, n: Any, k: Any, bias_defined: bool = False) -> Cost:
    """m*n*k multiply-adds; the bias sums m rows."""
    return Cost(fma=m * n * k, add=n * (m - 1) if bias_defined else 0)


def _sizes_matmul(call: Call) -> dict[str, Any]:
    return {"outputs": math.prod(s.numel for s in call.outputs), "k": call["self"].shape[-1]}


@product("aten::matmul", "aten::inner", "aten::linalg_matmul", sizes=_sizes_matmul, complex=four_fold)
def matmul(outputs: Any, k: Any) -> Cost:
    """k multiply-adds per output, whatever is broadcast. Source: the definition."""
    return Cost(fma=outputs * k)


def _sizes_trilinear(call: Call) -> dict[str, Any]:
    pair, space = [], []
    shapes = []
    rank = len(call["i1"].shape) + len(call["expand1"])
    for name, expanded in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        rest = list(call[name].shape)
        shapes.append([1 if axis in call[expanded] else rest.pop(0) for axis in range(rank)])
    for one, two, three in zip(*shapes, strict=True):
        pair.append(max(one, three))
        space.append(max(one, two, three))
    return {"pair": math.prod(pair), "space": math.prod(space)}


@product("aten::_trilinear", sizes=_sizes_trilinear)
def trilinear(pair: Any, space: Any) -> Cost:
    """The outer product of the two inputs (1 mul each), then 1 multiply-add per weight that it meets.

    For ``bilinear`` (b i, o i j, b j): b*i*j mul and b*o*i*j fma.
    """
    return Cost(mul=pair, fma=space)
