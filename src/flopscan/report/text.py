"""The text report: headline, module tree, operators, what was not counted, and how to get the same again."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Sequence

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.errors import UsageError
from flopscan.report import tree
from flopscan.report.layout import KEEP, Column, Line, Row, coloured, middle, plain, table, wrap
from flopscan.report.numbers import aligned, exact, percent, si
from flopscan.report.report import Report
from flopscan.report.report import Row as Counted

NARROWEST = 44
VIEWS = ("module", "operator", "line")
_OPERATORS_BELOW_A_TREE = 12


def render(
    report: Report, *, width: int | None = None, depth: int | None = None, by: str = "module", color: bool = False
) -> str:
    """The report as text of ``width`` columns (default: the terminal's), without a newline at the end.

    ``depth`` is how deep the module tree goes (default: as fits a screen), ``by`` what the main table lists.
    Raises UsageError for an unknown ``by``, and for lines where none were recorded.
    """
    if by not in VIEWS:
        raise UsageError(f"cannot show a report by {by!r}; expected {', '.join(VIEWS[:-1])} or {VIEWS[-1]}")
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    sections = [headline(report, width), _phases(report, width), *_main(report, width, depth, by)]
    sections += [_uncounted(report, width), _notes(report, width), _origin(report, width)]
    lines: list[Line] = []
    for section in filter(None, sections):
        lines += [[("", "")], *section] if lines else section
    return coloured(lines) if color else plain(lines)


def headline(report: Report, width: int) -> list[Line]:
    """What was counted, and the totals: four digits, then all of them."""
    lines = [[(middle(report.target or "a count", width), "bold")]]
    inputs = report.ledger.trace.origin.get("inputs", [])
    if inputs:
        lines += wrap(", ".join(inputs), width, style="dim")
    least = " (at least)" if report.uncounted else ""
    executed = report.executed_flops
    rows = [
        (f"FLOPs{least}", si(report.flops), exact(report.flops)),
        (f"MACs{least}", si(report.macs), exact(report.macs)),
        (f"exp, log, trig{least}", si(report.transcendentals), exact(report.transcendentals)),
        (f"bytes moved{least}", *_bytes(report.bytes_read + report.bytes_written)),
        ("parameters", si(report.params), exact(report.params)),
    ]
    if executed != report.flops:
        rows.insert(1, (f"  as executed{least}", si(executed), exact(executed)))
    lines += [[("", "")], *_totals(rows, width)]
    for convention in _others(report):
        lines += wrap(_under(report.using(convention)), width, indent="  ", style="cyan")
    return lines


def _bytes(amount: int) -> tuple[str, str]:
    text = si(amount)
    return f"{text}B" if text[-1].isalpha() else f"{text} B", exact(amount)


def _totals(rows: Sequence[tuple[str, str, str]], width: int) -> list[Line]:
    """Label, short number, all digits; the short one leaves first where the width is small."""
    label, short, whole = (max(len(row[i]) for row in rows) for i in range(3))
    both = label + 2 + short + 2 + whole <= width
    lines: list[Line] = []
    for name, brief, digits in rows:
        if both:
            lines.append([(f"{name:<{label}}  ", ""), (f"{brief:>{short}}", "bold"), (f"  {digits:>{whole}}", "")])
        else:
            gap = max(2, width - len(name) - len(digits))
            lines.append([(name + " " * min(gap, label + 2 + whole - len(name) - len(digits)), ""), (digits, "bold")])
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
    rows = report.by_phase()
    return _counted(report, "phase", rows.values(), width) if len(rows) > 1 else []


def _main(report: Report, width: int, depth: int | None, by: str) -> list[list[Line]]:
    if by == "line":
        rows = report.by_line()
        if not rows:
            raise UsageError(
                "this count has no source lines; count with --by line, trace with --lines, or pass lines=True"
            )
        return [_counted(report, "source line", rows.values(), width)]
    if by == "operator":
        return [_operators(report, width, None)]
    return [_modules(report, width, depth), _operators(report, width, _OPERATORS_BELOW_A_TREE)]


def _modules(report: Report, width: int, depth: int | None) -> list[Line]:
    nodes = tree.visible(tree.build(report.by_module()), depth)
    if len(nodes) < 2:
        return []
    rows = []
    for level, node in nodes:
        name = "  " * level + (node.label or "(model)")
        remark = f"{node.times} x {node.row.cls}" if node.times > 1 else node.row.cls
        rows.append(
            Row(
                ((name, remark), *_cells(report, node.row, node.times, bar=True), aligned(node.row.params * node.times))
            )
        )
    lines, left = table([*_columns(report, "module", bar=True), Column("params", rank=4)], rows, width)
    return lines + _left(left, width)


def _operators(report: Report, width: int, most: int | None) -> list[Line]:
    """The operators that cost something, at least the uncounted; the others in one sentence."""
    rows = list(report.by_operator().values())
    shown = [row for row in rows if row.value or row.uncounted or any(row.cost.values())]
    idle = [row for row in rows if row not in shown]
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
        Row(((row.name, ""), exact(row.calls), *_cells(report, row)), "red" if row.uncounted else "") for row in rows
    ]
    if rest:
        others = Counted(
            f"({len(rest)} others; --by {title} lists them)",
            sum(row.value for row in rest),
            sum((row.cost for row in rest[1:]), rest[0].cost),
            sum(row.calls for row in rest),
        )
        lines.append(Row(((others.name, ""), exact(others.calls), *_cells(report, others)), "dim"))
    first, *numbers = _columns(report, title)
    shown, left = table([first, Column("calls", rank=2), *numbers], lines, width)
    return shown + _left(left, width)


def _columns(report: Report, title: str, *, bar: bool = False) -> list[Column]:
    """The columns in the order that they are shown; the chosen convention's value takes the place of FLOPs."""
    convention = report.convention.name
    columns = [Column(title, "name")]
    if bar:
        columns.append(Column("", "bar", rank=6, room=34, style="green"))
    columns += [Column("share", rank=1), Column("FLOPs" if convention == "flops" else convention, style="bold")]
    if convention != "macs":
        columns.append(Column("MACs", rank=2))
    return [*columns, Column("exp/log", rank=3), Column("bytes", rank=5)]


def _cells(report: Report, row: Counted, times: int = 1, *, bar: bool = False) -> list[str | float]:
    """The cells of `_columns` after the name; a sum that lacks an uncounted operator is the least it can be."""
    whole, value = int(report.value), row.value * times
    least = "≥" if row.uncounted else ""
    numbers = [value, row.macs * times, row.transcendentals * times, (row.cost.read + row.cost.written) * times]
    if report.convention.name == "macs":
        del numbers[1]
    if row.uncounted and not any(numbers):
        shown = ["?"] + ["?  "] * len(numbers)
    else:
        shown = [percent(value, whole), *(least + aligned(number) for number in numbers)]
    return [value / whole if whole else 0.0, *shown] if bar else list(shown)


def _left(headers: Sequence[str], width: int) -> list[Line]:
    if not headers:
        return []
    return wrap(f"no room in {width} columns for: {', '.join(headers)}", width, indent="  ", style="dim")


def _uncounted(report: Report, width: int) -> list[Line]:
    """Every operator that no rule could price, with how often, on what, where and why."""
    missing = report.uncounted
    if not missing:
        return [[("not counted: nothing", "green")]]
    lines: list[Line] = [[("not counted:", "bold red")]]
    for row in missing:
        lines += wrap(f"  {row.op} x{row.count:,}: {row.reason}", width, indent="    ", style="red")
        lines += wrap(f"    on {_some(row.shapes)}", width, indent="      ")
        lines += wrap(f"    in {_some([path or 'the top level' for path in row.modules])}", width, indent="      ")
    return lines


def _some(items: Sequence[str], most: int = 3) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more


def _notes(report: Report, width: int) -> list[Line]:
    notes = [*report.ledger.trace.origin.get("notes", []), *report.ledger.notes()]
    return [line for note in notes for line in wrap(f"note: {note}", width, indent="  ")]


def _origin(report: Report, width: int) -> list[Line]:
    """The convention, the route and the versions, and the command that gives the same count again."""
    origin = report.ledger.trace.origin
    versions = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())
    convention = f"{report.convention.name}: {report.convention.summary}"
    parts = [part for part in (convention, str(origin.get("route", "")), versions) if part]
    lines = wrap(" | ".join(parts), width, indent="  ", style="dim")
    return lines + _command(report.again, width)


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
