"""Which source lines stand behind what grew: those that work, with the operators that grew, in the modules that did.

A lock holds no lines, as these move with every edit; what grew is known by module and operator, and the lines are those
of the model as it is now.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.budget.measures import OTHERS, PARAMS, TRANSCENDENTALS, above
from flopscan.core.cost import TRANSCENDENTAL
from flopscan.core.ledger import Ledger
from flopscan.report.compare import Change

_FORM = re.compile(r"(?P<file>.*):(?P<line>\d+) (?P<function>.*)")
_OURS, _MODELS = f"flopscan{os.sep}", os.path.join("flopscan", "models", "")
MOST = 10


@dataclass(frozen=True, slots=True)
class Source:
    """A source line: where it is, the modules and operators that it runs, and what it has of ``measure`` in these."""

    file: str
    line: int
    function: str
    measure: str
    value: int
    modules: tuple[str, ...]
    operators: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


def of_growth(
    ledger: Ledger, total: Change, modules: Sequence[Change], operators: Sequence[Change], grown: Sequence[str]
) -> tuple[Source, ...]:
    """The lines behind the growth of the first of the measures ``grown``, largest first; none for none.

    A module is behind it where it grew by itself, without what is below it. Parameters have no lines: those that read
    or write most in the module stand for them.
    """
    if not grown:
        return ()
    key = grown[0]
    paths = {change.name: change for change in modules if change.second is not None}
    gained = {"": total.amount(key), **{change.name: change.amount(key) for change in modules}}
    alone = dict(gained)
    for path in gained:
        if path:
            alone[above(path, gained)] -= gained[path]
    places = {path for path, amount in alone.items() if amount > 0}
    names = {change.name for change in operators if change.amount(key) > 0}

    def place(path: str) -> str:
        return path if path in paths else above(path, paths)

    found = _lines(ledger, key, lambda path, op: place(path) in places and op in names)
    return found or _lines(ledger, key, lambda path, op: place(path) in places)


def of_operators(ledger: Ledger, names: Collection[str]) -> tuple[Source, ...]:
    """The lines that call the operators ``names``."""
    return _lines(ledger, "flops", lambda path, op: op in names)


def _lines(ledger: Ledger, key: str, wanted: Any) -> tuple[Source, ...]:
    """The lines of the records that are ``wanted`` by module path and operator, those with most of ``key`` first."""
    trace = ledger.trace
    groups: dict[int, tuple[list[int], dict[str, None], dict[str, None]]] = {}
    for record, size in zip(trace.records, _sizes(ledger, key), strict=True):
        path, op = trace.modules[record.module].path, trace.calls[record.call].op
        if record.envelope or record.line < 0 or not wanted(path, op):
            continue
        sizes, paths, ops = groups.setdefault(record.line, ([0, 0], {}, {}))
        sizes[0] += size[0]
        sizes[1] += size[1]
        paths[path], ops[op] = None, None
    ranked = sorted(groups.items(), key=lambda item: [-size for size in item[1][0]])
    made = (_source(trace.lines[line], key, *group) for line, group in ranked)
    return tuple(source for source in made if source is not None)[:MOST]


def _sizes(ledger: Ledger, key: str) -> Iterable[tuple[int, int]]:
    """For each record what it has of ``key``, and the bytes that it moves, by which lines without any are ranked."""
    counts = [0] * len(ledger.trace.records) if key in OTHERS else conventions.get(key).counts(ledger)
    for record, counted in zip(ledger.trace.records, counts, strict=True):
        cost = ledger.prices[record.call].ideal
        if record.envelope or cost is None:
            yield counted, 0
            continue
        if key == TRANSCENDENTALS:
            counted = record.count * sum(int(getattr(cost, kind)) for kind in TRANSCENDENTAL)
        yield counted, record.count * int(cost.read + cost.written)


def _source(text: str, key: str, sizes: Sequence[int], paths: Mapping[str, None], ops: Mapping[str, None]) -> Any:
    """The line that a trace has as ``text``; None for one of flopscan itself, as in a backward pass."""
    match = _FORM.fullmatch(text)
    if match is None or (match["file"].startswith(_OURS) and not match["file"].startswith(_MODELS)):
        return None
    value = 0 if key == PARAMS else sizes[0]
    return Source(match["file"], int(match["line"]), match["function"], key, value, tuple(paths), tuple(ops))
