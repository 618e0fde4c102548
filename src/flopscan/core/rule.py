"""Rule: what one operator costs, as a pure function of named sizes, with the reference that proves it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flopscan.core.contract import Contract
from flopscan.core.cost import ZERO, Cost, Count
from flopscan.core.ledger import Price
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError, RuleError

Sizes = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """The price of one or more operators that share a formula.

    ``cost`` takes what it names: axis letters bound by ``contract`` or computed by ``sizes``, operands of the call
    (attributes such as ``groups``), ``given`` (the operands that are there), ``forms`` (the form that each took) and
    ``call`` itself. ``contracts`` picks the contract by the call, where a dtype changes the shapes. ``reference`` is
    the definition, run on tallying numbers; ``example`` makes operands for it. ``matrix`` says whose multiply-adds may
    run on matrix units: ``"all"``, ``"executed"`` for those of the executed form alone, or of none.
    """

    ops: tuple[str, ...]
    cost: Callable[..., Cost]
    contract: Contract | None = None
    contracts: Callable[[Call], Contract] | None = None
    sizes: Callable[[Call], Sizes] | None = None
    executed: Callable[..., Cost] | None = None
    moves: Callable[[Call], tuple[int, int]] | None = None
    reference: Callable[..., Any] | None = None
    example: Callable[..., Any] | None = None
    integers: bool = False
    complex: Callable[[Cost], Cost] | None = None
    source: str = ""
    matrix: str = ""
    wants: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.matrix not in ("", "executed", "all"):
            raise RuleError(f"matrix is 'all', 'executed' or ''; {self.ops[0]} has {self.matrix!r}")

    def price(self, call: Call) -> Price:
        """The price of ``call``; a call that the rule cannot take has no ideal cost and says why."""
        tensors = [*call.tensors(), *call.outputs]
        read, written = (self.moves or moved)(call)
        if tensors and not self.integers and not any(t.is_float for t in tensors):
            return Price(Cost(read=read, written=written))
        is_complex = any(t.is_complex for t in tensors)
        if is_complex and self.complex is None:
            return Price(None, note="no formula for complex numbers")
        try:
            known = self.bind(call)
            cost = self.evaluate(self.cost, call, known)
            executed = self.evaluate(self.executed, call, known) if self.executed else None
        except ContractError as error:
            return Price(None, note=str(error))
        except KeyError as error:
            return Price(None, note=f"operand {error} was not recorded")
        except (TypeError, AttributeError, LookupError, ArithmeticError, ValueError) as error:
            return Price(None, note=f"no formula for these operands ({error})")
        if is_complex and self.complex is not None:
            cost, executed = self.complex(cost), executed and self.complex(executed)
        if not (cost.read or cost.written):
            cost = replace(cost, read=read, written=written)
        if executed is not None and not (executed.read or executed.written):
            executed = replace(executed, read=cost.read, written=cost.written)
        return Price(cost, executed)

    def on_matrix(self, call: Call, price: Price) -> tuple[Count, Count]:
        """The multiply-adds of the ideal and of the executed form of ``call`` that may run on matrix units."""
        ideal, executed = price.ideal or ZERO, price.executed or price.ideal or ZERO
        whole = self.matrix == "all"
        return (ideal.fma if whole else 0), (executed.fma if whole or (self.matrix and executed != ideal) else 0)

    def bind(self, call: Call) -> dict[str, Any]:
        """Everything that ``cost`` may name, for ``call``. Raises ContractError."""
        known: dict[str, Any] = {"call": call}
        contract = self.contracts(call) if self.contracts else self.contract
        if contract is not None:
            tensors = {k: v for k, v in call.args.items() if isinstance(v, TensorSpec)}
            binding = contract.bind(call.op, tensors)
            known.update(binding.sizes, given=binding.given, forms=binding.forms)
        if self.sizes is not None:
            known.update(self.sizes(call))
        return known

    def evaluate(self, formula: Callable[..., Cost], call: Call, known: Mapping[str, Any]) -> Cost:
        """``formula`` on what it names: bound sizes first, then operands of the call, then its own defaults."""
        wants = self.wants if formula is self.cost else parameters(formula)
        values = {}
        for name, default in wants:
            if name in known:
                values[name] = known[name]
            elif name in call.args and not (call.args[name] is None and default is not inspect.Parameter.empty):
                values[name] = call.args[name]
            elif default is not inspect.Parameter.empty:
                values[name] = default
            else:
                raise KeyError(name)
        return formula(**values)


def parameters(function: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    """The names and defaults of a formula's parameters."""
    return tuple((p.name, p.default) for p in inspect.signature(function).parameters.values())


def moved(call: Call) -> tuple[int, int]:
    """The bytes read and written where each operand is read once and each result written once; ``out=`` is not read."""
    out = call.args.get("out")
    given = out.nbytes if isinstance(out, TensorSpec) else 0
    return sum(t.nbytes for t in call.tensors()) - given, sum(t.nbytes for t in call.outputs)


def four_fold(cost: Cost) -> Cost:
    """A complex multiply-add is four real ones; a complex addition is two."""
    return replace(cost, fma=4 * cost.fma, add=2 * cost.add, mul=2 * cost.mul)


Declared = Callable[[Callable[..., Cost]], Callable[..., Cost]]


class Registry(dict[str, Rule]):
    """Rules by operator name. Two rules for one operator are an error that names both."""

    def declare(self, rule: Rule) -> None:
        """Add ``rule`` under each of its operators."""
        for op in rule.ops:
            if "::" not in op:
                raise RuleError(f"operator names are qualified, as in 'aten::mm'; got {op!r}")
            if op in self:
                raise RuleError(f"{op} has two rules: {_where(self[op])} and {_where(rule)}")
            self[op] = rule

    def rule(self, *ops: str, contract: str = "", **options: Any) -> Declared:
        """Declare the decorated formula as the cost of ``ops``; the options are the fields of `Rule`."""

        def register(cost: Callable[..., Cost]) -> Callable[..., Cost]:
            parsed = Contract.parse(contract) if contract else None
            self.declare(Rule(ops, cost, contract=parsed, wants=parameters(cost), **options))
            return cost

        return register

    def find(self, op: str) -> Rule | None:
        """The rule for ``op``; an in-place form (``aten::add_``) costs what its plain form costs."""
        found = self.get(op)
        return self.get(op[:-1]) if found is None and op.endswith("_") else found


def _where(rule: Rule) -> str:
    return f"{rule.cost.__module__}.{rule.cost.__qualname__}"
