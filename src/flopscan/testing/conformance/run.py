"""Run a counter through the cases, and say of each number how far off it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from flopscan.errors import UsageError
from flopscan.testing.conformance import functions, layers, models, scans
from flopscan.testing.conformance.case import Case

Counter = Callable[[nn.Module, tuple[Tensor, ...]], float]
FACTORS = {"MAC": 1, "FLOP": 2}  # what a multiply-add is in a unit


@dataclass(frozen=True)
class Result:
    """What a counter said of a case, in its unit; ``got`` is None where it failed, with the ``reason``."""

    case: Case
    expected: tuple[int, ...]
    got: float | None
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether it is the number, or another one that is right by its own light."""
        return self.got in self.expected

    @property
    def verdict(self) -> str:
        """exact, zero, fails, or the deviation from the nearest right number."""
        if self.got is None:
            return "fails"
        if self.exact:
            return "exact"
        if not math.isfinite(self.got):
            return "not a number"
        nearest = min(self.expected, key=lambda number: abs(number - self.got))  # type: ignore[operator]
        if not nearest:
            return f"{self.got:,.0f} too many"
        return f"{self.got / nearest - 1:+.1%}" if self.got else "zero"

    def __str__(self) -> str:
        wanted = " or ".join(f"{number:,}" for number in self.expected)
        said = self.reason if self.got is None else f"{self.got:,.0f}"
        return f"{self.case.name}: {self.verdict}; expected {wanted} ({self.case.derivation}), got {said}"


def cases() -> tuple[Case, ...]:
    """Every case, layers first, whole models last."""
    return (*layers.CASES, *functions.CASES, *scans.CASES, *models.CASES)


def check(counter: Counter, unit: str = "MAC", only: Sequence[Case] | None = None) -> Iterator[Result]:
    """The result of each case, one by one. ``unit`` is "MAC", or "FLOP" for two of a multiply-add.

    An exception of the counter is a result, not an error. Raises UsageError for another unit.
    """
    if unit not in FACTORS:
        raise UsageError(f"a counter's unit is MAC or FLOP, got {unit!r}")
    for case in cases() if only is None else only:
        expected = tuple(FACTORS[unit] * number for number in (case.macs, *case.also))
        try:
            got = float(counter(case.model(), case.inputs()))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Result(case, expected, None, text)
        else:
            yield Result(case, expected, got)
