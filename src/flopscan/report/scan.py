"""The selective scans of a report under every convention that has a formula for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.core.ledger import Ledger

OPERATORS = ("flopscan::selective_scan", "flopscan::selective_scan_backward")


@dataclass(frozen=True, slots=True)
class ScanRow:
    """The scans and the whole model under one convention."""

    convention: str
    formula: str
    value: Amount
    total: Amount

    @property
    def share(self) -> float:
        """The part of the total that is scan."""
        return int(self.value) / int(self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Scan:
    """How often a model scans, on what sizes, and what that is under each convention."""

    calls: int
    states: int
    steps: int
    shapes: tuple[str, ...]
    rows: tuple[ScanRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """The section as JSON-ready data."""
        return {
            "calls": self.calls,
            "bdln": self.states,
            "bdl": self.steps,
            "shapes": list(self.shapes),
            "conventions": [
                {
                    "convention": row.convention, "formula": row.formula, "value": int(row.value),
                    "unit": row.value.unit, "total": int(row.total), "share": row.share,
                }
                for row in self.rows
            ],
        }  # fmt: skip


def of(ledger: Ledger) -> Scan | None:
    """The scans of ``ledger`` under every convention; None for a model that has none."""
    trace = ledger.trace
    records = [r for r in trace.records if not r.envelope and trace.calls[r.call].op in OPERATORS]
    if not records:
        return None
    sizes: dict[str, int] = {}
    states = steps = 0
    for record in records:
        call = trace.calls[record.call]
        (b, d, l), n = call["u"].shape, call["A"].shape[-1]
        text = f"b={b} d={d} l={l} n={n}"
        sizes[text] = sizes.get(text, 0) + record.count
        if call.op == OPERATORS[0]:
            steps += b * d * l * record.count
            states += b * d * l * n * record.count
    rows = []
    for name in conventions.names():
        convention = conventions.get(name)
        if convention.scan:
            counts = convention.counts(ledger)
            value = sum(c for r, c in zip(trace.records, counts, strict=True) if trace.calls[r.call].op in OPERATORS)
            rows.append(ScanRow(name, convention.scan, Amount(value, convention.unit), convention.total(ledger)))
    shapes = tuple(f"{count} x {text}" for text, count in sizes.items())
    return Scan(sum(r.count for r in records), states, steps, shapes, tuple(rows))
