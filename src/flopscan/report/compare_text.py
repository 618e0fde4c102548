"""A comparison of two reports as text: totals with all digits, then the modules and operators that differ."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence

from flopscan import conventions
from flopscan.errors import UsageError
from flopscan.report.choices import NARROWEST
from flopscan.report.compare import MEASURES, Change, Comparison, Side
from flopscan.report.compare_tree import deepest, remark, tree, visible
from flopscan.report.layout import KEEP, Column, Line, Row, coloured, plain, table, wrap
from flopscan.report.numbers import aligned, exact, percent

_OPERATORS = 16
_LABELS = {
    "flops": "FLOPs",
    "macs": "MACs",
    "transcendentals": "exp, log, trig",
    "bytes_read": "bytes read",
    "bytes_written": "bytes written",
    "params": "parameters",
}
_STYLES = {"added": "green", "removed": "red"}


def render(found: Comparison, *, width: int | None = None, depth: int | None = None, color: bool = False) -> str:
    """The comparison as text of ``width`` columns (default: the terminal's), without a newline at the end.

    ``depth`` is how deep the tree of modules goes (default: as fits a screen).
    """
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    sections = [_sides(found, width), _totals(found, width)]
    if found.same:
        sections.append([[("no difference: every number of every module and operator is the same", "green")]])
    sections += [_modules(found, width, depth), _operators(found, width), _uncounted(found, width), _ways(found, width)]
    lines: list[Line] = []
    for section in filter(None, sections):
        lines += [[("", "")], *section] if lines else section
    return coloured(lines) if color else plain(lines)


def _sides(found: Comparison, width: int) -> list[Line]:
    """What A and B are."""
    lines: list[Line] = []
    for letter, side in zip("AB", found.sides, strict=True):
        lines += wrap(f"{letter}  {_described(side)}", width, indent="   ", style="bold")
    return lines


def _described(side: Side) -> str:
    name = side.target if side.name in ("", side.target) else f"{side.name}: {side.target or 'a count'}"
    return f"{name}, on {', '.join(side.inputs)}" if side.inputs else name


def _totals(found: Comparison, width: int) -> list[Line]:
    """Every total of both with all digits."""
    total, rows = found.total, []
    labels = {"value": f"as {found.convention} counts, {found.unit}"} if found.convention not in _LABELS else {}
    for measure, label in {**labels, **_LABELS}.items():
        a, b = ((sizes or {}).get(measure, 0) for sizes in (total.first, total.second))
        rows.append(Row(((label, ""), exact(a), exact(b), f"{b - a:+,}" if a != b else "=", _part(a, b))))
    columns = [
        Column("", "name"), Column("A"), Column("B"), Column("B - A", rank=1, style="bold"), Column("", rank=2),
    ]  # fmt: skip
    lines, left = table(columns, rows, width)
    return lines + _left(left, width)


def _part(a: int, b: int) -> str:
    """The change as a part of what was: two decimals below ten percent."""
    return ("+" if b > a else "-") + percent(abs(b - a), a) if a and a != b else ""


def _left(headers: Sequence[str], width: int) -> list[Line]:
    return wrap(f"no room in {width} columns for: {', '.join(headers)}", width, style="dim") if headers else []


def _modules(found: Comparison, width: int, depth: int | None) -> list[Line]:
    if not found.modules:
        return []
    nodes, hidden = visible(tree(found.total, found.modules), depth)
    rows = []
    for level, node in nodes:
        name = "  " * level + (node.label or "(model)")
        rows.append(Row(((name, remark(node)), *_cells(node.change, node.times)), _STYLES.get(node.change.how, "")))
    lines = _table(found, "module", rows, width, ("params", "bytes", "exp/log"))
    return lines + (
        wrap(f"{hidden} more below these: --depth {deepest(nodes) + 1}", width, style="dim") if hidden else []
    )


def _operators(found: Comparison, width: int) -> list[Line]:
    """The operators whose cost differs, largest change first; of the others the calls, in one sentence."""
    if not found.operators:
        return []
    costs = [c for c in found.operators if any(c.amount(m) for m in MEASURES if m != "calls")]
    shown = costs if len(costs) <= _OPERATORS else costs[: _OPERATORS - 1]
    rows = [Row(((c.name, ""), *_cells(c, 1, calls=True)), _STYLES.get(c.how, "")) for c in shown]
    lines = _table(found, "operator", rows, width, ("calls", "bytes", "exp/log")) if rows else []
    if len(costs) > len(shown):
        lines += wrap(f"{len(costs) - len(shown)} more with smaller changes: --format json has all", width, style="dim")
    idle = [c for c in found.operators if c not in costs]
    if idle:
        names = ", ".join(f"{c.name}{KEEP}{c.amount('calls'):+,}" for c in idle)
        lines += wrap(f"other numbers of calls, at no cost: {names}", width, indent="  ", style="dim")
    return lines


def _cells(change: Change, times: int, *, calls: bool = False) -> list[str]:
    """A, B, the difference, its part; then those of parameters (or calls), bytes and exp/log."""
    a, b = ((None if sizes is None else sizes.get("value", 0) * times) for sizes in (change.first, change.second))
    moved = change.amount("bytes_read") + change.amount("bytes_written")
    other = change.amount("calls" if calls else "params")
    return [
        *("-  " if value is None else aligned(value) for value in (a, b)),
        _signed((b or 0) - (a or 0)),
        change.how if a is None or b is None else _part(a, b),
        f"{other * times:+,}" if calls and other else _signed(other * times),
        _signed(moved * times),
        _signed(change.amount("transcendentals") * times),
    ]


def _signed(value: int) -> str:
    return f"{'+' * (value > 0)}{aligned(value)}" if value else "=  "


def _table(found: Comparison, title: str, rows: Sequence[Row], width: int, more: Sequence[str]) -> list[Line]:
    """A table under a line that says in what its numbers are."""
    head = wrap(f"by {title}, under {found.convention} ({found.unit})", width, style="dim")
    columns = [
        Column(title, "name"), Column("A", rank=2), Column("B", rank=1), Column("B - A", style="bold"),
        Column("", rank=0), *(Column(header, rank=3 + i, room=30) for i, header in enumerate(more)),
    ]  # fmt: skip
    lines, left = table(columns, rows, width)
    return head + lines + _left(left, width)


def _uncounted(found: Comparison, width: int) -> list[Line]:
    """What neither or one of the two could count: the sums of that one are the least that they can be."""
    if not any(side.uncounted for side in found.sides):
        return [[("not counted: nothing, in A and in B", "green")]]
    lines: list[Line] = []
    for letter, side in zip("AB", found.sides, strict=True):
        names = ", ".join(f"{row['op']}{KEEP}x{row['count']:,}" for row in side.uncounted) or "nothing"
        lines += wrap(f"not counted in {letter}: {names}", width, indent="  ", style="red" if side.uncounted else "")
    return lines


def _ways(found: Comparison, width: int) -> list[Line]:
    """The convention, and the versions and routes: of both, where they differ."""
    one, two = found.sides
    parts = [found.convention]
    with contextlib.suppress(UsageError):  # a saved report may name one that this version does not have
        parts = [f"{found.convention}: {conventions.get(found.convention).summary}"]
    parts.append(one.route if one.route == two.route else f"{one.route} in A, {two.route} in B")
    for name in dict.fromkeys((*one.versions, *two.versions)):
        a, b = one.versions.get(name, "unknown"), two.versions.get(name, "unknown")
        parts.append(f"{name} {a}" if a == b else f"{name} {a} in A, {b} in B")
    return wrap(" | ".join(filter(None, parts)), width, indent="  ", style="dim")
