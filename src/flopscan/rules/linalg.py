"""Factorisations and solvers. LU, Cholesky and substitution are counted step by step and proven.

The rest has the exact polynomials of LAPACK Working Note 41 (Blackford and Dongarra, Installation Guide, appendix on
operation counts), whose multiplications and additions come in pairs, here multiply-adds.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, fma, log, sqrt, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import product, rule


def _sizes(call: Call) -> dict[str, Any]:
    """Matrices in the batch, rows, columns, and right-hand sides over the whole batch."""
    matrix = call.get("A") or call.get("LU") or call["self"]
    *batch, m, n = matrix.shape
    return {"b": math.prod(batch), "m": m, "n": n, "r": call.out.numel // max(n, 1) if call.outputs else 0}


def lu_cost(m: Any, n: Any) -> Cost:
    """Elimination with row pivots, at step k: m-k-1 comparisons and divisions, (m-k-1)(n-k-1) fma."""
    steps = range(min(m, n))
    below = sum(m - k - 1 for k in steps)
    return Cost(cmp=below, div=below, fma=sum((m - k - 1) * (n - k - 1) for k in steps))


def substitution(n: Any, sides: Any, unit: bool = False) -> Cost:
    """n(n-1)/2 fma per right-hand side, and n divisions unless the diagonal is one."""
    return Cost(fma=n * (n - 1) // 2 * sides, div=0 if unit else n * sides)


def _pairs(multiplications: Fraction, additions: Fraction) -> Cost:
    """LAPACK's counts: every addition is one half of a multiply-add."""
    return Cost(fma=int(additions), mul=int(multiplications - additions))


def _lu(a: Array) -> tuple[Array, list[int]]:
    """The factors in one matrix, and the row that came to each place."""
    m, n = a.shape
    lu, rows = Array(a.shape, a.data), list(range(m))
    for k in range(min(m, n)):
        best = k
        for i in range(k + 1, m):
            if abs(lu[i, k]) > abs(lu[best, k]):
                best = i
        rows[k], rows[best] = rows[best], rows[k]
        for j in range(n):
            lu[k, j], lu[best, j] = lu[best, j], lu[k, j]
        for i in range(k + 1, m):
            lu[i, k] = lu[i, k] / lu[k, k]
            for j in range(k + 1, n):
                lu[i, j] = fma(-lu[i, k], lu[k, j], lu[i, j])
    return lu, rows


def _substitute(a: Array, b: Array, upper: bool, unit: bool) -> Array:
    n, sides = b.shape
    x = Array(b.shape, b.data)
    for i in reversed(range(n)) if upper else range(n):
        for j in range(sides):
            for k in range(i + 1, n) if upper else range(i):
                x[i, j] = fma(-a[i, k], x[k, j], x[i, j])
            if not unit:
                x[i, j] = x[i, j] / a[i, i]
    return x


def _solve(A: Array, B: Array) -> tuple[Array]:
    lu, rows = _lu(A)
    ordered = Array.make(B.shape, lambda i, j: B[rows[i], j])
    return (_substitute(lu, _substitute(lu, ordered, False, True), True, False),)


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


@product("aten::linalg_lu_factor_ex", sizes=_sizes, reference=lambda A: (_lu(A)[0],),
      example=lambda m, n: {"A": _f64(m, n)})  # fmt: skip
@product("aten::linalg_lu_factor", "aten::linalg_lu", sizes=_sizes)
def lu(b: Any, m: Any, n: Any) -> Cost:
    """`lu_cost` per matrix: n^3/3 fma to leading order. Source: Golub and Van Loan, Matrix Computations, 3.4."""
    return lu_cost(m, n) * b


@product(
    "aten::_linalg_solve_ex", sizes=_sizes, reference=_solve, example=lambda n, r: {"A": _f64(n, n), "B": _f64(n, r)}
)
@product("aten::linalg_solve_ex", "aten::linalg_solve", sizes=_sizes)
def solve(b: Any, n: Any, r: Any) -> Cost:
    """The LU factors, then two substitutions per right-hand side."""
    return lu_cost(n, n) * b + substitution(n, r, unit=True) + substitution(n, r)


