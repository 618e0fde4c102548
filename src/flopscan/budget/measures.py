"""What a lock and a budget hold of a count: totals, and every module and operator under the measures asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flopscan import conventions
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger
from flopscan.errors import UsageError
from flopscan.report import report as reports
from flopscan.report.compare import Rows, Sizes
from flopscan.report.report import Row

TRANSCENDENTALS, PARAMS, BYTES, CALLS = "transcendentals", "params", "bytes", "calls"
ALWAYS = (TRANSCENDENTALS, PARAMS)
OTHERS = (*ALWAYS, BYTES)
_LABELS = {
    "flops": "FLOPs",
    "macs": "MACs",
    TRANSCENDENTALS: "exp/log/trig",
    PARAMS: "parameters",
    BYTES: "bytes moved",
}
_UNITS = {TRANSCENDENTALS: "transcendentals", PARAMS: "parameters", BYTES: "bytes"}


@dataclass(frozen=True)
class Measured:
    """The numbers of a count by measure: in all, by module path (the root is not among them) and by operator.

    A module or operator that costs and holds nothing is left out. ``uncounted``: how often each operator without a
    rule was called.
    """

    total: Sizes
    modules: Rows = field(default_factory=dict)
    operators: Rows = field(default_factory=dict)
    uncounted: Mapping[str, int] = field(default_factory=dict)


def check(name: str) -> str:
    """The measure called ``name``: one of `OTHERS` or a convention, as it calls itself. Raises UsageError."""
    return name if name in OTHERS else conventions.get(name).name


def convention(name: str) -> str:
    """The convention called ``name``, as it calls itself. Raises UsageError for what every lock has anyway."""
    if name in OTHERS:
        raise UsageError(
            f"{name} is no convention: parameters and transcendentals are always locked; take --convention off"
        )
    return check(name)


def label(measure: str) -> str:
    """A measure in words."""
    return _LABELS.get(measure, f"as {measure} counts")


def unit(measure: str) -> str:
    """What a measure is in."""
    return _UNITS.get(measure) or conventions.get(measure).unit


def measure(ledger: Ledger, names: Sequence[str], depth: int | None = None) -> Measured:
    """What ``ledger`` has under the measures ``names``; of modules, those whose path has at most ``depth`` parts."""
    asked = [name for name in names if name not in OTHERS]
    seen = [reports.make(ledger, name) for name in asked] or [reports.make(ledger)]
    modules = [report.by_module() for report in seen]
    root = [rows[""] for rows in modules]
    uncounted: dict[str, int] = {}
    for missing in seen[0].uncounted:
        uncounted[missing.op] = uncounted.get(missing.op, 0) + missing.count
    return Measured(
        _sizes(names, asked, root) | ({PARAMS: seen[0].params} if PARAMS in names else {}),
        {
            path: (sizes, modules[0][path].cls)
            for path in modules[0]
            if path and (depth is None or path.count(".") < depth)
            for sizes in [_sizes(names, asked, [rows[path] for rows in modules])]
            if any(sizes.values())
        },
        _operators([name for name in names if name != PARAMS], asked, [report.by_operator() for report in seen]),
        uncounted,
    )


def _operators(names: Sequence[str], asked: Sequence[str], tables: Sequence[Mapping[str, Row]]) -> Rows:
    """The operators of all conventions: one may count a function as the user wrote it, which another does not list."""
    nothing = Row("", 0, Cost(), 0)
    found = {}
    for op in dict.fromkeys(op for rows in tables for op in rows):
        rows = [table.get(op, nothing) for table in tables]
        sizes = _sizes(names, asked, rows)
        if any(sizes.values()):
            found[op] = ({**sizes, CALLS: max(row.calls for row in rows)}, "")
    return found


def _sizes(names: Sequence[str], asked: Sequence[str], rows: Sequence[Row]) -> dict[str, int]:
    """The measures of a module or operator from its rows, one a convention in ``asked``."""
    first = rows[0]
    found = {
        TRANSCENDENTALS: first.transcendentals,
        PARAMS: first.params,
        BYTES: int(first.cost.read + first.cost.written),
        **{name: int(row.value) for name, row in zip(asked, rows, strict=False)},
    }
    return {name: found[name] for name in names}


def own(measured: Measured, name: str) -> dict[str, int]:
    """What each module (the root is ``''``) has of the measure ``name`` by itself, without those below it."""
    found = {"": measured.total[name], **{path: sizes[name] for path, (sizes, _) in measured.modules.items()}}
    left = dict(found)
    for path in measured.modules:
        left[above(path, found)] -= found[path]
    return left


def above(path: str, paths: Mapping[str, object]) -> str:
    """The nearest module above ``path`` that is among ``paths``; the root if there is none."""
    return next((parent for parent in _parents(path) if parent in paths), "")


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path
