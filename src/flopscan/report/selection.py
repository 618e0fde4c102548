"""Which rows a report shows, and in which order: what is under a share hides and is told, what sorts is sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flopscan.errors import UsageError
from flopscan.report import tree
from flopscan.report.choices import SORTS
from flopscan.report.numbers import percent, si
from flopscan.report.report import Report, Row
from flopscan.report.tree import Node

_KEYS: Mapping[str, Callable[[Row], Any]] = {
    "value": lambda row: row.value,
    "macs": lambda row: int(row.macs),
    "exp": lambda row: row.transcendentals,
    "bytes": lambda row: row.cost.read + row.cost.written,
    "params": lambda row: row.params,
    "calls": lambda row: row.calls,
    "name": lambda row: row.name,
}


@dataclass(frozen=True)
class Hidden:
    """What was too small to be shown: how many rows, and their sum under the report's convention."""

    rows: int = 0
    value: int = 0

    def told(self, report: Report, percentage: float, what: str) -> str:
        """``hidden: 14 modules under 1% each, together 50.25 M (0.51%)``; empty where nothing is hidden."""
        if not self.rows:
            return ""
        sum_of_all = f"{si(self.value)} ({percent(self.value, int(report.value))})"
        if self.rows == 1:
            return f"hidden: 1 {what} under {percentage:g}%, {sum_of_all}"
        return f"hidden: {self.rows:,} {what}s under {percentage:g}% each, together {sum_of_all}"


def check(sort: str | None, by: str) -> None:
    """Raise UsageError where ``sort`` is no key, or none of what a table by ``by`` has."""
    if sort is not None and sort not in SORTS:
        raise UsageError(f"cannot sort by {sort!r}; expected {', '.join(SORTS[:-1])} or {SORTS[-1]}")
    if sort == "params" and by != "module":
        raise UsageError(f"{by}s have no parameters to sort by; sort modules by them, or by another key")


def ordered(rows: Iterable[Row], sort: str | None) -> list[Row]:
    """Rows by name, or by a number, the largest first; as they come where ``sort`` is None, or nothing that they have.

    Rows that are alike stay in their order.
    """
    if sort is None or sort == "params":
        return list(rows)
    return sorted(rows, key=_KEYS[sort], reverse=sort != "name")


def arranged(node: Node, sort: str | None) -> Node:
    """A tree with siblings sorted, each with all that it stands for; in the model's order where ``sort`` is None."""
    if sort is None:
        return node
    key = _KEYS[sort]
    children = [arranged(child, sort) for child in node.children]
    if sort == "name":
        children.sort(key=lambda child: child.label)
    else:
        children.sort(key=lambda child: -key(child.row) * child.times)
    return replace(node, children=tuple(children))


def modules(
    report: Report, depth: int | None = None, percentage: float = 0.0, sort: str | None = None
) -> tuple[list[tuple[int, Node]], Hidden]:
    """The rows of the module tree with their levels, and what among them is under ``percentage`` of the total.

    A hidden module counts as one with all in it, and as many times as it is there.
    """
    root = arranged(tree.build(report.by_module()), sort)
    least = _least(report, percentage)
    nodes = tree.visible(root, depth, lambda node: not _stays(node.row, node.times, least))
    small = [node for _, node in nodes if not _stays(node.row, node.times, least)]
    hidden = Hidden(sum(node.times for node in small), sum(node.row.value * node.times for node in small))
    return [(level, node) for level, node in nodes if _stays(node.row, node.times, least)], hidden


def rows(rows: Sequence[Row], report: Report, percentage: float, sort: str | None) -> tuple[list[Row], list[Row]]:
    """Rows in order, and apart from them those under ``percentage`` of the total."""
    least = _least(report, percentage)
    inside = ordered(rows, sort)
    return [row for row in inside if _stays(row, 1, least)], [row for row in inside if not _stays(row, 1, least)]


def _stays(row: Row, times: int, least: float) -> bool:
    """Whether a row is large enough; what was not counted never hides."""
    return bool(row.uncounted) or 100 * row.value * times >= least


def _least(report: Report, percentage: float) -> float:
    """A hundred times the least value that is shown."""
    return percentage * abs(int(report.value))
