"""Ledger: every record of a trace with its price. What a report sums, groups and lists."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flopscan.core.cost import Cost, total
from flopscan.core.document import expect, read_document, write_document
from flopscan.core.trace import Call, Module, Record, Trace

SCHEMA = "flopscan.ledger/1"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Price:
    """What one call costs: ``ideal`` (None where no rule knows), ``executed`` where that differs, and remarks."""

    ideal: Cost | None
    executed: Cost | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record with all that belongs to it, resolved."""

    record: Record
    call: Call
    module: Module
    price: Price


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operator without a rule: how often it was called, on what shapes, in which modules, and why."""

    op: str
    count: int
    shapes: tuple[str, ...]
    modules: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        where = self.modules[0] or "the top level"
        more = f" and {len(self.modules) - 1} more" if len(self.modules) > 1 else ""
        return f"{self.op} x{self.count} ({self.shapes[0]}) in {where}{more}: {self.reason}"


@dataclass(frozen=True)
class Ledger:
    """A trace and the price of each of its distinct calls (index by index)."""

    trace: Trace
    prices: tuple[Price, ...]
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returns, kept under ``key``: a ledger does not change, and a report asks it the same often."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def entries(self) -> Iterator[Entry]:
        """Every record that is an operator (envelopes are not: they are functions as written)."""
        trace = self.trace
        for record in trace.records:
            if not record.envelope:
                yield Entry(record, trace.calls[record.call], trace.modules[record.module], self.prices[record.call])

    def cost(self) -> Cost:
        """The ideal cost of everything that was counted."""
        return self.once("cost", self._cost)

    def _cost(self) -> Cost:
        return total((e.price.ideal, e.record.count) for e in self.entries() if e.price.ideal is not None)

    def executed(self) -> Cost:
        """The executed cost, where a rule states one, and the ideal cost elsewhere."""
        pairs = ((e.price.executed or e.price.ideal, e.record.count) for e in self.entries())
        return total((cost, count) for cost, count in pairs if cost is not None)

    def uncounted(self) -> tuple[Uncounted, ...]:
        """The operators that no rule could price, most often called first."""
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries():
            if entry.price.ideal is None:
                found.setdefault((entry.call.op, entry.price.note), []).append(entry)
        rows = [
            Uncounted(
                op,
                sum(e.record.count for e in entries),
                tuple(dict.fromkeys(e.call.shapes() for e in entries)),
                tuple(dict.fromkeys(e.module.path for e in entries)),
                reason,
            )
            for (op, reason), entries in found.items()
        ]
        return tuple(sorted(rows, key=lambda row: -row.count))

    def notes(self) -> tuple[str, ...]:
        """The remarks of rules on counted calls, each once."""
        return tuple(dict.fromkeys(e.price.note for e in self.entries() if e.price.note and e.price.ideal is not None))

    def save(self, path: str) -> None:
        """Write trace and prices as versioned JSON, atomically."""
        write_document(path, self.to_dict())

    @staticmethod
    def load(path: str) -> Ledger:
        """The ledger in ``path``. Raises SchemaError for a file of another kind or version."""
        return Ledger.from_dict(read_document(path, SCHEMA), path)

    def to_dict(self) -> dict[str, Any]:
        """The ledger as JSON-ready data."""
        return {"schema": SCHEMA, "trace": self.trace.to_dict(), "prices": [_price_to_list(p) for p in self.prices]}

    @staticmethod
    def from_dict(data: Mapping[str, Any], source: str = "the data") -> Ledger:
        """The ledger that `to_dict` wrote."""
        trace = Trace.from_dict(data.get("trace", {}), source)
        with expect(source, SCHEMA):
            prices = tuple(_price_from_list(p) for p in data["prices"])
            if len(prices) != len(trace.calls):
                raise ValueError(f"{len(prices)} prices for {len(trace.calls)} calls")
        return Ledger(trace, prices)


def _price_to_list(price: Price) -> list[Any]:
    return [None if c is None else c.to_dict() for c in (price.ideal, price.executed)] + [price.note]


def _price_from_list(row: list[Any]) -> Price:
    ideal, executed, note = row
    return Price(None if ideal is None else Cost(**ideal), None if executed is None else Cost(**executed), note)