@product("aten::linalg_lu_solve", sizes=_sizes)
def lu_solve(n: Any, r: Any) -> Cost:
    """Two substitutions per right-hand side."""
    return substitution(n, r, unit=True) + substitution(n, r)


def _det(A: Array) -> tuple[Array]:
    lu, rows = _lu(A)
    result = -lu[0, 0] if _odd(rows) else lu[0, 0]
    for k in range(1, len(rows)):
        result = result * lu[k, k]
    return (Array((), [result]),)


def _odd(rows: list[int]) -> bool:
    return sum(a > b for n, b in enumerate(rows) for a in rows[:n]) % 2 == 1


@product("aten::_linalg_det", sizes=_sizes, reference=_det, example=lambda n: {"A": _f64(n, n)})
@product("aten::linalg_det", "aten::det", sizes=_sizes)
def det(b: Any, n: Any) -> Cost:
    """The LU factors and the product of n pivots."""
    return (lu_cost(n, n) + Cost(mul=n - 1)) * b


def _slogdet(A: Array) -> tuple[Array | None, Array]:
    lu, rows = _lu(A)
    return None, Array((), [total(log(abs(lu[k, k])) for k in range(len(rows)))])


@product("aten::_linalg_slogdet", sizes=_sizes, reference=_slogdet, example=lambda n: {"A": _f64(n, n)})
@product("aten::linalg_slogdet", "aten::slogdet", sizes=_sizes)
def slogdet(b: Any, n: Any) -> Cost:
    """The LU factors and the sum of the logarithms of n pivots; signs are free."""
    return (lu_cost(n, n) + Cost(exp=n, add=n - 1)) * b


@product("aten::linalg_inv_ex", "aten::linalg_inv", "aten::inverse", sizes=_sizes,
      executed=lambda b, n: (lu_cost(n, n) + substitution(n, n, unit=True) + substitution(n, n)) * b)  # fmt: skip
def inverse(b: Any, n: Any) -> Cost:
    """The LU factors, then LAPACK's getri: 2n^3/3 - 3n^2/2 + 5n/6 fma and 2n^2 mul; torch solves for the identity."""
    cube, square = Fraction(2, 3) * n**3, n**2
    return (lu_cost(n, n) + _pairs(cube + square / Fraction(2) + Fraction(5, 6) * n,
                                   cube - Fraction(3, 2) * square + Fraction(5, 6) * n)) * b  # fmt: skip


def _cholesky(self: Array) -> tuple[Array]:
    n = self.shape[0]
    factor: Array = Array.make(self.shape, lambda *_: 0.0)
    for j in range(n):
        for i in range(j, n):
            value = self[i, j]
            for k in range(j):
                value = fma(-factor[i, k], factor[j, k], value)
            factor[i, j] = sqrt(value) if i == j else value / factor[j, j]
    return (factor,)


