"""Cost: how many scalar operations of each kind, and how many bytes read and written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

Count = Any  # an exact int, or a sympy expression when a rule is evaluated on symbols

KINDS = {
    "fma": "multiply-add: one inner step of a product, a convolution or a recurrence (a MAC)",
    "add": "addition or subtraction",
    "mul": "multiplication",
    "div": "division",
    "sqrt": "square root or reciprocal square root",
    "exp": "exponential or logarithm, of any base",
    "trig": "trigonometric, hyperbolic and other special functions",
    "cmp": "comparison, selection, rounding",
}
TRANSCENDENTAL = ("exp", "trig")


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts of scalar operations by kind, and bytes; kinds are never merged until a convention merges them.

    ``read`` and ``written`` are the bytes that the operator must move once, unfused, with nothing kept in a cache.
    """

    fma: Count = 0
    add: Count = 0
    mul: Count = 0
    div: Count = 0
    sqrt: Count = 0
    exp: Count = 0
    trig: Count = 0
    cmp: Count = 0
    read: Count = 0
    written: Count = 0

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def __mul__(self, times: Count) -> Cost:
        if isinstance(times, (Cost, float)):
            return NotImplemented
        return Cost(*(times * value for value in self.values()))

    __rmul__ = __mul__

    def moving(self, read: Count, written: Count) -> Cost:
        """The same arithmetic with so many bytes read and written."""
        return Cost(*(*self.values()[:8], read, written))

    def values(self) -> tuple[Count, ...]:
        """The ten counts, in field order."""
        return (
            self.fma, self.add, self.mul, self.div, self.sqrt, self.exp, self.trig, self.cmp, self.read, self.written,
        )  # fmt: skip

    def arithmetic(self) -> dict[str, Count]:
        """The kinds that are not zero."""
        return {kind: value for kind in KINDS if (value := getattr(self, kind)) != 0}

    def to_dict(self) -> dict[str, Count]:
        """The fields that are not zero, bytes included."""
        return {name: value for name, value in zip(FIELDS, self.values(), strict=True) if value != 0}


FIELDS = tuple(field.name for field in fields(Cost))
ZERO = Cost()


def total(costs: Iterable[tuple[Cost, int]]) -> Cost:
    """The sum of ``cost * times`` over pairs, without an intermediate Cost per term."""
    sums = [0] * len(FIELDS)
    for cost, times in costs:
        for i, value in enumerate(cost.values()):
            if value:
                sums[i] += value * times
    return Cost(*sums)
