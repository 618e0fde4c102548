"""The modules of a comparison as a tree: containers opened, siblings that differ alike folded, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from flopscan.report.compare import Change

_CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
_ROWS_ON_A_SCREEN = 32


@dataclass(frozen=True)
class Node:
    """A module that differs, or ``times`` siblings that differ alike; what is shown is ``times`` as much."""

    label: str
    change: Change
    children: tuple[Node, ...] = ()
    times: int = 1

    def alike(self) -> object:
        """What two nodes must share to be folded."""
        change = self.change
        return change.first, change.second, change.classes, tuple((c.label, c.times, c.alike()) for c in self.children)

    def amounts(self) -> tuple[int, ...]:
        """How much more the second has of every measure, in all siblings."""
        return tuple(amount * self.times for amount in self.change.amounts())


def remark(node: Node) -> str:
    """The class, or both; how many."""
    before, after = node.change.classes
    cls = before or after if node.change.how != "changed" or before == after else f"{before} -> {after}"
    return f"{node.times}x {cls}" if node.times > 1 else cls


def deepest(nodes: Sequence[tuple[int, Node]]) -> int:
    """The level of the deepest of ``nodes``."""
    return max(level for level, _ in nodes)


def tree(total: Change, modules: Sequence[Change]) -> Node:
    """The modules that differ as a tree: what is inside of an added or removed one is left out, containers are opened.

    A root that does not differ itself, as all changes below cancel, has the totals.
    """
    by_path = {change.name: change for change in modules}
    root = by_path.get("", total)
    shown = {"": root}
    below: dict[str, list[str]] = {"": []}
    for path, change in by_path.items():
        above = _above(path, shown)
        is_container = any(change.classes) and {*change.classes} <= {*_CONTAINERS, ""}
        if not path or is_container:
            continue
        if shown[above].how in ("added", "removed"):
            continue
        shown[path] = change
        below[path] = []
        below[above].append(path)
    return _node("", "", shown, below)


def _above(path: str, shown: dict[str, Change]) -> str:
    while path:
        path = path.rpartition(".")[0]
        if path in shown:
            return path
    return ""


def _node(path: str, parent: str, shown: dict[str, Change], below: dict[str, list[str]]) -> Node:
    label = path.removeprefix(f"{parent}.") if parent else path
    children = tuple(_folded([_node(child, path, shown, below) for child in below[path]]))
    node = Node(label, shown[path], children)
    before, after = node.change.classes
    if path and len(children) == 1 and before == after and children[0].amounts() == node.amounts():
        return replace(children[0], label=f"{label}.{children[0].label}")  # it differs in nothing but that child
    return node


def _folded(children: Sequence[Node]) -> Iterator[Node]:
    """Runs of numbered siblings (``blocks.0``, ``blocks.1``) that differ alike become one."""
    runs: list[list[Node]] = []
    for child in children:
        if runs and _follows(runs[-1][-1].label, child.label) and runs[-1][-1].alike() == child.alike():
            runs[-1].append(child)
        else:
            runs.append([child])
    for run in runs:
        yield run[0] if len(run) == 1 else _multiplied(run[0], len(run), _range(run[0].label, run[-1].label))


def _follows(before: str, after: str) -> bool:
    """Whether two labels differ in one number alone, and that by one: ``0.op`` and ``1.op``."""
    pairs = [(a, b) for a, b in zip(before.split("."), after.split("."), strict=False) if a != b]
    same_length = before.count(".") == after.count(".")
    return (
        same_length and len(pairs) == 1 and all(map(str.isdigit, pairs[0])) and int(pairs[0][0]) + 1 == int(pairs[0][1])
    )


def _range(first: str, last: str) -> str:
    """``0-3.op`` for ``0.op`` and ``3.op``."""
    return ".".join(a if a == b else f"{a}-{b}" for a, b in zip(first.split("."), last.split("."), strict=True))


def _multiplied(node: Node, times: int, label: str) -> Node:
    children = tuple(_multiplied(child, times, child.label) for child in node.children)
    return replace(node, label=label, times=node.times * times, children=children)


def visible(root: Node, depth: int | None) -> tuple[list[tuple[int, Node]], int]:
    """The nodes down to ``depth``, or as deep as fits a screen, with their level; how many are deeper."""
    everything = list(_walk(root, 0))
    if depth is None:
        deepest = max(level for level, _ in everything)
        fits = [d for d in range(1, deepest + 1) if sum(lv <= d for lv, _ in everything) <= _ROWS_ON_A_SCREEN]
        depth = max(fits, default=1)
    shown = [(level, node) for level, node in everything if level <= depth]
    return shown, len(everything) - len(shown)


def _walk(node: Node, level: int) -> Iterator[tuple[int, Node]]:
    yield level, node
    for child in node.children:
        yield from _walk(child, level + 1)
