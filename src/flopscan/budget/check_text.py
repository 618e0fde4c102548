"""A check as text: what is fine in a line, of the rest the totals, what grew, where it comes from, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from flopscan.budget import findings, measures
from flopscan.budget.check import FAILED, GREW, SHRANK, Moved, Outcome
from flopscan.budget.measures import PARAMS
from flopscan.budget.sources import Source
from flopscan.report import compare_tree
from flopscan.report.choices import NARROWEST
from flopscan.report.compare import Change
from flopscan.report.layout import Column, Line, Row, coloured, plain, table, wrap
from flopscan.report.numbers import aligned, exact

_OPERATORS = 12
_STYLES = {FAILED: "red", GREW: "red", SHRANK: "yellow"}
_TITLES = {FAILED: "could not be counted", GREW: "is not within its budget", SHRANK: "costs less than its lock says"}


def render(
    outcomes: Sequence[Outcome], path: str, *, width: int | None = None, depth: int | None = None, color: bool = False
) -> str:
    """The outcomes of checking the lock in ``path``, in ``width`` columns (default: the terminal's)."""
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    lines = _head(outcomes, path, width)
    for outcome in outcomes:
        if outcome.status in _TITLES:
            lines += [[("", "")], *_body(outcome, path, width, depth)]
    return coloured(lines) if color else plain(lines)


def _head(outcomes: Sequence[Outcome], path: str, width: int) -> list[Line]:
    """A line a target."""
    bad = sum(not outcome.ok for outcome in outcomes)
    verdict = findings.verdict(outcomes)
    rows = []
    for outcome in outcomes:
        first = outcome.entry.conventions[0] if outcome.entry.conventions else PARAMS
        now = (outcome.total.second or {}).get(first)
        shown = "-" if now is None else f"{exact(now)} {measures.unit(first)}"
        words = _TITLES.get(outcome.status, "as locked")
        rows.append(Row(((outcome.name, ""), shown, (words, "")), _STYLES.get(outcome.status, "green")))
    body, left = table([Column("target", "name"), Column("now", rank=1), Column("", "name")], rows, width)
    head = wrap(f"{path}: {verdict}", width, style="bold red" if bad else "bold green")
    return [*head, [("", "")], *body, *_left(left, width)]


def _body(outcome: Outcome, path: str, width: int, depth: int | None) -> list[Line]:
    style = _STYLES[outcome.status]
    lines = wrap(f"{outcome.name} {_TITLES[outcome.status]}{_inputs(outcome)}", width, style=f"bold {style}")
    if outcome.error:
        return lines + wrap(f"  {' '.join(outcome.error.split())}", width, indent="  ", style=style)
    lines += _totals(outcome, width)
    texts = [findings.broken(held) for held in outcome.broken]
    texts += [findings.uncounted(op, *counts) for op, counts in (outcome.newly_uncounted or {}).items()]
    for text in texts:
        lines += wrap(text, width, indent="  ", style="red")
    for title, moved in (("what grew", outcome.grown), ("what shrank", outcome.shrunk)):
        lines += _moved(outcome, moved, title, width, depth)
    lines += _sources(outcome, width)
    return lines + _advice(outcome, path, width)


def _inputs(outcome: Outcome) -> str:
    return f", on {', '.join(outcome.entry.inputs)}" if outcome.entry.inputs and not outcome.error else ""


def _totals(outcome: Outcome, width: int) -> list[Line]:
    rows = []
    for key in outcome.entry.measures:
        a, b = findings.amounts(outcome.total, key)
        moved = (f"{b - a:+,}", findings.part(a, b) if a else "") if a != b else ("=", "")
        rows.append(Row(((measures.label(key), ""), exact(a), exact(b), *moved)))
    columns = [
        Column("", "name"), Column("locked"), Column("now"), Column("change", rank=1, style="bold"), Column("", rank=2),
    ]  # fmt: skip
    lines, left = table(columns, rows, width)
    return lines + _left(left, width)


def _moved(outcome: Outcome, moved: Moved, title: str, width: int, depth: int | None) -> list[Line]:
    """The modules, as a tree, and the operators that moved."""
    if not moved.measures:
        return []
    lines: list[Line] = [[("", "")]]
    first, *others = moved.measures
    others = [*others, *(key for key in outcome.entry.measures if key not in moved.measures)]
    if moved.modules:
        root = compare_tree.tree(outcome.total, moved.modules)
        nodes, _ = compare_tree.visible(root, depth)
        rows = [Row((_name(level, node), *_cells(node.change, node.times, first, others))) for level, node in nodes]
        lines += _table(f"{title}, by module", first, others, rows, width)
    shown = moved.operators[:_OPERATORS]
    if shown:
        rows = [Row(((change.name, ""), *_cells(change, 1, first, others))) for change in shown]
        lines += [[("", "")]] if moved.modules else []
        lines += _table(f"{title}, by operator", first, others, rows, width)
    return lines


def _name(level: int, node: compare_tree.Node) -> tuple[str, str]:
    return "  " * level + (node.label or "(model)"), compare_tree.remark(node)


def _cells(change: Change, times: int, first: str, others: Sequence[str]) -> list[str]:
    """Locked, now and the change of the measure ``first``; of ``others`` the change."""
    a, b = (None if side is None else side.get(first, 0) * times for side in (change.first, change.second))
    return [
        *("-  " if value is None else aligned(value) for value in (a, b)),
        *(_signed(change.amount(key) * times) for key in (first, *others)),
    ]


def _signed(value: int) -> str:
    return f"{'+' * (value > 0)}{aligned(value)}" if value else "=  "


def _table(title: str, first: str, others: Sequence[str], rows: Sequence[Row], width: int) -> list[Line]:
    columns = [
        Column(title, "name"), Column("locked", rank=2), Column("now", rank=1),
        Column(measures.label(first), style="bold"),
        *(Column(measures.label(key), rank=3 + i, room=30) for i, key in enumerate(others)),
    ]  # fmt: skip
    lines, left = table(columns, rows, width)
    return lines + _left(left, width)


def _sources(outcome: Outcome, width: int) -> list[Line]:
    """The lines that stand behind what grew or is not counted."""
    lines: list[Line] = []
    for title, found in (("where it comes from", outcome.sources), ("where it is called", outcome.blind)):
        if found:
            header = measures.label(found[0].measure)
            columns = [Column(title, "name"), Column(header), Column("operators", "name", rank=1)]
            body, left = table(columns, [_source(line) for line in found], width)
            lines += [[("", "")], *body, *_left(left, width)]
    return lines


def _source(line: Source) -> Row:
    place = f"{line.file}:{line.line}", line.function
    return Row((place, aligned(line.value) if line.value else "-  ", (_names(line.operators), "")))


def _names(operators: Sequence[str]) -> str:
    return operators[0] if len(operators) == 1 else f"{operators[0]} and {len(operators) - 1} more"


def _advice(outcome: Outcome, path: str, width: int) -> list[Line]:
    """What else explains it, and how to accept it."""
    texts = []
    if outcome.newly_counted:
        texts.append(f"counted now, and not when it was locked: {', '.join(outcome.newly_counted)}")
    changed = [f"{name} {a} -> {b}" for name, (a, b) in (outcome.versions or {}).items()]
    if changed:
        texts.append(f"other versions than when it was locked: {', '.join(changed)}")
    if outcome.grown.measures or outcome.shrunk.measures or outcome.newly_uncounted:
        wish = "to keep it so" if outcome.ok else "if this is meant"
        texts.append(f"{wish}: {findings.accepting(outcome, path)}")
    lines: list[Line] = [[("", "")]] if texts else []
    for text in texts:
        lines += wrap(text, width, indent="  ", style="dim")
    return lines


def _left(headers: Sequence[str], width: int) -> list[Line]:
    named = [header for header in headers if header]
    return wrap(f"no room in {width} columns for: {', '.join(named)}", width, style="dim") if named else []
