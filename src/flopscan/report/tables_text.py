"""The tables of the text report, phases, modules and operators or lines: their columns stand below one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flopscan.report import listing, roofline_text, selection
from flopscan.report.foot_text import no_room
from flopscan.report.format import Shown
from flopscan.report.layout import KEEP, Column, Line, Row, Table, guides, tables, wrap
from flopscan.report.numbers import aligned, exact, percent
from flopscan.report.report import Report
from flopscan.report.report import Row as Counted
from flopscan.report.roofline import Bounded

PHASES = ("forward", "backward", "recompute", "optimizer")
_OPERATORS_BELOW_A_TREE = 12
_FREE_BELOW_A_TREE = 4
_RANKS = {"value": 0, "macs": 2, "transcendentals": 3, "bytes": 5}
_ROOM_FOR_A_BAR = 34
_BEYOND = 14  # a bar of full length, before anything that only a wide terminal is given
_FAINT = 0.01  # rows with a smaller share are dim


@dataclass(frozen=True)
class Part:
    """A table, and the lines that follow it."""

    table: Table
    below: tuple[Line, ...] = ()


def sections(report: Report, shown: Shown, width: int) -> list[list[Line]]:
    """The phases where there are several, then modules and operators, or what ``shown`` asks for instead."""
    parts = [*_phases(report), *_main(report, shown, width)]
    found = []
    for part, (lines, left) in zip(parts, tables([part.table for part in parts], width), strict=True):
        found.append([*lines, *no_room(left, width), *part.below])
    return found


def _main(report: Report, shown: Shown, width: int) -> list[Part]:
    if shown.by == "line":
        return [_lines(report, shown, width)]
    if shown.by == "operator":
        return _operators(report, shown, width, None)
    return _modules(report, shown, width) + _operators(report, shown, width, _OPERATORS_BELOW_A_TREE)


def _phases(report: Report) -> list[Part]:
    """A row per phase in the order in which they run; nothing where there is only one."""
    rows = report.by_phase()
    order = [*filter(rows.__contains__, PHASES), *(name for name in rows if name not in PHASES)]
    return [Part(_counted(report, "phase", [rows[name] for name in order]))] if len(rows) > 1 else []


def _modules(report: Report, shown: Shown, width: int) -> list[Part]:
    """The tree; nothing where there is only the model itself."""
    nodes, hidden = selection.modules(report, shown.depth, shown.min_share, shown.sort)
    if len(nodes) < 2 and not hidden.rows:
        return []
    bounds: dict[str, Bounded] = {} if shown.roofline is None else dict(shown.roofline.by_module())
    rows = []
    for (_, node), drawn in zip(nodes, guides([level for level, _ in nodes]), strict=True):
        cells = _cells(report, node.row, aligned(node.row.params * node.times), node.times)
        if bounds:
            cells.append(roofline_text.least_time(bounds[node.row.name], node.times))
        rows.append(
            Row(((drawn + (node.label or "(model)"), node.remark), *cells), _style(report, node.row, node.times))
        )
    columns = _columns(report, "module", "params")
    columns += [Column("time bound", rank=2)] if bounds else []
    told = hidden.told(report, shown.min_share, "module")
    return [Part(Table(columns, rows), tuple(wrap(told, width, indent="  ", style="dim")))]


def _operators(report: Report, shown: Shown, width: int, most: int | None) -> list[Part]:
    """The operators that cost something, at least the uncounted; the others in one row or one sentence."""
    costly, idle = listing.operators(report)
    rows, small = selection.rows(costly, report, shown.min_share, shown.sort)
    rest: list[Counted] = []
    if most is not None and len(rows) > most:
        known = [row for row in rows if not row.uncounted]
        rest = known[most - 1 :]
        rows = [row for row in rows if row not in rest]
    below = _free([f"{row.name}{KEEP}x{row.calls:,}" for row in idle], None if most is None else _FREE_BELOW_A_TREE)
    advice = "--by operator" if rest else f"under {shown.min_share:g}%"
    table = _counted(report, "operator", rows, [*rest, *small], advice)
    return [Part(table, tuple(wrap(below, width, indent="  ", style="dim")))] if table.rows or below else []


def _free(names: Sequence[str], most: int | None) -> str:
    """What neither computes nor moves anything, in a sentence."""
    if not names:
        return ""
    told = (
        names if most is None or len(names) <= most + 1 else [*names[:most], f"and{KEEP}{len(names) - most}{KEEP}more"]
    )
    return f"free of arithmetic and of bytes: {', '.join(told)}"


def _lines(report: Report, shown: Shown, width: int) -> Part:
    """The source lines that cost something; how many do not."""
    costly, free = listing.lines(report)
    rows, small = selection.rows(costly, report, shown.min_share, shown.sort)
    text = f"free of arithmetic and of bytes: {len(free)} more line{'s' * (len(free) > 1)}" if free else ""
    table = _counted(report, "source line", rows, small, f"under {shown.min_share:g}%")
    return Part(table, tuple(wrap(text, width, indent="  ", style="dim")))


def _counted(
    report: Report, title: str, rows: Iterable[Counted], rest: Sequence[Counted] = (), advice: str = ""
) -> Table:
    """A table with one line per row, and one for all of ``rest``; ``advice`` says why."""
    lines = [Row((_name(title, row), *_cells(report, row, f"{row.calls:,}")), _style(report, row, 1)) for row in rows]
    if rest:
        others = Counted(
            f"({len(rest)} more: {advice})",
            sum(row.value for row in rest),
            sum((row.cost for row in rest[1:]), rest[0].cost),
            sum(row.calls for row in rest),
        )
        lines.append(Row(((others.name, ""), *_cells(report, others, f"{others.calls:,}")), "dim"))
    return Table(_columns(report, title, "calls"), lines)


def _style(report: Report, row: Counted, times: int) -> str:
    """What was not counted stands out, what hardly matters steps back."""
    if row.uncounted and not any((row.value, row.cost.read, row.cost.written)):
        return "red"
    whole = int(report.value)
    return "dim" if whole and not row.uncounted and row.value * times < _FAINT * whole else ""


def _name(title: str, row: Counted) -> tuple[str, str]:
    """The name and its remark; of a source line the function is the remark, so that the line's number stays whole."""
    if title != "source line":
        return row.name, ""
    place, _, function = row.name.rpartition(" ")
    return (place, function) if ":" in place else (row.name, "")


