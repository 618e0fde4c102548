"""The module tree as people read it: containers opened, identical siblings folded, what matters on one screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from flopscan.report.report import Row

_CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_ROWS_ON_A_SCREEN = 32
_WORTH_OPENING = 20  # a module with a twentieth of the total or more is opened without being asked to


@dataclass(frozen=True)
class Node:
    """A module, or ``times`` identical siblings: ``row`` is one of them; what is shown is ``times`` as much.

    ``members`` are the labels of the siblings that are folded here. ``also`` is what else must be the same in them.
    """

    label: str
    row: Row
    children: tuple[Node, ...] = ()
    times: int = 1
    also: Any = None
    members: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """Its class, and how many of it there are: ``12x GPT2Block``."""
        return f"{self.times}x {self.row.cls}" if self.times > 1 else self.row.cls

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
    members = tuple(f"{node.label}.{member}" for member in only.members)
    return replace(only, label=f"{node.label}.{only.label}", members=members)


def _folded(children: list[Node]) -> Iterator[Node]:
    """Numbered siblings that are alike become one, at the place of the first: ``h.0-11``, ``layers.0,2,…,30``.

    Those of a list do wherever they stand in it, attributes (``norm1``, ``norm2``) where they follow one another.
    """
    groups: dict[Any, list[Node]] = {}
    before: Any = None
    for place, child in enumerate(children):
        numbered = _numbered(child.label)
        alike = (numbered[0], child.signature()) if numbered else place
        of_a_list = numbered is not None and numbered[0][-1:] in ("", ".")
        key = alike if of_a_list else (before[0], alike) if before and before[1] == alike else (place, alike)
        before = None if of_a_list else key
        groups.setdefault(key, []).append(child)
    for group in groups.values():
        first = group[0]
        if len(group) == 1:
            yield first
        else:
            numbers = [found[1] for found in map(_numbered, (one.label for one in group)) if found]
            stem = first.label.removesuffix(str(numbers[0]))
            members = tuple(one.label for one in group)
            yield replace(_multiplied(first, len(group)), label=stem + _ranges(numbers), members=members)


def _ranges(numbers: list[int]) -> str:
    """``0-11``; ``0,2,…,30`` where they are evenly apart; else the runs, of many the first two and the last."""
    steps = {after - before for before, after in pairwise(numbers)}
    if steps != {1} and len(steps) == 1 and len(numbers) > 3:
        return f"{numbers[0]},{numbers[1]},…,{numbers[-1]}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ",".join(texts if len(texts) < 4 else [*texts[:2], "…", texts[-1]])


def _numbered(label: str) -> tuple[str, int] | None:
    match = _NUMBERED.fullmatch(label)
    return (match[1], int(match[2])) if match else None


def _multiplied(node: Node, times: int) -> Node:
    children = tuple(_multiplied(child, times) for child in node.children)
    return replace(node, times=node.times * times, children=children)


def visible(
    root: Node, depth: int | None = None, small: Callable[[Node], bool] = lambda node: False
) -> list[tuple[int, Node]]:
    """The nodes with their level: all down to ``depth``, or without one what matters, as deep as fits a screen.

    The ``small`` ones are among them, closed; they take no room on the screen.
    """
    if depth is not None:
        return list(_walk(root, depth, 0, small))
    least = root.row.value / _WORTH_OPENING
    depth = 1
    while depth < 4 and _rows(_walk(root, depth + 1, least, small), small) <= _ROWS_ON_A_SCREEN:
        depth += 1
    return list(_walk(root, depth, least, small))


def _rows(nodes: Iterable[tuple[int, Node]], small: Callable[[Node], bool]) -> int:
    return sum(not small(node) for _, node in nodes)


def _walk(
    node: Node, depth: int, least: float, small: Callable[[Node], bool], level: int = 0
) -> Iterator[tuple[int, Node]]:
    """``node`` and what is below, down to ``depth``; a node below ``least`` stays closed, and a small one."""
    yield level, node
    if level < depth and not small(node) and (not level or node.row.value * node.times >= least):
        for child in node.children:
            yield from _walk(child, depth, least, small, level + 1)
