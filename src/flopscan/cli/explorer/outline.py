"""Which modules of the tree are open, and the lines that show them. Needs no textual."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flopscan.cli.explorer.subject import METRICS, Subject, number
from flopscan.report.layout import Column, Line, Row, Table, guides, tables
from flopscan.report.numbers import aligned, percent
from flopscan.report.tree import Node

DEEPEST = 9
_RANKS = {"value": 2, "macs": 3, "exp": 5, "bytes": 6, "params": 4}
_FAINT = 0.01


@dataclass
class Outline:
    """The tree of a subject: open down to ``depth``, but for what was opened or closed by hand.

    A module is known by the paths from the root down to it, so that hands are remembered under any convention.
    """

    subject: Subject
    depth: int = 2
    metric: str = "value"
    by_hand: dict[str, bool] = field(default_factory=dict)

    def shown(self) -> list[tuple[int, Node]]:
        """The visible modules with their levels."""
        return list(self._below(self.subject.root, 0))

    def _below(self, node: Node, level: int) -> Iterator[tuple[int, Node]]:
        yield level, node
        if self.is_open(node, level):
            for child in node.children:
                yield from self._below(child, level + 1)

    def is_open(self, node: Node, level: int) -> bool:
        """Whether what is below a module is on show."""
        return bool(node.children) and self.by_hand.get(node.row.name, level < self.depth)

    def to_depth(self, depth: int) -> None:
        """Open down to ``depth`` whatever was done by hand."""
        self.depth = min(DEEPEST, max(0, depth))
        self.by_hand.clear()

    def toggle(self, node: Node, level: int) -> None:
        """Open what is closed, close what is open."""
        if node.children:
            self.by_hand[node.row.name] = not self.is_open(node, level)

    def found(self, text: str) -> list[list[Node]]:
        """The modules whose name or class has ``text`` in it, each at the end of the way to it from the root."""
        return list(_search(self.subject.root, text.casefold(), []))

    def found_way(self, node: Node) -> list[Node]:
        """The way to a module from the root, both among it."""
        return next(way for way in _search(self.subject.root, "", []) if way[-1] is node)

    def reveal(self, way: list[Node]) -> int:
        """Open all that is above the end of ``way``; the place of that end among what is shown."""
        for node in way[:-1]:
            self.by_hand[node.row.name] = True
        return next(i for i, (_, node) in enumerate(self.shown()) if node is way[-1])

    def lines(self, width: int) -> list[Line]:
        """A header, and a line per visible module, of ``width`` columns."""
        nodes = self.shown()
        drawn = guides([level for level, _ in nodes])
        rows = [self._row(node, level, drawn[i]) for i, (level, node) in enumerate(nodes)]
        return tables([Table(self._columns(), rows)], width)[0][0]

    def _columns(self) -> list[Column]:
        """The chosen metric first, with its bar and share; the others as there is room."""
        others = [metric for metric in METRICS.values() if metric != self.metric]
        return [
            Column("module", "name"),
            Column("", "bar", rank=7, room=24, style="green"),
            Column("share", rank=1),
            Column(self.subject.titled(self.metric), style="bold"),
            *(Column(self.subject.titled(metric), rank=_RANKS[metric]) for metric in others),
        ]

    def _row(self, node: Node, level: int, drawn: str) -> Row:
        sign = ("▾ " if self.is_open(node, level) else "▸ ") if node.children else "  "
        row, whole = node.row, number(self.subject.total, self.metric)
        mine = number(row, self.metric) * node.times
        least = "≥" if row.uncounted else ""
        metrics = [self.metric, *(metric for metric in METRICS.values() if metric != self.metric)]
        cells = [
            ("" if metric == "params" else least) + aligned(number(row, metric) * node.times) for metric in metrics
        ]
        small = whole and mine < _FAINT * whole and not row.uncounted
        name = (drawn + sign + (node.label or "(model)"), node.remark)
        share = mine / whole if whole else 0.0
        return Row((name, share, percent(mine, whole), *cells), "red" if row.uncounted else "dim" if small else "")


def _search(node: Node, text: str, above: list[Node]) -> Iterator[list[Node]]:
    way = [*above, node]
    if text in " ".join((node.row.name, node.label, *node.members, node.row.cls)).casefold():
        yield way
    for child in node.children:
        yield from _search(child, text, way)
