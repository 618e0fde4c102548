"""Composite: an operator that is made of others. Its price is theirs; in a trace they stand inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flopscan.core.cost import Cost, Count
from flopscan.core.ledger import Price
from flopscan.core.rule import Registry
from flopscan.core.trace import Call
from flopscan.errors import ContractError

Parts = Callable[[Call], tuple[Call, ...]]


@dataclass(frozen=True)
class Composite:
    """The price of a fused function: the sum over the calls that ``parts`` takes it apart into.

    ``parts`` raises ContractError for operands that do not fit together. ``runs`` are the calls that the implementation
    makes, where it makes others: what it computes again stands in the executed tier alone. ``reference`` and
    ``example`` prove the parts as they prove a rule.
    """

    ops: tuple[str, ...]
    parts: Parts
    registry: Registry
    runs: Parts | None = None
    reference: Callable[..., Any] | None = None
    example: Callable[..., Any] | None = None
    source: str = ""

    @property
    def cost(self) -> Parts:
        """What was declared, for messages that say where."""
        return self.parts

    def price(self, call: Call) -> Price:
        """The sum of the parts' prices; a part without one leaves the whole uncounted, with its reason."""
        try:
            ideal, _, notes = self._sum(self.parts(call))
            _, executed, more = self._sum((self.runs or self.parts)(call))
        except ContractError as error:
            return Price(None, note=str(error))
        return Price(ideal, None if executed == ideal else executed, "; ".join(dict.fromkeys([*notes, *more])))

    def on_matrix(self, call: Call, price: Price) -> tuple[Count, Count]:
        """What of the parts, and of what the implementation runs, may run on matrix units."""
        return self._on_matrix(self.parts(call))[0], self._on_matrix((self.runs or self.parts)(call))[1]

    def _on_matrix(self, parts: tuple[Call, ...]) -> tuple[Count, Count]:
        found = [rule.on_matrix(part, rule.price(part)) for part in parts if (rule := self.registry.find(part.op))]
        return sum(ideal for ideal, _ in found), sum(executed for _, executed in found)

    def _sum(self, parts: tuple[Call, ...]) -> tuple[Cost, Cost, list[str]]:
        """The ideal and executed costs of ``parts``, and their notes. Raises ContractError for one without a price."""
        ideal, executed, notes = Cost(), Cost(), []
        for part in parts:
            rule = self.registry.find(part.op)
            price = rule.price(part) if rule is not None else Price(None, note="no rule")
            if price.ideal is None:
                raise ContractError(f"{part.op}: {price.note}")
            ideal += price.ideal
            executed += price.executed or price.ideal
            notes += [price.note] if price.note else []
        return ideal, executed, notes


def declare(registry: Registry, *ops: str, **options: Any) -> Callable[[Parts], Parts]:
    """Declare the decorated function as what ``ops`` are made of; the options are the fields of `Composite`."""

    def register(parts: Parts) -> Parts:
        registry.declare(Composite(ops, parts, registry, **options))  # type: ignore[arg-type]
        return parts

    return register
