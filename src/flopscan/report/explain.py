"""From one convention's total to another's, in named steps that sum exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, TensorSpec
from flopscan.report.families import Families

# what one multiply-add is in each unit; a convention of another unit counts its multiply-adds as one
_MULTIPLY_ADD = {"FLOP": 2}


@dataclass(frozen=True, slots=True)
class Step:
    """One reason for a difference, and how much it adds (or, below zero, takes away)."""

    reason: str
    amount: int


@dataclass(frozen=True)
class Explanation:
    """Two totals of one model and the steps between them, largest first: ``start + sum of steps == end``."""

    first: Convention
    second: Convention
    start: Amount
    end: Amount
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-ready data."""
        return {
            "from": {"convention": self.first.name, "value": int(self.start), "unit": self.start.unit},
            "to": {"convention": self.second.name, "value": int(self.end), "unit": self.end.unit},
            "steps": [{"reason": step.reason, "amount": step.amount} for step in self.steps],
        }

    def __str__(self) -> str:
        rows = [(f"{self.first.name}, {self.start.unit}", int(self.start), "")]
        rows += [(f"  {step.reason}", step.amount, "+" if step.amount > 0 else "") for step in self.steps]
        rows.append((f"{self.second.name}, {self.end.unit}", int(self.end), ""))
        numbers = [f"{sign}{value:,}" for _, value, sign in rows]
        wide, right = max(len(label) for label, _, _ in rows), max(map(len, numbers))
        return "\n".join(f"{row[0]:<{wide}}  {number:>{right}}" for row, number in zip(rows, numbers, strict=True))


def explain(ledger: Ledger, first: str, second: str) -> Explanation:
    """The steps from the total under ``first`` to that under ``second``. Raises UsageError for an unknown name."""
    a, b = conventions.get(first), conventions.get(second)
    start, end = a.total(ledger), b.total(ledger)
    mended_a, mended_b = a.without(), b.without()
    steps = [
        *(Step(f"bug of {a.name} mended: {name}", -amount) for name, amount in _bugs(a, ledger)),
        *_between(ledger, mended_a, mended_b),
        *(Step(f"bug of {b.name}: {name}", amount) for name, amount in _bugs(b, ledger)),
    ]
    merged: dict[str, int] = {}
    for step in steps:
        merged[step.reason] = merged.get(step.reason, 0) + step.amount
    ordered = sorted(merged.items(), key=lambda item: -abs(item[1]))
    found = tuple(Step(reason, amount) for reason, amount in ordered if amount)
    assert int(start) + sum(step.amount for step in found) == int(end), "the steps must sum"
    return Explanation(a, b, start, end, found)


def _bugs(convention: Convention, ledger: Ledger) -> Iterator[tuple[str, int]]:
    """What each known bug adds to the total, one mended after the other."""
    mended = convention
    for bug in convention.bugs:
        before, mended = mended, mended.without(bug.name)
        yield f"{bug.name} ({bug.source})", int(before.total(ledger)) - int(mended.total(ledger))


@dataclass
class _Sums:
    """What two conventions count of one family, and what there is to count."""

    first: int = 0
    second: int = 0
    multiply_adds: int = 0
    biases: int = 0


def _between(ledger: Ledger, a: Convention, b: Convention) -> list[Step]:
    trace = ledger.trace
    taken = {i: a.takes(trace.calls[f.call]) or b.takes(trace.calls[f.call]) for i, f in enumerate(trace.frames)}
    families = Families(ledger, taken)
    sums: dict[str, _Sums] = {}
    unseen: dict[str, list[int]] = {}
    counted = zip(trace.records, a.counts(ledger), b.counts(ledger), strict=True)
    for record, in_a, in_b in counted:
        if record.phase != "forward" and bool(a.phases) != bool(b.phases):
            both = unseen.setdefault(record.phase, [0, 0])
            both[0], both[1] = both[0] + in_a, both[1] + in_b
            continue
        found = sums.setdefault(families.of(record), _Sums())
        found.first += in_a
        found.second += in_b
        if not record.envelope:
            price = ledger.prices[record.call].ideal
            found.multiply_adds += int(price.fma) * record.count if price is not None else 0
            found.biases += _bias(trace.calls[record.call]) * record.count
    whole_a, whole_b = int(a.total(ledger)), int(b.total(ledger))
    steps = [
        Step(f"{phase}, which one of them does not see", second - first) for phase, (first, second) in unseen.items()
    ]
    for name, found in sums.items():
        steps += _steps(name, found, _MULTIPLY_ADD.get(a.unit, 1), _MULTIPLY_ADD.get(b.unit, 1))
    missing = (whole_b - whole_a) - sum(step.amount for step in steps)
    return [*steps, Step("formulas of the whole model, not of its parts", missing)] if missing else steps


def _steps(name: str, found: _Sums, weight_a: int, weight_b: int) -> Iterator[Step]:
    """The difference in one family: both may count it, or one of them alone."""
    if found.first == found.second:
        return
    if not found.first:
        yield Step(f"+ {name}", found.second)
        return
    if not found.second:
        yield Step(f"- {name}", -found.first)
        return
    scaled = (weight_b - weight_a) * found.multiply_adds
    rest = found.second - found.first - scaled
    if abs(rest) >= abs(found.second - found.first) and rest != 0:  # neither counts this family by its multiply-adds
        yield Step(f"{name}, counted otherwise", found.second - found.first)
        return
    if scaled:
        yield Step("x2: a multiply-add is two" if scaled > 0 else "/2: a multiply-add is one", scaled)
    for times in (1, -1, 2, -2):
        if found.biases and rest == times * found.biases:
            yield Step(f"{'+' if times > 0 else '-'} bias{' twice' if abs(times) > 1 else ''}", rest)
            return
    if rest:
        yield Step(f"{name}, counted otherwise", rest)


def _bias(call: Call) -> int:
    """The elements that a bias is added to."""
    given = (
        call.get("bias") if call.op == "aten::convolution" else call.get("self") if call.op == "aten::addmm" else None
    )
    return call.out.numel if isinstance(given, TensorSpec) and call.outputs else 0
