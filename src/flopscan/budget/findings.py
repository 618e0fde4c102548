"""What a check found as single sentences with a place: what annotations and code scanning show."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from flopscan.budget import lockfile, measures, places
from flopscan.budget.check import Held, Outcome
from flopscan.budget.sources import Source
from flopscan.report.compare import Change
from flopscan.report.numbers import exact, percent

ERROR, NOTE = "error", "note"
RULES = {
    "cost-grew": "A model costs more than its lock says.",
    "over-limit": "A model is not within a limit of its lock.",
    "newly-uncounted": "A model calls an operator that is not counted and was not called when it was locked.",
    "not-counted": "A locked model could not be counted.",
    "cost-shrank": "A model costs less than its lock says; lock it again to keep it so.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence on the target ``name``: its rule, its level, and where it is, from the repository's root."""

    rule: str
    level: str
    name: str
    text: str
    file: str
    line: int


def of(outcomes: Iterable[Outcome], path: str) -> list[Finding]:
    """The findings of ``outcomes``; what has no line in the repository is at its target in the lock in ``path``."""
    root = places.root()
    found: list[Finding] = []
    for outcome in outcomes:
        found += _of(outcome, path, root)
    return found


def _of(outcome: Outcome, path: str, root: str) -> Iterator[Finding]:
    name, target = outcome.name, outcome.entry.target
    lock = places.relative(path, root) or os.path.basename(path)

    def here(rule: str, text: str, table: str = "", level: str = ERROR) -> Finding:
        return Finding(rule, level, name, text, lock, lockfile.line_of(path, name, table))

    def there(rule: str, lines: Iterable[Source], text: Callable[[Source | None], str]) -> Iterator[Finding]:
        placed = [(places.relative(places.find(line.file, target), root), line) for line in lines]
        inside = [Finding(rule, ERROR, name, text(line), file, line.line) for file, line in placed if file]
        yield from inside or [here(rule, text(None))]

    if outcome.error:
        yield here("not-counted", f"{name} could not be counted: {outcome.error}")
        return
    if outcome.grown.measures:
        yield from there("cost-grew", outcome.sources, lambda line: growth(outcome, line))
    for held in outcome.broken:
        yield here("over-limit", f"{name}: {broken(held)}", "limits")
    for op, counts in (outcome.newly_uncounted or {}).items():
        text = f"{name}: {uncounted(op, *counts)}"
        lines = [line for line in outcome.blind if op in line.operators]
        yield from there("newly-uncounted", lines, partial(_same, text))
    if outcome.shrunk.measures:
        yield here("cost-shrank", f"{name}: {shrinkage(outcome)}", level=NOTE)


def _same(text: str, _: Source | None) -> str:
    return text


def verdict(outcomes: Sequence[Outcome]) -> str:
    """How many targets are within their budget, in a few words."""
    bad = sum(not outcome.ok for outcome in outcomes)
    if bad:
        return f"{bad} of {len(outcomes)} targets not within budget"
    return "every target within budget" if len(outcomes) != 1 else "within budget"


def growth(outcome: Outcome, line: Source | None = None) -> str:
    """What grew in one sentence, and what of it ``line`` has."""
    text = f"{outcome.name} grew: {'; '.join(_moved(outcome, key) for key in outcome.grown.measures)}"
    if line is None:
        return text
    amount = f"{exact(line.value)} {measures.unit(line.measure)} in " if line.value else ""
    return f"{text}. This line: {amount}{', '.join(line.operators)} of {_several(line.modules)}"


def shrinkage(outcome: Outcome) -> str:
    """What shrank, and how to keep it so."""
    told = "; ".join(_moved(outcome, key) for key in outcome.shrunk.measures)
    return f"{told}; flopscan lock --update keeps it so"


def _moved(outcome: Outcome, key: str) -> str:
    a, b = amounts(outcome.total, key)
    if a == b:
        return f"{measures.label(key)} moved between modules, {exact(a)} in all"
    return f"{measures.label(key)} {exact(a)} -> {exact(b)} ({part(a, b)})"


def accepting(outcome: Outcome, path: str) -> str:
    """The command that locks what ``outcome`` has now in the lock in ``path``."""
    words = ["flopscan", "lock", "--update", outcome.name]
    return shlex.join(words if path == lockfile.NAME else [*words, "--lock", path])


def broken(held: Held) -> str:
    """A limit that does not hold, in one sentence."""
    return f"{measures.label(held.measure)} {exact(held.value)} {against(held)}"


def against(held: Held) -> str:
    """How a number stands to its limit, in words behind the number."""
    if held.ok:
        return f"is within the limit {held.limit.text!r}"
    off = held.limit.excess(held.value)
    by = f"{exact(math.ceil(abs(off)))} too {'many' if off > 0 else 'few'}" if off else "at its edge"
    return f"breaks the limit {held.limit.text!r}: {by}"


def uncounted(op: str, before: int, now: int) -> str:
    """An operator that is newly uncounted, in one sentence."""
    was = f"x{before} when it was locked" if before else "not called when it was locked"
    return f"{op} x{now} is not counted, {was}"


def amounts(change: Change, key: str) -> tuple[int, int]:
    """What was and what is."""
    return (change.first or {}).get(key, 0), (change.second or {}).get(key, 0)


def part(a: int, b: int) -> str:
    """The change from ``a`` to ``b`` as a part of ``a``."""
    sign = "+" if b > a else "-"
    return f"{sign}{percent(abs(b - a), a)}" if a else f"{sign}{exact(abs(b - a))}"


def _several(paths: tuple[str, ...]) -> str:
    first = paths[0] or "the model itself"
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"
