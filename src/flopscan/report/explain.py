"""From one convention's total to another's, in named steps that sum exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger
from flopscan.report import places, reasons
from flopscan.report.mistakes import Mistake, mistakes


@dataclass(frozen=True, slots=True)
class Step:
    """One reason for a difference, and how much it adds (or, below zero, takes away).

    A known mistake of a counter has its ``source``: the issue or line that it stands in.
    """

    reason: str
    amount: int
    source: str = ""


@dataclass(frozen=True)
class Explanation:
    """Two totals of one model and the steps between them, largest first: ``start + sum of steps == end``."""

    first: Convention
    second: Convention
    start: Amount
    end: Amount
    steps: tuple[Step, ...]
    target: str = ""
    inputs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-ready data."""
        return {
            "target": self.target,
            "inputs": list(self.inputs),
            "from": {"convention": self.first.name, "value": int(self.start), "unit": self.start.unit},
            "to": {"convention": self.second.name, "value": int(self.end), "unit": self.end.unit},
            "steps": [{"reason": step.reason, "amount": step.amount, "source": step.source} for step in self.steps],
        }

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from flopscan.report import notebook

        return notebook.text(str(self))

    def __str__(self) -> str:
        from flopscan.report import explain_text

        return explain_text.render(self)


def explain(ledger: Ledger, first: str, second: str) -> Explanation:
    """The steps from the total under ``first`` to that under ``second``. Raises UsageError for an unknown name."""
    return Explainer(ledger).between(first, second)


class Explainer:
    """Explains a ledger between any two conventions; what it found of each is kept for the next pair."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._phases = {record.phase for record in ledger.trace.records}
        self._counts: dict[str, list[int]] = {}
        self._known: dict[str, frozenset[int]] = {}
        self._mistakes: dict[str, tuple[Mistake, ...]] = {}

    def between(self, first: str, second: str) -> Explanation:
        """The steps from the total under ``first`` to that under ``second``. Raises UsageError for an unknown name."""
        a, b = conventions.get(first), conventions.get(second)
        start, end = (Amount(sum(self._counted(one)), one.unit) for one in (a, b))
        steps = [
            *(Step(f"mistake of {a.name} mended: {m.bug.name}", -m.amount, m.bug.source) for m in self._wrong(a)),
            *(Step(reason, amount) for reason, amount in self._reasons(a, b)),
            *(Step(f"mistake of {b.name}: {m.bug.name}", m.amount, m.bug.source) for m in self._wrong(b)),
        ]
        merged: dict[tuple[str, str], int] = {}
        for step in steps:
            merged[step.reason, step.source] = merged.get((step.reason, step.source), 0) + step.amount
        found = (Step(reason, amount, source) for (reason, source), amount in merged.items() if amount)
        ordered = tuple(sorted(found, key=lambda step: -abs(step.amount)))
        assert int(start) + sum(step.amount for step in ordered) == int(end), "the steps must sum"
        origin = self._ledger.trace.origin
        return Explanation(a, b, start, end, ordered, str(origin.get("target", "")), tuple(origin.get("inputs", ())))

    def _counted(self, convention: Convention) -> list[int]:
        if convention.name not in self._counts:
            self._counts[convention.name] = convention.counts(self._ledger)
        return self._counts[convention.name]

    def _frames(self, convention: Convention) -> frozenset[int]:
        if convention.name not in self._known:
            self._known[convention.name] = places.known(convention, self._ledger)
        return self._known[convention.name]

    def _wrong(self, convention: Convention) -> tuple[Mistake, ...]:
        if convention.name not in self._mistakes:
            self._mistakes[convention.name] = mistakes(self._ledger, convention)
        return self._mistakes[convention.name]

    def _reasons(self, a: Convention, b: Convention) -> Iterator[reasons.Reason]:
        """The difference but for mistakes: of a phase that one of them does not see, else family by family."""
        mended = tuple(one.without() if one.bugs else one for one in (a, b))
        counts = self._counted(mended[0]), self._counted(mended[1])
        unseen = self._unseen(a, b)
        for phase, blind in unseen.items():
            records = enumerate(self._ledger.trace.records)
            change = sum(counts[1][i] - counts[0][i] for i, record in records if record.phase == phase)
            yield f"{'+' if blind is a else '-'} {phase}, which {blind.name} does not see", change
        frames = self._frames(mended[0]) | self._frames(mended[1])
        found = places.meet(self._ledger, frames, counts, frozenset(self._phases - set(unseen)))
        for family, there in found.items():
            yield from reasons.of_family(family, there.values(), a, b)

    def _unseen(self, a: Convention, b: Convention) -> dict[str, Convention]:
        """The phases that one of the two does not look at, and which."""
        found = {}
        for phase in sorted(self._phases):
            sees = [not one.phases or phase in one.phases for one in (a, b)]
            if sees[0] != sees[1]:
                found[phase] = a if sees[1] else b
        return found
