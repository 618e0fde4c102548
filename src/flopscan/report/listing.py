"""What the tables of a report list, the same in every format: measures, totals, and the rows that say something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopscan.errors import UsageError
from flopscan.report.choices import VIEWS
from flopscan.report.report import Report, Row


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of numbers: its key in the JSON (``bytes`` is read and written), its title, the number of a row."""

    key: str
    title: str
    of: Callable[[Row], int]


@dataclass(frozen=True, slots=True)
class Total:
    """A number of the whole model. ``partial``: it lacks what was not counted, so it is the least it can be."""

    key: str
    title: str
    value: int
    unit: str = ""
    partial: bool = False


def warnings(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What is wrong with the number of a report's convention, in sentences: kernels at zero, known mistakes.

    ``data`` is the report as JSON-ready data.
    """
    name, unit, kernels = data["convention"], data["unit"], data.get("kernels_at_zero", {})
    zero = ", ".join(f"{op} x{calls:,}" for op, calls in kernels.items())
    wrong = (
        f"Of the number of {name} {one['amount']:+,} {unit} is a mistake: {one['name']} ({one['source']});"
        f" without: {name}~{one['key']}."
        for one in data.get("mistakes", ())
    )
    return (*((f"{name} counts as zero: {zero}.",) if zero else ()), *wrong)


def measures(report: Report) -> tuple[Measure, ...]:
    """The columns in the order that they are shown; the chosen convention's value takes the place of FLOPs."""
    name = report.convention.name
    found = [Measure("value", "FLOPs" if name == "flops" else name, lambda row: row.value)]
    if name != "macs":
        found.append(Measure("macs", "MACs", lambda row: int(row.macs)))
    found.append(Measure("transcendentals", "exp/log", lambda row: row.transcendentals))
    return (*found, Measure("bytes", "bytes", lambda row: int(row.cost.read + row.cost.written)))


def totals(report: Report) -> tuple[Total, ...]:
    """The totals of the headline; what the implementations execute is there where it differs."""
    partial = bool(report.uncounted)
    found = [
        Total("flops", "FLOPs", int(report.flops), "", partial),
        Total("macs", "MACs", int(report.macs), "", partial),
        Total("transcendentals", "exp, log, trig", report.transcendentals, "", partial),
        Total("bytes", "bytes moved", report.bytes_read + report.bytes_written, "B", partial),
        Total("params", "parameters", report.params),
    ]
    if report.executed_flops != report.flops:
        found.insert(1, Total("executed_flops", "  as executed", int(report.executed_flops), "", partial))
    return tuple(found)


def check(by: str) -> None:
    """Raise UsageError where there is no view called ``by``."""
    if by not in VIEWS:
        raise UsageError(f"cannot show a report by {by!r}; expected {', '.join(VIEWS[:-1])} or {VIEWS[-1]}")


def costs(row: Row) -> bool:
    """Whether a row has anything but calls: what moves nothing and computes nothing is not worth a line."""
    return bool(row.value or row.uncounted or any(row.cost.values()))


def operators(report: Report) -> tuple[list[Row], list[Row]]:
    """The operators that cost something, at least the uncounted; and the others."""
    return _apart(list(report.by_operator().values()))


def lines(report: Report) -> tuple[list[Row], list[Row]]:
    """The source lines that cost something, and the others. Raises UsageError where none were recorded."""
    rows = list(report.by_line().values())
    if not rows:
        raise UsageError("this count has no source lines; count with --by line, trace with --lines, or pass lines=True")
    return _apart(rows)


def _apart(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    return [row for row in rows if costs(row)], [row for row in rows if not costs(row)]


def some(items: Sequence[str], most: int = 3) -> str:
    """The first ``most`` of ``items``, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more


def versions(report: Report) -> str:
    """The versions that the numbers depend on, in words."""
    return ", ".join(f"{name} {version}" for name, version in report.ledger.trace.origin.get("versions", {}).items())
