"""The foot of the text report: the scans under every convention, what was not counted, where the numbers come from."""

from __future__ import annotations

import shlex

from flopscan.report import listing
from flopscan.report.layout import Column, Line, Row, table, wrap
from flopscan.report.listing import some
from flopscan.report.numbers import aligned, exact
from flopscan.report.report import Report


def scan(report: Report, width: int) -> list[Line]:
    """One scan, every convention: what the scans are under each, and their share of its total."""
    found = report.scan
    if found is None:
        return []
    title = f"{', '.join(found.kinds)}: {found.calls:,} call{'s' * (found.calls > 1)}, bdln {exact(found.states)}"
    lines = wrap(f"{title}; {some(found.shapes)}", width, indent="  ", style="bold")
    rows = [
        Row((
            (row.convention, row.formula), aligned(int(row.value)), row.value.unit, f"{row.share:.2%}",
            exact(row.total),
        ))
        for row in found.rows
    ]  # fmt: skip
    columns = [
        Column("as counted by", "name", spill=True), Column("scan", style="bold"), Column("unit", rank=4),
        Column("share", rank=2), Column("of its total", rank=3),
    ]  # fmt: skip
    shown, left = table(columns, rows, width)
    return lines + shown + no_room(left, width)


def no_room(headers: list[str], width: int) -> list[Line]:
    """Which columns had to leave."""
    if not headers:
        return []
    return wrap(f"no room in {width} columns for: {', '.join(headers)}", width, indent="  ", style="dim")


def uncounted(report: Report, width: int) -> list[Line]:
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


def notes(report: Report, width: int) -> list[Line]:
    """What a reader must know of the count."""
    told = [*report.ledger.trace.origin.get("notes", []), *report.ledger.notes()]
    return [line for note in told for line in wrap(f"note: {note}", width, indent="  ")]


def origin(report: Report, width: int, wish: str) -> list[Line]:
    """The convention, the route and the versions, and the command that gives the same count again."""
    source = report.ledger.trace.origin
    convention = f"{report.convention.name}: {report.convention.summary}"
    parts = [part for part in (convention, str(source.get("route", "")), listing.versions(report)) if part]
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