def _columns(report: Report, title: str, last: str) -> list[Column]:
    """The columns in the order that they are shown; the chosen convention's value takes the place of FLOPs."""
    measures = listing.measures(report)
    return [
        Column(title, "name"),
        Column("", "bar", rank=6, room=_ROOM_FOR_A_BAR, style="green"),
        Column("share", rank=1),
        *(Column(m.title, rank=_RANKS[m.key], style="bold" if m.key == "value" else "") for m in measures),
        Column(last, rank=4),
        Column("FLOP/B", rank=7, beyond=_BEYOND),
        Column(f"{measures[0].title}, all digits", rank=8, beyond=_BEYOND),
    ]


def _cells(report: Report, row: Counted, last: str, times: int = 1) -> list[str | float]:
    """The cells of `_columns` after the name; a sum that lacks an uncounted operator is the least it can be."""
    whole, value = int(report.value), row.value * times
    least = "≥" if row.uncounted else ""
    numbers = [measure.of(row) * times for measure in listing.measures(report)]
    if row.uncounted and not any(numbers):
        return [0.0, "?", *["?  "] * len(numbers), last, "?", "?"]
    moved = row.cost.read + row.cost.written
    intensity = roofline_text.ratio(int(row.flops) / moved) if moved else "-"
    share = value / whole if whole else 0.0
    shorts = (least + aligned(number) for number in numbers)
    return [share, percent(value, whole), *shorts, last, "?" if least else intensity, least + exact(value)]
