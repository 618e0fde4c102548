"""What a ledger comes to under every convention: by module, operator, phase, source line."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flopscan import conventions
from flopscan.core.convention import Convention
from flopscan.core.cost import ZERO, Cost, total
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Record
from flopscan.errors import FlopscanError
from flopscan.report.report import parent_of

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Counted:
    """A ledger under each convention that can count it.

    ``counts`` holds, convention by convention, what each record adds, and ``totals`` their sums; ``refused`` says why
    the others cannot.
    """

    ledger: Ledger
    conventions: tuple[Convention, ...]
    counts: tuple[Sequence[int], ...]
    totals: tuple[int, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table: ``values`` under each convention, and what no convention changes."""

    values: tuple[int, ...]
    cost: Cost = ZERO
    calls: int = 0
    uncounted: int = 0

    def __add__(self, other: Line) -> Line:
        return Line(
            tuple(a + b for a, b in zip(self.values, other.values, strict=True)),
            self.cost + other.cost,
            self.calls + other.calls,
            self.uncounted + other.uncounted,
        )

    def __bool__(self) -> bool:
        return bool(self.uncounted or any(self.values) or any(self.cost.values()))


def count(ledger: Ledger, chosen: Convention) -> Counted:
    """``ledger`` under every convention; one that cannot count this model is told apart, with its reason.

    ``chosen`` takes the place of the one that is called as it is, since a person may have changed it.
    """
    able: list[Convention] = []
    counts: list[Sequence[int]] = []
    refused: dict[str, str] = {}
    for convention in {**{name: conventions.get(name) for name in conventions.names()}, chosen.name: chosen}.values():
        try:
            counts.append(convention.counts(ledger))
            able.append(convention)
        except FlopscanError as error:
            refused[convention.name] = str(error)
    return Counted(ledger, tuple(able), tuple(counts), tuple(map(sum, counts)), refused)


def by(counted: Counted, key: Callable[[Record], Key]) -> dict[Key, Line]:
    """A line per key of the records, in the order in which the keys come up."""
    ledger = counted.ledger
    order: dict[Key, int] = {}
    places = [order.setdefault(key(record), len(order)) for record in ledger.trace.records]
    values = [_sums(places, counts, len(order)) for counts in counted.counts]
    costs: list[list[tuple[Cost, int]]] = [[] for _ in order]
    calls, missing = [0] * len(order), [0] * len(order)
    for place, record in zip(places, ledger.trace.records, strict=True):
        if record.envelope:
            continue
        calls[place] += record.count
        ideal = ledger.prices[record.call].ideal
        if ideal is None:
            missing[place] += record.count
        else:
            costs[place].append((ideal, record.count))
    return {
        name: Line(tuple(sums[i] for sums in values), total(costs[i]), calls[i], missing[i])
        for name, i in order.items()
    }


def _sums(places: Sequence[int], counts: Iterable[int], size: int) -> list[int]:
    sums = [0] * size
    for place, counted in zip(places, counts, strict=True):
        sums[place] += counted
    return sums


def by_module(counted: Counted) -> dict[str, Line]:
    """A line per module path, in the model's order, each with everything below it."""
    trace = counted.ledger.trace
    own = by(counted, lambda record: trace.modules[record.module].path)
    nothing = Line((0,) * len(counted.conventions))
    lines = {module.path: own.get(module.path, nothing) for module in trace.modules}
    for path in sorted(lines, key=lambda p: -p.count(".") - bool(p)):
        parent = parent_of(path, lines)
        if parent is not None:
            lines[parent] += lines[path]
    return lines
