"""Report: what a person asks a count: totals, by module, by operator, by line, under any convention."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.core.convention import Convention
from flopscan.core.cost import TRANSCENDENTAL, Cost, total
from flopscan.core.ledger import Ledger, Uncounted
from flopscan.report import scan as scans
from flopscan.report.explain import Explanation, explain
from flopscan.report.mistakes import Mistake, mistakes

if TYPE_CHECKING:
    from flopscan.devices.device import Device
    from flopscan.report.roofline import Roofline

SCHEMA = "flopscan.report/1"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a module (with all below it), an operator or a source line."""

    name: str
    value: int
    cost: Cost
    calls: int
    params: int = 0
    cls: str = ""
    own: int = 0
    uncounted: int = 0

    @property
    def flops(self) -> Amount:
        """Floating-point operations, multiply-add 2, transcendentals apart."""
        return _weigh("flops", self.cost)

    @property
    def macs(self) -> Amount:
        """Multiply-adds."""
        return _weigh("macs", self.cost)

    @property
    def transcendentals(self) -> int:
        """Exponentials, logarithms, trigonometric and other special functions."""
        return sum(int(getattr(self.cost, kind)) for kind in TRANSCENDENTAL)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-ready data."""
        data: dict[str, Any] = {"name": self.name}
        if self.cls:
            data["class"] = self.cls
        return {
            **data,
            "value": self.value,
            "flops": int(self.flops),
            "macs": int(self.macs),
            "transcendentals": self.transcendentals,
            "bytes_read": self.cost.read,
            "bytes_written": self.cost.written,
            "params": self.params,
            "calls": self.calls,
            "uncounted": self.uncounted,
        }


@dataclass(frozen=True)
class Report:
    """A ledger seen under one convention. Printing it gives the text report."""

    ledger: Ledger
    convention: Convention

    @property
    def target(self) -> str:
        """What was counted, in words."""
        return str(self.ledger.trace.origin.get("target", ""))

    @property
    def cost(self) -> Cost:
        """The ideal cost by kind, and bytes."""
        return self.ledger.cost()

    @property
    def value(self) -> Amount:
        """The total under this report's convention."""
        return self.convention.total(self.ledger)

    @property
    def unit(self) -> str:
        """The unit of `value`."""
        return self.convention.unit

    @property
    def flops(self) -> Amount:
        """Floating-point operations: multiply-add 2, other arithmetic 1, transcendentals apart."""
        return self.under("flops")

    @property
    def executed_flops(self) -> Amount:
        """The floating-point operations that the implementations run, where a rule knows that they run others."""
        return _weigh("flops", self.ledger.executed())

    @property
    def macs(self) -> Amount:
        """Multiply-adds."""
        return self.under("macs")

    @property
    def transcendentals(self) -> int:
        """Exponentials, logarithms, trigonometric and other special functions."""
        cost = self.cost
        return sum(int(getattr(cost, kind)) for kind in TRANSCENDENTAL)

    @property
    def bytes_read(self) -> int:
        """Bytes that the operators read, each operand once per operator."""
        return int(self.cost.read)

    @property
    def bytes_written(self) -> int:
        """Bytes that the operators write."""
        return int(self.cost.written)

    @property
    def params(self) -> int:
        """Parameters, each counted once."""
        return self.ledger.trace.params

    @property
    def uncounted(self) -> tuple[Uncounted, ...]:
        """The operators that no rule could price: empty means that the totals are whole."""
        return self.ledger.uncounted()

    @property
    def kernels_at_zero(self) -> Mapping[str, int]:
        """The kernels that this report's convention counts as zero, though they do arithmetic, with their calls."""
        return self.convention.kernels_at_zero(self.ledger)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The known mistakes of the counter that the convention reproduces, and what each is of `value`."""
        return mistakes(self.ledger, self.convention)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with `value`, in sentences: kernels that it has as zero, known mistakes."""
        from flopscan.report import listing

        data = {"convention": self.convention.name, "unit": self.unit, "kernels_at_zero": self.kernels_at_zero}
        return listing.warnings({**data, "mistakes": [mistake.to_dict() for mistake in self.mistakes]})

    @property
    def again(self) -> str:
        """The command that gives this count again; empty for a model that no command line can name."""
        command = str(self.ledger.trace.origin.get("again", ""))
        chosen = self.convention.name
        return f"{command} --convention {chosen}" if command and chosen != "flops" else command

    @property
    def scan(self) -> scans.Scan | None:
        """The selective scans under every convention that has a formula for one; None where there is no scan."""
        return scans.of(self.ledger)

    def under(self, convention: str) -> Amount:
        """The total under another convention, with its unit. Raises UsageError for an unknown name."""
        return conventions.get(convention).total(self.ledger)

    def using(self, convention: str) -> Report:
        """This report under another convention."""
        return Report(self.ledger, conventions.get(convention))

    def on(self, device: str | Device, dtype: str | None = None) -> Roofline:
        """The least time that the model takes on ``device`` (``h100-sxm``, a device file): a bound, not a prediction.

        ``dtype`` (``bf16``) counts again as if each floating tensor had it. Raises UsageError for an unknown device.
        """
        from flopscan.report.roofline import roofline

        return roofline(self.ledger, device, dtype)

    def explain(self, first: str, second: str) -> Explanation:
        """The steps from the total under one convention to that under another; they sum exactly."""
        return explain(self.ledger, first, second)

    def by_module(self) -> dict[str, Row]:
        """A row per module path, each with everything below it; the root is ''."""
        return by_module(self.ledger, self.convention)

    def by_operator(self) -> dict[str, Row]:
        """A row per operator, largest first."""
        calls = self.ledger.trace.calls
        return _grouped(self.ledger, self.convention, lambda record: calls[record.call].op)

    def by_line(self) -> dict[str, Row]:
        """A row per source line, largest first; empty unless lines were recorded."""
        lines = self.ledger.trace.lines
        if not lines:
            return {}
        return _grouped(self.ledger, self.convention, lambda r: lines[r.line] if r.line >= 0 else "(outside the model)")

    def by_phase(self) -> dict[str, Row]:
        """A row per phase: forward, backward, recompute, optimizer."""
        return _grouped(self.ledger, self.convention, lambda record: record.phase)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data, every number whole."""
        origin = self.ledger.trace.origin
        return {
            "schema": SCHEMA,
            "target": self.target,
            "inputs": origin.get("inputs", []),
            "convention": self.convention.name,
            "value": int(self.value),
            "unit": self.unit,
            "mistakes": [mistake.to_dict() for mistake in self.mistakes],
            "flops": int(self.flops),
            "executed_flops": int(self.executed_flops),
            "macs": int(self.macs),
            "transcendentals": self.transcendentals,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "params": self.params,
            "kinds": self.cost.arithmetic(),
            "by_module": [row.to_dict() for row in self.by_module().values()],
            "by_operator": [row.to_dict() for row in self.by_operator().values()],
            "by_phase": [row.to_dict() for row in self.by_phase().values()],
            "uncounted": [
                {"op": u.op, "count": u.count, "shapes": list(u.shapes), "modules": list(u.modules), "reason": u.reason}
                for u in self.uncounted
            ],
            "kernels_at_zero": dict(self.kernels_at_zero),
            "scan": self.scan.to_dict() if self.scan else None,
            "notes": [*origin.get("notes", []), *self.ledger.notes()],
            "versions": origin.get("versions", {}),
            "route": origin.get("route", ""),
            "again": self.again,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report to ``path``, in the format of its suffix: .html, .json, .txt, .md, .csv, .tex. Atomic."""
        from flopscan.report import formats

        formats.save(self, path)

    def __str__(self) -> str:
        from flopscan.report.formats import text

        return text.render(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from flopscan.report import notebook

        return notebook.report(self)

    def __repr__(self) -> str:
        return f"<Report of {self.target or 'a count'}: {int(self.value):,} {self.unit} ({self.convention.name})>"


def by_module(ledger: Ledger, convention: Convention) -> dict[str, Row]:
    """A row per module path, in the model's order, each with everything below it."""
    trace = ledger.trace
    pieces: dict[str, list[tuple[Cost, int]]] = {m.path: [] for m in trace.modules}
    value = dict.fromkeys(pieces, 0)
    calls = dict.fromkeys(pieces, 0)
    missing = dict.fromkeys(pieces, 0)
    for record, counted in zip(trace.records, convention.counts(ledger), strict=True):
        path = trace.modules[record.module].path
        value[path] += counted
        if record.envelope:
            continue
        calls[path] += record.count
        price = ledger.prices[record.call]
        if price.ideal is None:
            missing[path] += record.count
        else:
            pieces[path].append((price.ideal, record.count))
    own = {path: total(costs) for path, costs in pieces.items()}
    own_value = dict(value)
    params: dict[str, int] = {}
    for module in trace.modules:
        params[module.path] = params.get(module.path, 0) + module.params
    sums = {path: [own[path]] for path in own}
    for path in sorted(own, key=lambda p: -p.count(".") - bool(p)):
        parent = parent_of(path, own)
        if parent is None:
            continue
        for table in (value, calls, missing, params):
            table[parent] += table[path]
        sums[parent].append(total((c, 1) for c in sums[path]))
    classes = {m.path: m.cls for m in trace.modules}
    return {
        path: Row(
            path, value[path], total((c, 1) for c in sums[path]), calls[path], params[path], classes[path],
            own_value[path], missing[path],
        )
        for path in own
    }  # fmt: skip


def parent_of(path: str, paths: Collection[str]) -> str | None:
    """The nearest module above ``path`` that is there; None for the root."""
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return None


def _grouped(ledger: Ledger, convention: Convention, key: Any) -> dict[str, Row]:
    trace = ledger.trace
    groups: dict[str, list[Any]] = {}
    for record, counted in zip(trace.records, convention.counts(ledger), strict=True):
        if record.envelope and not counted:
            continue
        group = groups.setdefault(key(record), [0, 0, 0, []])
        group[0] += counted
        if record.envelope:
            continue
        group[1] += record.count
        price = ledger.prices[record.call]
        if price.ideal is None:
            group[2] += record.count
        else:
            group[3].append((price.ideal, record.count))
    rows = [Row(name, v, total(costs), n, own=v, uncounted=missing) for name, (v, n, missing, costs) in groups.items()]
    return {row.name: row for row in sorted(rows, key=_importance)}


def _importance(row: Row) -> tuple[int, int, int]:
    return (-row.value, -sum(row.cost.arithmetic().values()), -(row.cost.read + row.cost.written))


def _weigh(convention: str, cost: Cost) -> Amount:
    chosen = conventions.get(convention)
    return Amount(sum(weight * getattr(cost, kind) for kind, weight in chosen.weights.items()), chosen.unit)


def make(ledger: Ledger, convention: str = "flops") -> Report:
    """The report of ``ledger`` under the convention called ``convention``."""
    return Report(ledger, conventions.get(convention))


__all__ = ["SCHEMA", "Report", "Row", "by_module", "make", "parent_of"]
