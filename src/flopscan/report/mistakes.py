"""What the known mistakes of a counter add to its total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flopscan.core.convention import Bug, Convention
from flopscan.core.ledger import Ledger
from flopscan.errors import SchemaError


@dataclass(frozen=True, slots=True)
class Mistake:
    """A known mistake and how much it adds to a total, or takes from it."""

    bug: Bug
    amount: int

    def to_dict(self) -> dict[str, Any]:
        """The mistake as JSON-ready data."""
        return {"key": self.bug.key, "name": self.bug.name, "source": self.bug.source, "amount": self.amount}


def mistakes(ledger: Ledger, convention: Convention) -> tuple[Mistake, ...]:
    """Each known mistake that changes the total, largest first: mended one after the other, so that they sum.

    One that cannot be mended on these operands is left out.
    """
    found, mended, before = [], convention, int(convention.total(ledger)) if convention.bugs else 0
    for bug in convention.bugs:
        try:
            right = mended.without(bug.key)
            after = int(right.total(ledger))
        except SchemaError:
            continue
        found.append(Mistake(bug, before - after))
        mended, before = right, after
    return tuple(sorted((m for m in found if m.amount), key=lambda m: -abs(m.amount)))
