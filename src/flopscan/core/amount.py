"""Amount: an integer that knows its unit, so that MACs and FLOPs are not added by accident."""

from __future__ import annotations

from typing import Any


class Amount(int):
    """An exact count with a unit. Adding or subtracting another unit is a TypeError; scaling gives a plain int.

    >>> Amount(3, "FLOP") + Amount(4, "FLOP")
    Amount(7, 'FLOP')
    >>> Amount(3, "FLOP") + Amount(4, "MAC")
    Traceback (most recent call last):
    TypeError: cannot add FLOP and MAC: they are different units (a MAC is commonly 2 FLOP; say which with 2 * macs)
    """

    unit: str

    def __new__(cls, value: int, unit: str) -> Amount:
        self = super().__new__(cls, value)
        self.unit = unit
        return self

    def _checked(self, other: Any, verb: str) -> None:
        if isinstance(other, Amount) and other.unit != self.unit:
            raise TypeError(
                f"cannot {verb} {self.unit} and {other.unit}: they are different units"
                " (a MAC is commonly 2 FLOP; say which with 2 * macs)"
            )

    def __add__(self, other: Any) -> Any:
        self._checked(other, "add")
        value = int.__add__(self, other)
        return value if value is NotImplemented else Amount(value, self.unit)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        self._checked(other, "subtract")
        value = int.__sub__(self, other)
        return value if value is NotImplemented else Amount(value, self.unit)

    def __repr__(self) -> str:
        return f"Amount({int(self)}, {self.unit!r})"

    def __str__(self) -> str:
        return str(int(self))

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)

    def __reduce__(self) -> Any:
        return (Amount, (int(self), self.unit))
