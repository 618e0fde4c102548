"""Elementwise operators: the cost of an element is what its definition does to one tallying number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flopscan.core.cost import Cost, Count
from flopscan.core.ledger import Price
from flopscan.core.rule import Registry, moved, parameters
from flopscan.core.tally import Num, Pair, Tally
from flopscan.core.trace import Call, TensorSpec


@dataclass(frozen=True)
class Pointwise:
    """A rule for an operator that computes each element of its result alone, by ``reference`` on scalars.

    ``reference`` names the operands that it needs, tensors as numbers and attributes as they are.
    """

    ops: tuple[str, ...]
    reference: Callable[..., Any]
    moves: Callable[[Call], tuple[int, int]] = moved
    integers: bool = False
    source: str = ""
    wants: tuple[tuple[str, Any], ...] = ()
    example: Callable[..., Any] | None = None

    @property
    def cost(self) -> Callable[..., Any]:
        """The definition: here the cost and the reference are one."""
        return self.reference

    def price(self, call: Call) -> Price:
        """The cost of one element, as the reference tallies it, times the elements of the results."""
        tensors = [*call.tensors(), *call.outputs]
        read, written = self.moves(call)
        if not self.integers and not any(t.is_float for t in tensors):
            return Price(Cost(read=read, written=written))
        try:
            each = self._each(call, any(t.is_complex for t in tensors))
        except (TypeError, AttributeError, LookupError, ArithmeticError, ValueError) as error:
            return Price(None, note=f"no formula for these operands ({error})")
        size = sum(t.numel for t in call.outputs) or max((t.numel for t in call.tensors()), default=0)
        return Price(each * size + Cost(read=read, written=written))

    def on_matrix(self, call: Call, price: Price) -> tuple[Count, Count]:
        """Nothing: each element is computed alone."""
        return 0, 0

    def _each(self, call: Call, is_complex: bool) -> Cost:
        values = []
        for name, default in self.wants:
            value = call.args.get(name)
            if value is None:
                if default is inspect.Parameter.empty:
                    raise KeyError(name)
                value = default
            values.append((name, _token(value)))
        return _tallied(self.reference, tuple(values), is_complex)


def _token(value: Any) -> Any:
    """A hashable stand-in: 'real' and 'complex' for tensors (a list acts by its first), scalars as they are."""
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, TensorSpec):
        return _COMPLEX if value.is_complex else _REAL
    return value


class _Tensor:
    def __init__(self, name: str) -> None:
        self.name = name


_REAL, _COMPLEX = _Tensor("real"), _Tensor("complex")


@functools.lru_cache(maxsize=4096)
def _tallied(reference: Callable[..., Any], values: tuple[tuple[str, Any], ...], is_complex: bool) -> Cost:
    tally: Tally[str] = Tally()

    def number(value: Any) -> Any:
        if value is _REAL:
            return Num(0.6, tally)
        return Pair(Num(0.6, tally), Num(0.6, tally)) if value is _COMPLEX else value

    reference(**{name: number(value) for name, value in values})
    return Cost(**tally)


def declare(registry: Registry, *ops: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the decorated scalar definition as the elementwise operators ``ops``."""

    def register(reference: Callable[..., Any]) -> Callable[..., Any]:
        registry.declare(Pointwise(ops, reference, wants=parameters(reference), **options))  # type: ignore[arg-type]
        return reference

    return register
