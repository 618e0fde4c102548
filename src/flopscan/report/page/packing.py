"""Lines of numbers as short JSON: equal lines once, and of a line each distinct number once."""

from __future__ import annotations

from typing import Any

from flopscan import conventions
from flopscan.core.cost import TRANSCENDENTAL, Cost
from flopscan.report.page.values import Line

MEASURES = (
    "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params", "calls", "uncounted", "arithmetic",
)  # fmt: skip
_LARGEST = 2**53 - 1  # that JavaScript's numbers hold exactly


class Pool:
    """The lines of a page, each distinct one once; a table refers to one by its place.

    A line is the place of its pattern, its distinct numbers, and the measures that no convention changes; the pattern
    says which of the numbers stands under which convention. Most conventions agree on most operators, so that a line
    under thirty of them is a few numbers.
    """

    def __init__(self) -> None:
        self._patterns: dict[str, int] = {}
        self._lines: dict[tuple[Any, ...], int] = {}

    def add(self, line: Line, params: int = 0) -> int:
        """The place of ``line``, of a module with ``params`` parameters."""
        distinct: dict[int, int] = {}
        pattern = ",".join(str(distinct.setdefault(value, len(distinct))) for value in line.values)
        place = self._patterns.setdefault(pattern, len(self._patterns))
        packed = (place, tuple(distinct), measures(line, params))
        return self._lines.setdefault(packed, len(self._lines))

    def to_dict(self) -> dict[str, Any]:
        """The pool as JSON-ready data."""
        return {
            "measures": list(MEASURES),
            "patterns": [[int(place) for place in pattern.split(",")] if pattern else [] for pattern in self._patterns],
            "lines": [[pattern, *([whole(n) for n in numbers] for numbers in rest)] for pattern, *rest in self._lines],
        }


def measures(line: Line, params: int = 0) -> tuple[int, ...]:
    """The numbers of ``line`` that no convention changes, in the order of `MEASURES`."""
    cost = line.cost
    return (
        weighed("flops", cost),
        weighed("macs", cost),
        sum(int(getattr(cost, kind)) for kind in TRANSCENDENTAL),
        int(cost.read),
        int(cost.written),
        params,
        line.calls,
        line.uncounted,
        sum(cost.arithmetic().values()),
    )


def weighed(convention: str, cost: Cost) -> int:
    """``cost`` by the weights of ``convention``."""
    return sum(weight * int(getattr(cost, kind)) for kind, weight in conventions.get(convention).weights.items())


def whole(value: int) -> int | str:
    """``value`` as JSON that JavaScript reads exactly: a string where its numbers would round."""
    return value if abs(value) <= _LARGEST else str(value)


def exactly(value: Any) -> Any:
    """``value``, JSON-ready data, with `whole` for each integer in it."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [exactly(item) for item in value]
    return whole(value) if type(value) is int else value