@product("aten::linalg_cholesky_ex", "aten::cholesky", "aten::linalg_cholesky", sizes=_sizes, reference=_cholesky)
def cholesky(b: Any, n: Any) -> Cost:
    """n square roots, n(n-1)/2 divisions, n(n^2-1)/6 fma. Source: Golub and Van Loan, Matrix Computations, 4.2."""
    return Cost(sqrt=n, div=n * (n - 1) // 2, fma=n * (n * n - 1) // 6) * b


def _sizes_cholesky(call: Call) -> dict[str, Any]:
    n = call["self"].shape[-2]
    return {"n": n, "r": call.out.numel // max(n, 1)}


@product("aten::cholesky_solve", "aten::_cholesky_solve_helper", sizes=_sizes_cholesky)
def cholesky_solve(n: Any, r: Any) -> Cost:
    """Two substitutions per right-hand side."""
    return substitution(n, r) * 2


@product("aten::cholesky_inverse", sizes=_sizes)
def cholesky_inverse(b: Any, n: Any) -> Cost:
    """LAPACK's potri: n^3/3 - n^2/2 + n/6 fma, and mul for the rest of n^3/3 + n^2 + 2n/3 multiplications."""
    cube = Fraction(1, 3) * n**3
    return _pairs(cube + n**2 + Fraction(2, 3) * n, cube - Fraction(1, 2) * n**2 + Fraction(1, 6) * n) * b


def _sizes_triangular(call: Call) -> dict[str, Any]:
    """The side of the triangle, and vectors over the whole batch."""
    n = (call.get("A") or call["self"]).shape[-1]
    return {"n": n, "sides": call.out.numel // max(n, 1)}


def _solve_triangular(self: Array, B: Array, upper: bool, unitriangular: bool = False) -> Array:
    return _substitute(self, B, upper, unitriangular)


def _example_triangular(n: int, r: int, upper: Any = (True, False), unit: Any = (True, False)) -> dict[str, Any]:
    return {"self": _f64(n, n), "B": _f64(n, r), "upper": upper, "unitriangular": unit}


@product("aten::linalg_solve_triangular", sizes=_sizes_triangular, reference=_solve_triangular,
      example=_example_triangular)  # fmt: skip
@product("aten::triangular_solve", sizes=_sizes_triangular)
def solve_triangular(n: Any, sides: Any, unitriangular: bool = False) -> Cost:
    """One substitution per vector."""
    return substitution(n, sides, unit=unitriangular)


def householder(m: Any, n: Any) -> Cost:
    """LAPACK's geqrf. m >= n: mn^2 - n^3/3 + n^2/2 + 5n/6 fma and mn + 3n mul; else as the note has it for m < n."""
    if m >= n:
        shared = m * n**2 - Fraction(n**3, 3) + Fraction(n**2, 2)
        return _pairs(shared + m * n + Fraction(23 * n, 6), shared + Fraction(5 * n, 6))
    shared = n * m**2 - Fraction(m**3, 3) - Fraction(m**2, 2)
    return _pairs(shared + 2 * n * m + Fraction(23 * m, 6), shared + n * m + Fraction(5 * m, 6))


def reflectors(m: Any, n: Any, k: Any) -> Cost:
    """LAPACK's orgqr, m by n from k reflectors: 2mnk - (m+n)k^2 + 2k^3/3 to leading order."""
    shared = 2 * m * n * k - (m + n) * k**2 + Fraction(2 * k**3, 3)
    return _pairs(shared + 2 * n * k - k**2 - Fraction(5 * k, 3), shared + n * k - m * k + Fraction(k, 3))


@product("aten::geqrf", sizes=_sizes)
def geqrf(b: Any, m: Any, n: Any) -> Cost:
    """`householder` per matrix."""
    return householder(m, n) * b


def _sizes_reflectors(call: Call) -> dict[str, Any]:
    *batch, m, n = call.out.shape
    return {"b": math.prod(batch), "m": m, "n": n, "k": call["tau"].shape[-1]}


@product("aten::linalg_householder_product", "aten::orgqr", sizes=_sizes_reflectors)
def orgqr(b: Any, m: Any, n: Any, k: Any) -> Cost:
    """`reflectors` per matrix."""
    return reflectors(m, n, k) * b


@product("aten::linalg_qr", sizes=_sizes)
def qr(b: Any, m: Any, n: Any, mode: str = "reduced") -> Cost:
    """`householder`, then `reflectors` for Q: min(m, n) columns, or all m where complete, or none."""
    k = min(m, n)
    factor = Cost() if mode == "r" else reflectors(m, m if mode == "complete" else k, k)
    return (householder(m, n) + factor) * b


def _uncounted(reason: str, *ops: str) -> None:
    def cost(call: Call) -> Cost:
        raise ContractError(f"{call.op}: {reason}")

    rule(*ops, source=reason)(cost)


_uncounted(
    "an iteration, whose length depends on the values: no exact count",
    "aten::_linalg_eigh", "aten::linalg_eigh", "aten::linalg_eig", "aten::_linalg_eigvals", "aten::linalg_eigvals",
    "aten::linalg_eigvalsh", "aten::_linalg_svd", "aten::linalg_svd", "aten::linalg_svdvals", "aten::linalg_pinv",
    "aten::linalg_matrix_rank",
)  # fmt: skip
_uncounted(
    "the degree of the approximation depends on the norm of the matrix: no exact count",
    "aten::linalg_matrix_exp", "aten::matrix_exp",
)  # fmt: skip
_uncounted(
    "torch picks the driver (QR, or an iteration) at run time: no exact count",
    "aten::linalg_lstsq",
)  # fmt: skip
