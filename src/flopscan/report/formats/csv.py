"""CSV: whole numbers for a spreadsheet or a data frame, every module in a row of its own.

It is data first: one header, then rows of the same columns, no comments, so that every reader loads it as it is. What
other formats say in a footnote (convention, input, versions, what was not counted) stands in columns of its own that
every row repeats, so that files can be put below one another.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from flopscan.report import listing
from flopscan.report.format import Format, Shown
from flopscan.report.paper import not_counted
from flopscan.report.report import Report, Row
from flopscan.report.sheet import Cell, Entry, Heading, Sheet, clean

_NUMBERS = (
    "value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params", "calls", "uncounted",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@")


def escape(text: str) -> str:
    """``text`` on one line; what a spreadsheet would run as a formula is kept as text by an apostrophe before it."""
    text = clean(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def table(sheet: Sheet) -> str:
    """A sheet in CSV, without a newline at the end: numbers whole, what is missing empty, the facts in every row."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write([*(heading.key for heading in sheet.headings), *sheet.facts])
    facts = [escape(fact) for fact in sheet.facts.values()]
    for entry in sheet.entries:
        write([*map(_cell, entry.cells), *facts])
    return out.getvalue().rstrip("\n")


def render(report: Report, shown: Shown) -> str:
    """The total of a report, then every row of one view, with the columns of the JSON."""
    listing.check(shown.by)
    headings = [Heading("row", "row", "text"), Heading("name", "name", "text"), Heading("class", "class", "text")]
    entries = [Entry(("total", report.target, "", *_total(report)))]
    entries += [Entry((shown.by, row.name or "(model)", row.cls, *_numbers(row))) for row in _rows(report, shown)]
    sheet = Sheet("", (*headings, *(Heading(key, key) for key in _NUMBERS)), tuple(entries), facts=facts(report))
    return table(sheet)


def facts(report: Report) -> dict[str, str]:
    """What holds for every row of a report."""
    origin = report.ledger.trace.origin
    return {
        "target": report.target,
        "input": ", ".join(map(str, origin.get("inputs", []))),
        "convention": report.convention.name,
        "unit": report.unit,
        "not_counted": not_counted(report.uncounted) if report.uncounted else "",
        "warnings": " ".join(report.warnings),
        "versions": listing.versions(report),
    }


def _rows(report: Report, shown: Shown) -> Iterable[Row]:
    if shown.by == "operator":
        return report.by_operator().values()
    if shown.by == "line":
        return [row for part in listing.lines(report) for row in part]
    rows = report.by_module().values()
    return rows if shown.depth is None else [row for row in rows if _depth(row.name) <= shown.depth]


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _numbers(row: Row) -> Sequence[Cell]:
    data: dict[str, Any] = row.to_dict()
    return [data[key] for key in _NUMBERS]


def _total(report: Report) -> Sequence[Cell]:
    """The totals of the JSON; the calls and how many of them were not counted are the sums over all operators."""
    rows = report.by_operator().values()
    data = {**report.to_dict(), **{key: sum(getattr(row, key) for row in rows) for key in ("calls", "uncounted")}}
    return [data[key] for key in _NUMBERS]


def _cell(cell: Cell) -> Any:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return escape(cell)
    return float(cell) if isinstance(cell, (float, Fraction)) else int(cell)


FORMAT = Format("csv", (".csv",), render, table, data=True)
