"""Composite: an operator that is made of others. Its price is theirs; in a trace they stand inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.ledger import Price
from flopscan.core.rule import Registry
from flopscan.core.trace import Call
from flopscan.errors import ContractError

Parts = Callable[[Call], tuple[Call, ...]]


@dataclass(frozen=True)
class Composite:
    """The price of a fused function: the sum over the calls that ``parts`` takes it apart into.

    ``parts`` raises ContractError for operands that do not fit together. ``reference`` and ``example`` prove it as
    they prove a rule.
    """

    ops: tuple[str, ...]
    parts: Parts
    registry: Registry
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
            parts = self.parts(call)
        except ContractError as error:
            return Price(None, note=str(error))
        ideal, executed, notes = Cost(), Cost(), []
        for part in parts:
            rule = self.registry.find(part.op)
            price = rule.price(part) if rule is not None else Price(None, note=f"{part.op} has no rule")
            if price.ideal is None:
                return Price(None, note=f"{part.op}: {price.note}")
            ideal += price.ideal
            executed += price.executed or price.ideal
            notes += [price.note] if price.note else []
        return Price(ideal, None if executed == ideal else executed, "; ".join(dict.fromkeys(notes)))


def declare(registry: Registry, *ops: str, **options: Any) -> Callable[[Parts], Parts]:
    """Declare the decorated function as what ``ops`` are made of; the options are the fields of `Composite`."""

    def register(parts: Parts) -> Parts:
        registry.declare(Composite(ops, parts, registry, **options))  # type: ignore[arg-type]
        return parts

    return register
