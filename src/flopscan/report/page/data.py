"""What a page holds: every line of every table under every convention, the folded tree, and where it all comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flopscan.devices.bound import UNITS
from flopscan.report import tree
from flopscan.report.mistakes import Mistake, mistakes
from flopscan.report.page import families, values
from flopscan.report.page.packing import Pool, exactly, whole
from flopscan.report.page.values import Counted, Line
from flopscan.report.report import Report
from flopscan.report.roofline import Roofline
from flopscan.report.roofline_text import wish

SCHEMA = "flopscan.page/1"
PHASES = ("forward", "backward", "recompute", "optimizer")


@dataclass(frozen=True)
class Node:
    """A row of the module tree, in its order: a module, or identical siblings of which ``line`` is one.

    ``parent`` is the place of the row above it (-1 for the root). ``times`` is how often it is there in all, ``local``
    how often below one of its parent, ``members`` are the labels of these. ``operators`` are the calls of its own,
    where there are modules below too, each with the bound on its time; ``seconds`` is that of the whole node. A time is
    None where no roofline is known.
    """

    parent: int
    level: int
    label: str
    path: str
    cls: str
    times: int
    local: int
    line: Line
    params: int
    family: str
    operators: tuple[tuple[str, Line, float | None], ...]
    seconds: float | None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A report with all of its numbers under all conventions; ``chosen`` is the place of the report's own.

    ``mistakes`` and ``kernels_at_zero`` are those of each convention, in their order.
    ``shown`` are the places of the nodes that are in sight at first, down to ``depth`` where it was asked for.
    """

    report: Report
    counted: Counted
    chosen: int
    mistakes: tuple[tuple[Mistake, ...], ...]
    kernels_at_zero: tuple[Mapping[str, int], ...]
    total: Line
    modules: Mapping[str, Line]
    nodes: tuple[Node, ...]
    shown: frozenset[int]
    depth: int | None
    operators: Mapping[str, Line]
    phases: Mapping[str, Line]
    lines: Mapping[str, Line]
    roofline: Roofline | None

    def to_dict(self) -> dict[str, Any]:
        """The page as JSON-ready data; lines of numbers are places in its pool."""
        report, pool = self.report, Pool()
        rows = report.by_module()
        places = {path: i for i, path in enumerate(self.modules)}
        tables = {
            "modules": [
                [path, rows[path].cls, pool.add(line, rows[path].params)] for path, line in self.modules.items()
            ],
            "operators": [[name, pool.add(line)] for name, line in self.operators.items()],
            "phases": [[name, pool.add(line)] for name, line in self.phases.items()],
            "lines": [[name, pool.add(line)] for name, line in self.lines.items()],
            "nodes": [_node(node, places, pool) for node in self.nodes],
            "total": pool.add(self.total, report.params),
        }
        said = report.to_dict()
        kept = ("target", "inputs", "notes", "versions", "route")
        return {
            "schema": SCHEMA,
            "report": said["schema"],
            **{key: said[key] for key in kept},
            "uncounted": [{**row, "count": whole(row["count"])} for row in said["uncounted"]],
            "scan": exactly(said["scan"]),
            "again": report.using("flops").again,
            "kinds": {kind: whole(n) for kind, n in said["kinds"].items()},
            "executed": whole(int(report.executed_flops)),
            "chosen": self.chosen,
            "conventions": [
                [c.name, c.unit, c.summary, c.source, whole(total), *self._warnings(place)]
                for place, (c, total) in enumerate(zip(self.counted.conventions, self.counted.totals, strict=True))
            ],
            "shown": sorted(self.shown),
            "depth": self.depth,
            "roofline": exactly(self.roofline.to_dict()) if self.roofline else None,
            "units": dict(UNITS),
            "wish": wish(self.roofline),
            **tables,
            "pool": pool.to_dict(),
        }

    def _warnings(self, place: int) -> tuple[list[Any], dict[str, Any]]:
        """What is wrong with a convention's number: mistakes, and kernels that are zero in it."""
        wrong = [{**mistake.to_dict(), "amount": whole(mistake.amount)} for mistake in self.mistakes[place]]
        return wrong, {op: whole(calls) for op, calls in self.kernels_at_zero[place].items()}


