"""A report as a sheet: the table of a paper or a README, with a footnote that says how its numbers came about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from flopscan.core.ledger import Uncounted
from flopscan.report import listing, selection
from flopscan.report.format import Shown
from flopscan.report.numbers import exact
from flopscan.report.report import Report, Row
from flopscan.report.sheet import Cell, Entry, Heading, Sheet
from flopscan.report.tree import Node

_NAMES = {"module": "module", "operator": "operator", "line": "source line"}


def sheet(report: Report, shown: Shown) -> Sheet:
    """The main table of a report as people read it. Raises UsageError for a view that there is not."""
    listing.check(shown.by)
    selection.check(shown.sort, shown.by)
    measures = listing.measures(report)
    counts = [Heading(m.key, m.title, partial=True) for m in measures]
    name, share = Heading("name", _NAMES[shown.by], "text"), Heading("share", "share", "share", partial=True)
    if shown.by == "module":
        headings = (name, share, *counts, Heading("params", "params"))
        nodes, hidden = selection.modules(report, shown.depth, shown.min_share, shown.sort)
        entries = _modules(report, measures, nodes)
    else:
        headings = (name, Heading("calls", "calls", power=0), share, *counts)
        entries, hidden = _rows(report, measures, shown)
    title = f"Cost of {report.target or 'a count'} by {_NAMES[shown.by]}"
    told = hidden.told(report, shown.min_share, _NAMES[shown.by])
    notes = (f"{told[:1].upper()}{told[1:]}.",) if told else ()
    return Sheet(title, headings, tuple(entries), (*notes, *footnotes(report)), again=report.again)


def _modules(report: Report, measures: Sequence[listing.Measure], nodes: Iterable[tuple[int, Node]]) -> Iterable[Entry]:
    """The tree as the text shows it: identical siblings are one row, of all of them together."""
    for level, node in nodes:
        row, times = node.row, node.times
        cells = (node.label or "(model)", *_cells(report, measures, row, times), row.params * times)
        yield Entry(cells, node.remark, level, bool(row.uncounted), frozenset() if level else None)


def _rows(report: Report, measures: Sequence[listing.Measure], shown: Shown) -> tuple[list[Entry], selection.Hidden]:
    """What costs something, and below it the sum of all; and what of it is too small to be shown."""
    rows, free = listing.lines(report) if shown.by == "line" else listing.operators(report)
    large, small = selection.rows(rows, report, shown.min_share, shown.sort)
    found = [Entry((row.name, row.calls, *_cells(report, measures, row)), least=bool(row.uncounted)) for row in large]
    calls = sum(row.calls for row in [*rows, *free])
    total = Row("total", int(report.value), report.cost, calls, uncounted=sum(row.uncounted for row in rows))
    cells = (total.name, calls, *_cells(report, measures, total))
    found.append(Entry(cells, least=bool(total.uncounted), strong=None))
    return found, selection.Hidden(len(small), sum(row.value for row in small))


def _cells(report: Report, measures: Sequence[listing.Measure], row: Row, times: int = 1) -> list[Cell]:
    """Share and measures; all unknown where nothing of a row was counted."""
    whole = int(report.value)
    numbers: list[Cell] = [measure.of(row) * times for measure in measures]
    if row.uncounted and not any(numbers):
        return [None] * (1 + len(numbers))
    return [Fraction(row.value * times, whole) if whole else None, *numbers]


def footnotes(report: Report) -> tuple[str, ...]:
    """Convention, input, exact totals, what was not counted or counted as zero, remarks, versions: a sentence each."""
    origin = report.ledger.trace.origin
    inputs = ", ".join(map(str, origin.get("inputs", [])))
    totals = [
        f"{total.title.strip()} {'≥' if total.partial else ''}{exact(total.value)}" for total in listing.totals(report)
    ]
    if report.convention.name not in ("flops", "macs"):
        least = "≥" if report.uncounted else ""
        totals.insert(0, f"{report.convention.name} {least}{exact(report.value)} {report.unit}")
    notes = [
        f"Convention {report.convention.name}: {report.convention.summary}; unit {report.unit}.",
        f"Input: {inputs}." if inputs else "",
        f"Exact totals: {'; '.join(totals)}.",
        not_counted(report.uncounted),
        *report.warnings,
        *(f"Note: {note}." for note in (*origin.get("notes", []), *report.ledger.notes())),
        made_with(listing.versions(report), str(origin.get("route", ""))),
    ]
    return tuple(filter(None, notes))


def made_with(versions: str, route: str = "") -> str:
    """The versions, and how the model was captured, as a sentence; empty where nothing is known."""
    known = "; ".join(filter(None, (versions, route and f"captured {route}")))
    return f"Counted with {known}." if known else ""


def not_counted(missing: Sequence[Uncounted]) -> str:
    """Every operator that no rule could price, or that there is none."""
    if not missing:
        return "Not counted: nothing."
    told = listed([(row.op, row.count, row.reason) for row in missing])
    return f"Not counted, so that a sum with ≥ is the least it can be: {told}."


def listed(missing: Iterable[tuple[str, int, str]]) -> str:
    """Operators, how often each was called, and why they have no price, in words."""
    return "; ".join(f"{op} x{count:,} ({reason})" for op, count, reason in missing)
