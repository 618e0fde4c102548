"""The scans of a report, of Mamba and of Mamba-2, under every convention that has a formula for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call

KINDS: Mapping[str, str] = {
    "flopscan::selective_scan": "selective scan",
    "flopscan::selective_scan_backward": "selective scan",
    "flopscan::cross_selective_scan": "selective scan",
    "flopscan::cross_selective_scan_backward": "selective scan",
    "flopscan::ssd": "SSD",
    "flopscan::ssd_backward": "SSD",
    "flopscan::selective_state_update": "decoding step",
}


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
    """How often a model scans, on what sizes, and what that is under each convention.

    ``states`` and ``steps`` are the sums of bdln and bdl over the forward calls; d is h*p where a scan has heads.
    """

    kinds: tuple[str, ...]
    calls: int
    states: int
    steps: int
    shapes: tuple[str, ...]
    rows: tuple[ScanRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """The section as JSON-ready data."""
        return {
            "kinds": list(self.kinds),
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
    found = [not record.envelope and trace.calls[record.call].op in KINDS for record in trace.records]
    records = [record for record, is_scan in zip(trace.records, found, strict=True) if is_scan]
    if not records:
        return None
    shapes: dict[str, int] = {}
    states = steps = 0
    for record in records:
        call = trace.calls[record.call]
        sizes, channels = _sizes(call)
        shapes[sizes] = shapes.get(sizes, 0) + record.count
        if not call.op.endswith("_backward"):
            steps += channels * record.count
            states += channels * _states(call) * record.count
    operators = {trace.calls[record.call].op for record in records}
    rows = tuple(_row(convention, formula, ledger, found) for convention, formula in _formulas(operators))
    kinds = tuple(dict.fromkeys(kind for op, kind in KINDS.items() if op in operators))
    texts = tuple(f"{count} x {text}" for text, count in shapes.items())
    return Scan(kinds, sum(record.count for record in records), states, steps, texts, rows)


def _sizes(call: Call) -> tuple[str, int]:
    """The axes of a scan as text, and its channels at all steps, bdl."""
    if KINDS[call.op] == "selective scan":
        (d, n), (b, *_, l) = call["A"].shape, call["delta"].shape
        return f"b={b} d={d} l={l} n={n}", b * d * l
    if KINDS[call.op] == "SSD":
        b, l, h, p = call["x"].shape
        g, n = call["B"].shape[-2:]
        return f"b={b} l={l} h={h} p={p} g={g} n={n} chunk={call['chunk_size']}", b * l * h * p
    *axes, n = call["state"].shape
    names = "bhp" if len(axes) == 3 else "bd"
    return " ".join(f"{name}={size}" for name, size in zip((*names, "n"), (*axes, n), strict=True)), math.prod(axes)


def _states(call: Call) -> int:
    """n, as A has it: a complex state counts once."""
    return int(call["A" if KINDS[call.op] == "selective scan" else "B"].shape[-1])


def _formulas(operators: Collection[str]) -> Iterator[tuple[Convention, str]]:
    """The conventions that know all these scans, each with its formulas of them."""
    for name in conventions.names():
        convention = conventions.get(name)
        if all(op in convention.handles or convention.weights for op in operators):
            kinds = {KINDS[op] for op in operators}
            formulas = [convention.scan] * (kinds != {"SSD"}) + [convention.ssd] * ("SSD" in kinds)
            if all(formulas):
                yield convention, "; ".join(dict.fromkeys(formulas))


def _row(convention: Convention, formula: str, ledger: Ledger, found: Sequence[bool]) -> ScanRow:
    value = sum(count for count, is_scan in zip(convention.counts(ledger), found, strict=True) if is_scan)
    return ScanRow(convention.name, formula, Amount(value, convention.unit), convention.total(ledger))
