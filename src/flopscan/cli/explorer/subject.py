"""What is explored: a ledger under any convention, or a saved report under its own. Needs no textual."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from flopscan import conventions
from flopscan.core.document import expect
from flopscan.core.ledger import Ledger
from flopscan.errors import UsageError
from flopscan.report import report as reports
from flopscan.report import tree
from flopscan.report.saved import Saved

METRICS: Mapping[str, str] = {"f": "value", "m": "macs", "e": "exp", "b": "bytes", "p": "params"}
TITLES: Mapping[str, str] = {"value": "FLOPs", "macs": "MACs", "exp": "exp/log", "bytes": "bytes", "params": "params"}


@dataclass(frozen=True)
class Kept:
    """The numbers of a row that a saved report keeps."""

    flops: int
    macs: int
    transcendentals: int
    read: int
    written: int

    def values(self) -> tuple[int, ...]:
        """All of them."""
        return dataclasses.astuple(self)


@dataclass(frozen=True)
class Row:
    """A row of a saved report, with the names that a row of a report has."""

    name: str
    value: int
    cost: Kept
    calls: int
    params: int = 0
    cls: str = ""
    uncounted: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.cost.macs

    @property
    def transcendentals(self) -> int:
        """Special functions."""
        return self.cost.transcendentals


@dataclass(frozen=True)
class Missing:
    """An operator that no rule could price."""

    op: str
    count: int
    reason: str
    shapes: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Convention:
    """A convention, and the total under it; None where it is not for such a model."""

    name: str
    unit: str
    total: int | None


@dataclass(frozen=True)
class Subject:
    """A count under one convention; ``name`` is where it is from."""

    name: str
    source: Saved
    chosen: str

    @property
    def title(self) -> str:
        """What was counted."""
        return str(self._data["target"]) or self.name

    @property
    def inputs(self) -> str:
        """What it was counted on."""
        return ", ".join(map(str, self._data["inputs"]))

    @property
    def unit(self) -> str:
        """The unit of the values."""
        return str(self._data["unit"])

    @property
    def total(self) -> Row:
        """The row of all."""
        return cast(Row, self.root.row)

    def titled(self, metric: str) -> str:
        """The heading of a metric; that of the value is the convention's, unless it is ours."""
        return self.chosen if metric == "value" and self.chosen != "flops" else TITLES[metric]

    @cached_property
    def root(self) -> tree.Node:
        """The modules, folded."""
        if isinstance(self.source, Ledger):
            return tree.build(self._report.by_module())
        with expect(self.name, reports.SCHEMA):
            rows = {str(one["name"]): _row(one) for one in self._data["by_module"]}
            return tree.build(cast(Any, rows))

    @cached_property
    def operators(self) -> Sequence[Row]:
        """The operators, the largest first."""
        if isinstance(self.source, Ledger):
            return tuple(cast(Iterable[Row], self._report.by_operator().values()))
        with expect(self.name, reports.SCHEMA):
            return tuple(_row(one) for one in self._data["by_operator"])

    @cached_property
    def uncounted(self) -> Sequence[Missing]:
        """What no rule could price."""
        with expect(self.name, reports.SCHEMA):
            return tuple(
                Missing(u["op"], int(u["count"]), u["reason"], tuple(u["shapes"]), tuple(u["modules"]))
                for u in self._data["uncounted"]
            )

    @cached_property
    def at_zero(self) -> Mapping[str, int]:
        """The kernels that the convention counts as zero, with their calls."""
        with expect(self.name, reports.SCHEMA):
            return {str(op): int(calls) for op, calls in self._data.get("kernels_at_zero", {}).items()}

    def conventions(self) -> Sequence[Convention]:
        """Every convention with its total. Raises UsageError for a saved report: it has the numbers of one alone."""
        if not isinstance(self.source, Ledger):
            raise UsageError(
                f"{self.name} is a report, which has the numbers of {self.chosen} alone; open a ledger or a trace"
                " (flopscan trace, flopscan price) to see others"
            )
        return tuple(_convention(name, self.source) for name in conventions.names())

    def under(self, convention: str) -> Subject:
        """The same under another convention."""
        return Subject(self.name, self.source, convention)

    @cached_property
    def _report(self) -> reports.Report:
        assert isinstance(self.source, Ledger)
        return reports.make(self.source, self.chosen)

    @cached_property
    def _data(self) -> Mapping[str, Any]:
        if not isinstance(self.source, Ledger):
            return self.source
        origin, report = self.source.trace.origin, self._report
        return {
            "target": report.target,
            "inputs": origin.get("inputs", []),
            "unit": report.unit,
            "uncounted": [dataclasses.asdict(one) for one in report.uncounted],
            "kernels_at_zero": report.kernels_at_zero,
        }


def open_(name: str, source: Saved, convention: str | None = None) -> Subject:
    """The subject of what was saved or counted, under ``convention`` (None: a saved report's own, else flops).

    Raises UsageError for a saved report under another, SchemaError for one that is not whole.
    """
    if isinstance(source, Ledger):
        counted = Subject(name, source, conventions.get(convention or "flops").name)
        _ = counted.root  # a convention that is not for this model says so
        return counted
    with expect(name, reports.SCHEMA):
        found = Subject(name, source, str(source["convention"]))
        _ = found.title, found.inputs, found.unit, found.root, found.operators, found.uncounted, found.at_zero
    if convention not in (None, found.chosen):
        found.conventions()  # says why there is no other
    return found


def _convention(name: str, ledger: Ledger) -> Convention:
    one = conventions.get(name)
    try:
        return Convention(name, one.unit, int(one.total(ledger)))
    except UsageError:
        return Convention(name, one.unit, None)


def number(row: Any, metric: str) -> int:
    """The number of a row for a metric."""
    if metric == "bytes":
        return int(row.cost.read + row.cost.written)
    return int(getattr(row, {"exp": "transcendentals"}.get(metric, metric)))


def _row(data: Mapping[str, Any]) -> Row:
    cost = Kept(*(int(data[key]) for key in ("flops", "macs", "transcendentals", "bytes_read", "bytes_written")))
    return Row(
        str(data["name"]), int(data["value"]), cost, int(data["calls"]), int(data["params"]),
        str(data.get("class", "")), int(data["uncounted"]),
    )  # fmt: skip
