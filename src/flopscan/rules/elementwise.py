"""Elementwise arithmetic: one definition per operator, on scalars; its tally is its cost."""

from __future__ import annotations

from typing import Any

from flopscan.core.tally import exp, rsqrt, select, sqrt
from flopscan.rules import pointwise


@pointwise("aten::add")
def add(self: Any, other: Any, alpha: Any = 1) -> Any:
    return self + (other if alpha == 1 else alpha * other)


@pointwise("aten::mul")
def mul(self: Any, other: Any) -> Any:
    return self * other


@pointwise("aten::sigmoid")
def sigmoid(self: Any) -> Any:
    return 1.0 / (1.0 + exp(-self))


@pointwise("aten::where")
def where(condition: Any, self: Any, other: Any) -> Any:
    return select(condition, self, other)


pointwise("aten::sqrt")(lambda self: sqrt(self))
pointwise("aten::rsqrt")(lambda self: rsqrt(self))