def _node(node: Node, places: Mapping[str, int], pool: Pool) -> list[Any]:
    """Parent, module, label, the labels of those that are folded or 1, family, own operators, seconds."""
    own = [[name, families.group_of(name), pool.add(line), seconds] for name, line, seconds in node.operators]
    return [node.parent, places[node.path], node.label, _members(node), node.family, own, node.seconds]


def _members(node: Node) -> int | list[str]:
    """The labels of what is folded; how many they are says enough where one follows the other from 0 on."""
    counted = [f"{node.label.removesuffix(f'0-{node.local - 1}')}{i}" for i in range(node.local)]
    return node.local if node.local == 1 or counted == list(node.members) else list(node.members)


def make(report: Report, *, depth: int | None = None, roofline: Roofline | None = None) -> Page:
    """The page of ``report``, its tree open down to ``depth`` (default: what matters)."""
    ledger = report.ledger
    trace = ledger.trace
    counted = values.count(ledger, report.convention)
    operators = values.by(counted, lambda record: trace.calls[record.call].op)
    own = values.by(counted, lambda r: (trace.modules[r.module].path, trace.calls[r.call].op))
    total = sum(operators.values(), Line((0,) * len(counted.conventions)))
    modules = values.by_module(counted)
    seconds = {path: row.seconds for path, row in roofline.by_module().items()} if roofline else {}
    nodes, shown = _nodes(report, modules, own, depth, seconds, roofline.own() if roofline else {})
    phases = values.by(counted, lambda record: record.phase)
    lines = trace.lines
    return Page(
        report=report,
        counted=counted,
        chosen=[c.name for c in counted.conventions].index(report.convention.name),
        mistakes=tuple(mistakes(ledger, convention) for convention in counted.conventions),
        kernels_at_zero=tuple(convention.kernels_at_zero(ledger) for convention in counted.conventions),
        total=total,
        modules=modules,
        nodes=nodes,
        shown=shown,
        depth=depth,
        operators=operators,
        phases={name: phases[name] for name in sorted(phases, key=_turn)},
        lines=values.by(counted, lambda r: lines[r.line] if r.line >= 0 else "(outside the model)") if lines else {},
        roofline=roofline,
    )


def _nodes(
    report: Report,
    modules: Mapping[str, Line],
    own: Mapping[tuple[str, str], Line],
    depth: int | None,
    seconds: Mapping[str, float],
    own_seconds: Mapping[tuple[str, str], float],
) -> tuple[tuple[Node, ...], frozenset[int]]:
    """The rows of the tree, and the places of those that are shown at first."""
    operators: dict[str, list[tuple[str, Line]]] = {}
    for (path, op), line in own.items():
        if line:
            operators.setdefault(path, []).append((op, line))
    also = {
        path: (line.values, tuple(operators.get(path, ())), seconds.get(path)) for path, line in modules.items() if line
    }
    root = tree.build(report.by_module(), also)
    nodes: list[Node] = []
    places: dict[int, int] = {}
    for parent, level, one in _walk(root, -1, 0):
        path = one.row.name
        line, calls = modules[path], operators.get(path, [])
        parted = one.children or sum(each.calls > 0 for _, each in calls) > 1
        places[id(one)] = len(nodes)
        above = places.get(parent, -1)
        nodes.append(
            Node(
                parent=above,
                level=level,
                label=one.label,
                path=path,
                cls=one.row.cls,
                times=one.times,
                local=one.times // (nodes[above].times if above >= 0 else 1),
                line=line,
                params=one.row.params,
                family="" if one.children else families.heaviest(calls),
                operators=tuple((op, each, own_seconds.get((path, op))) for op, each in calls) if parted else (),
                seconds=seconds.get(path),
                members=one.members,
            )
        )
    shown = frozenset(places[id(one)] for _, one in tree.visible(root, depth))
    return tuple(nodes), shown


def _walk(node: tree.Node, parent: int, level: int) -> Iterator[tuple[int, int, tree.Node]]:
    yield parent, level, node
    for child in node.children:
        yield from _walk(child, id(node), level + 1)


def _turn(phase: str) -> int:
    """When ``phase`` runs; one that is not known comes last."""
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


def importance(line: Line, convention: int) -> tuple[int, int, int]:
    """What a table sorts its lines by, largest first, as a report does."""
    cost = line.cost
    return -line.values[convention], -sum(cost.arithmetic().values()), -(cost.read + cost.written)
