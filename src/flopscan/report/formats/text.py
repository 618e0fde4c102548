"""The text report: headline, module tree, operators, what was not counted, and how to get the same again."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Sequence

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.report import listing, roofline_text, sheet_text, tree
from flopscan.report.format import Format, Shown
from flopscan.report.layout import KEEP, Column, Line, Row, coloured, middle, plain, table, wrap
from flopscan.report.listing import some
from flopscan.report.numbers import aligned, exact, percent, si
from flopscan.report.report import Report
from flopscan.report.report import Row as Counted
from flopscan.report.roofline import Roofline

NARROWEST = 44
PHASES = ("forward", "backward", "recompute", "optimizer")
_OPERATORS_BELOW_A_TREE = 12
_RANKS = {"value": 0, "macs": 2, "transcendentals": 3, "bytes": 5}


def render(
    report: Report, *, width: int | None = None, depth: int | None = None, by: str = "module", color: bool = False,
    roofline: Roofline | None = None,
) -> str:  # fmt: skip
    """The report as text of ``width`` columns (default: the terminal's), without a newline at the end.

    ``depth`` is how deep the module tree goes (default: as fits a screen), ``by`` what the main table lists. With a
    ``roofline`` modules have a bound on their time too.
    Raises UsageError for an unknown ``by``, and for lines where none were recorded.
    """
    listing.check(by)
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    sections = [headline(report, width), _phases(report, width), *_main(report, width, depth, by, roofline)]
    if roofline is not None:
        sections.append(roofline_text.section(roofline, width))
    sections += [_scan(report, width), _uncounted(report, width), _notes(report, width)]
    sections.append(_origin(report, width, roofline_text.wish(roofline)))
    lines: list[Line] = []
    for section in filter(None, sections):
        lines += [[("", "")], *section] if lines else section
    return coloured(lines) if color else plain(lines)


def _render(report: Report, shown: Shown) -> str:
    return render(report, width=shown.width, depth=shown.depth, by=shown.by, color=shown.color, roofline=shown.roofline)


FORMAT = Format("text", (".txt",), _render, sheet_text.render)


def headline(report: Report, width: int) -> list[Line]:
    """What was counted, and the totals: four digits, then all of them."""
    lines = [[(middle(report.target or "a count", width), "bold")]]
    inputs = report.ledger.trace.origin.get("inputs", [])
    if inputs:
        lines += wrap(", ".join(inputs), width, style="dim")
    rows = []
    for total in listing.totals(report):
        least = "≥" if total.partial else ""
        rows.append((total.title, least + _short(total.value, total.unit), least + exact(total.value)))
    lines += [[("", "")], *_totals(rows, width)]
    for convention in _others(report):
        lines += wrap(_under(report.using(convention)), width, indent="  ", style="cyan")
    return lines


def _short(value: int, unit: str) -> str:
    text = si(value)
    return f"{text}{unit}" if text[-1].isalpha() else f"{text} {unit}".rstrip()


def _totals(rows: Sequence[tuple[str, str, str]], width: int) -> list[Line]:
    """Label, short number, all digits: the short one leaves where there is no room, then each gets its own line."""
    label, short, whole = (max(len(row[i]) for row in rows) for i in range(3))
    lines: list[Line] = []
    for name, brief, digits in rows:
        if label + 2 + short + 2 + whole <= width:
            lines.append([(f"{name:<{label}}  ", ""), (f"{brief:>{short}}", "bold"), (f"  {digits:>{whole}}", "")])
        elif label + 2 + whole <= width:
            lines.append([(f"{name:<{label}}  ", ""), (f"{digits:>{whole}}", "bold")])
        else:
            lines += [[(name, "")], [(f"{digits:>{min(width, whole + 2)}}", "bold")]]
    return lines


def _others(report: Report) -> list[str]:
    """The conventions that get a line of their own: the chosen one, and VMamba's where there is a selective scan."""
    chosen = [report.convention.name] if report.convention.name != "flops" else []
    scans = any("selective_scan" in call.op for call in report.ledger.trace.calls)
    if scans and "vmamba" in conventions.names() and "vmamba" not in chosen:
        chosen.append("vmamba")
    return chosen


def _under(report: Report) -> str:
    value: Amount = report.value
    return (
        f"as {report.convention.name} counts: {si(value)} = {exact(value)} {report.unit} ({report.convention.summary})"
    )


def _phases(report: Report, width: int) -> list[Line]:
    """A row per phase in the order in which they run; nothing where there is only one."""
    rows = report.by_phase()
    order = [*filter(rows.__contains__, PHASES), *(name for name in rows if name not in PHASES)]
    return _counted(report, "phase", [rows[name] for name in order], width) if len(rows) > 1 else []


def _main(report: Report, width: int, depth: int | None, by: str, roofline: Roofline | None) -> list[list[Line]]:
    if by == "line":
        return [_lines(report, width)]
    if by == "operator":
        return [_operators(report, width, None)]
    return [_modules(report, width, depth, roofline), _operators(report, width, _OPERATORS_BELOW_A_TREE)]


def _lines(report: Report, width: int) -> list[Line]:
    """The source lines that cost something; how many do not."""
    shown, free = listing.lines(report)
    lines = _counted(report, "source line", shown, width)
    idle = len(free)
    text = f"free of arithmetic and of bytes: {idle} more line{'s' * (idle > 1)}"
    return lines + (wrap(text, width, indent="  ", style="dim") if idle else [])


def _modules(report: Report, width: int, depth: int | None, roofline: Roofline | None) -> list[Line]:
    nodes = tree.visible(tree.build(report.by_module()), depth)
    if len(nodes) < 2:
        return []
    bounds = {} if roofline is None else roofline.by_module()
    rows = []
    for level, node in nodes:
        name = "  " * level + (node.label or "(model)")
        remark = f"{node.times} x {node.row.cls}" if node.times > 1 else node.row.cls
        cells = [*_cells(report, node.row, node.times, bar=True), aligned(node.row.params * node.times)]
        if roofline is not None:
            cells.append(roofline_text.least_time(bounds[node.row.name], node.times))
        rows.append(Row(((name, remark), *cells)))
    columns = [*_columns(report, "module", bar=True), Column("params", rank=4)]
    columns += [Column("time bound", rank=2)] if roofline is not None else []
    lines, left = table(columns, rows, width)
    return lines + _left(left, width)


def _operators(report: Report, width: int, most: int | None) -> list[Line]:
    """The operators that cost something, at least the uncounted; the others in one sentence."""
    shown, idle = listing.operators(report)
    rest: list[Counted] = []
    if most is not None and len(shown) > most:
        known = [row for row in shown if not row.uncounted]
        rest = known[most - 1 :]
        shown = [row for row in shown if row not in rest]
    lines = _counted(report, "operator", shown, width, rest) if shown else []
    if idle:
        names = ", ".join(f"{row.name}{KEEP}x{row.calls:,}" for row in idle)
        lines += wrap(f"free of arithmetic and of bytes: {names}", width, indent="  ", style="dim")
    return lines


def _counted(
    report: Report, title: str, rows: Iterable[Counted], width: int, rest: Sequence[Counted] = ()
) -> list[Line]:
    """A table with one line per row, and one for all of ``rest``."""
    lines = [
        Row((_name(title, row), exact(row.calls), *_cells(report, row)), "red" if row.uncounted else "") for row in rows
    ]
    if rest:
        others = Counted(
            f"({len(rest)} more)",
            sum(row.value for row in rest),
            sum((row.cost for row in rest[1:]), rest[0].cost),
            sum(row.calls for row in rest),
        )
        lines.append(
            Row(((others.name, f"--by {title} lists all"), exact(others.calls), *_cells(report, others)), "dim")
        )
    first, *numbers = _columns(report, title)
    shown, left = table([first, Column("calls", rank=2), *numbers], lines, width)
    return shown + _left(left, width)


def _name(title: str, row: Counted) -> tuple[str, str]:
    """The name and its remark; of a source line the function is the remark, so that the line's number stays whole."""
    if title != "source line":
        return row.name, ""
    place, _, function = row.name.rpartition(" ")
    return (place, function) if ":" in place else (row.name, "")


def _columns(report: Report, title: str, *, bar: bool = False) -> list[Column]:
    """The columns in the order that they are shown; the chosen convention's value takes the place of FLOPs."""
    columns = [Column(title, "name")]
    if bar:
        columns.append(Column("", "bar", rank=6, room=34, style="green"))
    columns.append(Column("share", rank=1))
    return columns + [
        Column(measure.title, rank=_RANKS[measure.key], style="bold" if measure.key == "value" else "")
        for measure in listing.measures(report)
    ]


def _cells(report: Report, row: Counted, times: int = 1, *, bar: bool = False) -> list[str | float]:
    """The cells of `_columns` after the name; a sum that lacks an uncounted operator is the least it can be."""
    whole, value = int(report.value), row.value * times
    least = "≥" if row.uncounted else ""
    numbers = [measure.of(row) * times for measure in listing.measures(report)]
    if row.uncounted and not any(numbers):
        shown = ["?"] + ["?  "] * len(numbers)
    else:
        shown = [percent(value, whole), *(least + aligned(number) for number in numbers)]
    return [value / whole if whole else 0.0, *shown] if bar else list(shown)


def _left(headers: Sequence[str], width: int) -> list[Line]:
    if not headers:
        return []
    return wrap(f"no room in {width} columns for: {', '.join(headers)}", width, indent="  ", style="dim")


def _scan(report: Report, width: int) -> list[Line]:
    """One scan, every convention: what the scans are under each, and their share of its total."""
    scan = report.scan
    if scan is None:
        return []
    title = f"{', '.join(scan.kinds)}: {scan.calls:,} call{'s' * (scan.calls > 1)}, bdln {exact(scan.states)}"
    lines = wrap(f"{title}; {some(scan.shapes)}", width, indent="  ", style="bold")
    rows = [
        Row(
            (
                (row.convention, row.formula),
                f"{aligned(int(row.value))}",
                row.value.unit,
                f"{row.share:.2%}",
                exact(row.total),
            )
        )
        for row in scan.rows
    ]
    columns = [
        Column("as counted by", "name"), Column("scan", style="bold"), Column("unit", rank=4),
        Column("share", rank=2), Column("of its total", rank=3),
    ]  # fmt: skip
    shown, left = table(columns, rows, width)
    return lines + shown + _left(left, width)


def _uncounted(report: Report, width: int) -> list[Line]:
    """Every operator that no rule could price, with how often, on what, where and why."""
    missing = report.uncounted
    if not missing:
        return [[("not counted: nothing", "green")]]
    lines = wrap("not counted, so that a sum with ≥ is the least it can be:", width, style="bold red")
    for row in missing:
        lines += wrap(f"  {row.op} x{row.count:,}: {row.reason}", width, indent="    ", style="red")
        lines += wrap(f"    on {some(row.shapes)}", width, indent="      ")
        lines += wrap(f"    in {some([path or 'the top level' for path in row.modules])}", width, indent="      ")
    return lines


def _notes(report: Report, width: int) -> list[Line]:
    notes = [*report.ledger.trace.origin.get("notes", []), *report.ledger.notes()]
    return [line for note in notes for line in wrap(f"note: {note}", width, indent="  ")]


def _origin(report: Report, width: int, wish: str) -> list[Line]:
    """The convention, the route and the versions, and the command that gives the same count again."""
    origin = report.ledger.trace.origin
    convention = f"{report.convention.name}: {report.convention.summary}"
    parts = [part for part in (convention, str(origin.get("route", "")), listing.versions(report)) if part]
    lines = wrap(" | ".join(parts), width, indent="  ", style="dim")
    return lines + _command(report.again and report.again + wish, width)


def _command(command: str, width: int) -> list[Line]:
    """The command on as many lines as it needs, each but the last ending in a backslash, so that it can be pasted."""
    if not command:
        return []
    rows = ["again:"]
    for word in _words(command):
        if len(f"{rows[-1]} {word} \\") > width and rows[-1].strip() != "again:":
            rows.append("   ")
        rows[-1] += f" {word}"
    return [[(row + (" \\" if i < len(rows) - 1 else ""), "dim")] for i, row in enumerate(rows)]


def _words(command: str) -> list[str]:
    """The words of a command as the shell reads them, an option together with its value."""
    words: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if words and words[-1].startswith("--") and " " not in words[-1] and not word.startswith("--"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words
