"""The module tree as people read it: containers opened, identical siblings folded, what matters on one screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flopscan.report.report import Row

_CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_ROWS_ON_A_SCREEN = 32
_WORTH_OPENING = 20  # a module with a twentieth of the total or more is opened without being asked to


@dataclass(frozen=True)
class Node:
    """A module, or ``times`` identical siblings: ``row`` is one of them; what is shown is ``times`` as much.

    ``also`` is what else must be the same in siblings that are folded.
    """

    label: str
    row: Row
    children: tuple[Node, ...] = ()
    times: int = 1
    also: Any = None

    def signature(self) -> Any:
        """What two nodes must share to be folded: class, numbers, and the same below."""
        row = self.row
        below = tuple((child.label, child.times, child.signature()) for child in self.children)
        return row.cls, row.value, row.cost, row.calls, row.params, row.uncounted, self.also, below


def build(rows: Mapping[str, Row], also: Mapping[str, Any] | None = None) -> Node:
    """The tree of ``rows`` (by path, in the model's order), folded, without modules that cost and hold nothing.

    ``also`` is what a view shows beside the rows, by path: only siblings that have the same are folded, and a module
    that has something there is kept.
    """
    also = also or {}
    below: dict[str, list[str]] = {path: [] for path in rows}
    for path in rows:
        if path:
            below[_above(path, rows)].append(path)
    return _node("", "", rows, below, also)


def _above(path: str, rows: Mapping[str, Row]) -> str:
    """The nearest path above that is there and is no mere container."""
    while path:
        path = path.rpartition(".")[0]
        if path in rows and rows[path].cls not in _CONTAINERS:
            return path
    return ""


def _node(
    path: str, parent: str, rows: Mapping[str, Row], below: Mapping[str, list[str]], also: Mapping[str, Any]
) -> Node:
    label = path.removeprefix(f"{parent}.") if parent else path
    children = [
        _unwrapped(_node(child, path, rows, below, also))
        for child in below[path]
        if rows[child].cls not in _CONTAINERS and (_costs(rows[child]) or also.get(child))
    ]
    return Node(label, rows[path], tuple(_folded(children)), also=also.get(path))


def _costs(row: Row) -> bool:
    return bool(row.value or row.params or row.uncounted or any(row.cost.values()))


def _unwrapped(node: Node) -> Node:
    """A sequence of nothing but identical modules is shown as these: ``blocks.0-1`` for ``blocks``."""
    only = node.children[0] if len(node.children) == 1 else None
    if node.row.cls != "Sequential" or only is None or only.times == 1 or "." in only.label:
        return node
    return replace(only, label=f"{node.label}.{only.label}")


def _folded(children: list[Node]) -> Iterator[Node]:
    """Runs of numbered siblings (``blocks.0``, ``blocks.1``) that are alike become one."""
    runs: list[list[Node]] = []
    signature: Any = None
    for child in children:
        found = child.signature()
        if runs and found == signature and _follows(runs[-1][-1].label, child.label):
            runs[-1].append(child)
        else:
            runs.append([child])
        signature = found
    for run in runs:
        first = run[0]
        if len(run) == 1:
            yield first
        else:
            last = _numbered(run[-1].label)
            yield replace(_multiplied(first, len(run)), label=f"{first.label}-{last[1] if last else ''}")


def _follows(before: str, after: str) -> bool:
    one, two = _numbered(before), _numbered(after)
    return one is not None and two is not None and one[0] == two[0] and one[1] + 1 == two[1]


def _numbered(label: str) -> tuple[str, int] | None:
    match = _NUMBERED.fullmatch(label)
    return (match[1], int(match[2])) if match else None


def _multiplied(node: Node, times: int) -> Node:
    children = tuple(_multiplied(child, times) for child in node.children)
    return replace(node, times=node.times * times, children=children)


def visible(root: Node, depth: int | None = None) -> list[tuple[int, Node]]:
    """The nodes with their level: all down to ``depth``, or without one what matters, as deep as fits a screen."""
    if depth is not None:
        return list(_walk(root, depth, 0))
    least = root.row.value / _WORTH_OPENING
    depth = 1
    while depth < 4 and sum(1 for _ in _walk(root, depth + 1, least)) <= _ROWS_ON_A_SCREEN:
        depth += 1
    return list(_walk(root, depth, least))


def _walk(node: Node, depth: int, least: float, level: int = 0) -> Iterator[tuple[int, Node]]:
    """``node`` and what is below, down to ``depth``; a node below ``least`` stays closed."""
    yield level, node
    if level < depth and (not level or node.row.value * node.times >= least):
        for child in node.children:
            yield from _walk(child, depth, least, level + 1)
