"""A lock's entry beside what its target costs now: what grew, what shrank, what is over a limit or not counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from flopscan.budget import measures, sources
from flopscan.budget.limits import Limit
from flopscan.budget.lock import Entry
from flopscan.budget.measures import CALLS, Measured
from flopscan.budget.sources import Source
from flopscan.core.ledger import Ledger
from flopscan.report.compare import Change, changes

_NOTHING = Change("", None, None)
FAILED, GREW, SHRANK, SAME = "failed", "grew", "shrank", "same"


@dataclass(frozen=True, slots=True)
class Held:
    """A limit, the measure that it is of, and what the target has of it now."""

    measure: str
    limit: Limit
    value: int

    @property
    def ok(self) -> bool:
        """Whether the limit holds."""
        return self.limit.holds(self.value)


@dataclass(frozen=True)
class Moved:
    """What moved in one direction: the measures of which a total or a module moved beyond the tolerance, and who did.

    ``modules`` are in the model's order, those beyond the tolerance and those that are new (or gone);
    ``operators`` the largest first.
    """

    measures: tuple[str, ...] = ()
    modules: tuple[Change, ...] = ()
    operators: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What checking one entry found; ``error`` says why it could not be counted, and then there is nothing else."""

    name: str
    entry: Entry
    error: str = ""
    total: Change = _NOTHING
    grown: Moved = Moved()
    shrunk: Moved = Moved()
    limits: tuple[Held, ...] = ()
    newly_uncounted: Mapping[str, tuple[int, int]] | None = None
    newly_counted: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    blind: tuple[Source, ...] = ()
    versions: Mapping[str, tuple[str, str]] | None = None

    @property
    def broken(self) -> tuple[Held, ...]:
        """The limits that do not hold."""
        return tuple(held for held in self.limits if not held.ok)

    @property
    def ok(self) -> bool:
        """Whether it was counted, nothing grew, every limit holds, and nothing is newly uncounted."""
        return not (self.error or self.grown.measures or self.broken or self.newly_uncounted)

    @property
    def status(self) -> str:
        """``failed`` (could not be counted), ``grew`` (or is over a limit, or uncounted), ``shrank`` or ``same``."""
        if self.error or not self.ok:
            return FAILED if self.error else GREW
        return SHRANK if self.shrunk.measures else SAME


def check(name: str, entry: Entry, tolerance: Fraction, ledger: Ledger, versions: Mapping[str, str]) -> Outcome:
    """The outcome of ``entry`` for ``ledger``, a count of its target, with source lines, under ``versions``."""
    now = measures.measure(ledger, (*entry.measures, *_more(entry)), entry.depth)
    total = Change("", entry.numbers.total, {key: now.total[key] for key in entry.measures})
    modules = changes(entry.numbers.modules, _only(now, entry.measures))
    operators = changes(entry.numbers.operators, now.operators)
    grown = _moved(+1, tolerance, entry.measures, total, modules, operators)
    called = {call.op for call in ledger.trace.calls}
    blind = {
        op: (entry.numbers.uncounted.get(op, 0), count)
        for op, count in now.uncounted.items()
        if count > entry.numbers.uncounted.get(op, 0)
    }
    return Outcome(
        name,
        entry,
        total=total,
        grown=grown,
        shrunk=_moved(-1, tolerance, entry.measures, total, modules, operators),
        limits=tuple(
            Held(measures.check(key), limit, now.total[measures.check(key)]) for key, limit in entry.parsed().items()
        ),
        newly_uncounted=blind,
        newly_counted=tuple(op for op in entry.numbers.uncounted if op in called and op not in now.uncounted),
        sources=sources.of_growth(ledger, total, modules, operators, grown.measures),
        blind=sources.of_operators(ledger, blind),
        versions={
            key: (entry.versions.get(key, "not there"), versions.get(key, "not there"))
            for key in dict.fromkeys((*entry.versions, *versions))
            if entry.versions.get(key) != versions.get(key)
        },
    )


def _more(entry: Entry) -> list[str]:
    """What has a limit and is not locked."""
    asked = (measures.check(name) for name in entry.limits)
    return [name for name in dict.fromkeys(asked) if name not in entry.measures]


def _only(now: Measured, names: Sequence[str]) -> dict[str, tuple[dict[str, int], str]]:
    return {path: ({key: sizes[key] for key in names}, cls) for path, (sizes, cls) in now.modules.items()}


def _moved(
    sign: int,
    tolerance: Fraction,
    names: Sequence[str],
    total: Change,
    modules: Iterable[Change],
    operators: Iterable[Change],
) -> Moved:
    """What grew (``sign`` 1) or shrank (-1).

    Totals, and modules that were there before and are still, count by themselves; a new module by what it adds to
    those around it, so that one that is only renamed is no growth.
    """

    def beyond(change: Change, key: str) -> bool:
        before = (change.first or {}).get(key, 0)
        return sign * change.amount(key) * tolerance.denominator > tolerance.numerator * before

    modules = list(modules)
    moved = [key for key in names if any(beyond(c, key) for c in (total, *modules) if c.first and c.second)]
    if not moved:
        return Moved()

    def size(change: Change) -> tuple[int, ...]:
        return tuple(-sign * change.amount(key) for key in moved)

    there = [c for c in operators if any(beyond(c, key) for key in moved if key != CALLS)]
    return Moved(
        tuple(moved),
        tuple(c for c in modules if any(beyond(c, key) for key in moved)),
        tuple(sorted(there, key=size)),
    )
