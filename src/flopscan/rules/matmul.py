"""Matrix products. A product of length k is k multiply-adds onto an accumulator that starts at zero or at the bias."""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import four_fold
from flopscan.core.tally import Array, dot
from flopscan.rules import rule


def _mm(self: Array, mat2: Array) -> Array:
    (m, k), (_, n) = self.shape, mat2.shape
    return Array.make((m, n), lambda i, j: dot((self[i, p] for p in range(k)), (mat2[p, j] for p in range(k))))


@rule("aten::mm", contract="self: m k, mat2: k n", reference=_mm, complex=four_fold)
def mm(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds. Source: the definition."""
    return Cost(fma=m * n * k)
