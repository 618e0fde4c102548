"""From one convention's total to another's, in named steps that sum exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.conventions._products import ATTENTION, attention
from flopscan.core.amount import Amount
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Record, TensorSpec
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

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from flopscan.report import notebook

        return notebook.text(str(self))

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
    """What two conventions count of one family or at one place of it, and what there is to count."""

    first: int = 0
    second: int = 0
    multiply_adds: int = 0
    biases: int = 0
    masked: int = 0

    def add(self, other: _Sums) -> None:
        """Take in another."""
        for name in ("first", "second", "multiply_adds", "biases", "masked"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def _between(ledger: Ledger, a: Convention, b: Convention) -> list[Step]:
    trace = ledger.trace
    known = {i: a.knows(trace.calls[f.call]) or b.knows(trace.calls[f.call]) for i, f in enumerate(trace.frames)}
    families = Families(ledger, known)
    places: dict[tuple[str, int], _Sums] = {}
    unseen: dict[str, list[int]] = {}
    counted = zip(trace.records, a.counts(ledger), b.counts(ledger), strict=True)
    for index, (record, in_a, in_b) in enumerate(counted):
        if record.phase != "forward" and bool(a.phases) != bool(b.phases):
            both = unseen.setdefault(record.phase, [0, 0])
            both[0], both[1] = both[0] + in_a, both[1] + in_b
            continue
        name, frame = families.place(record)
        sums = places.setdefault((name, frame if frame >= 0 else -1 - index), _Sums())
        sums.add(_Sums(in_a, in_b, *(() if record.envelope else _there_is(ledger, record))))
    whole_a, whole_b = int(a.total(ledger)), int(b.total(ledger))
    steps = [
        Step(f"{phase}, which one of them does not see", second - first) for phase, (first, second) in unseen.items()
    ]
    for name in dict.fromkeys(name for name, _ in places):
        steps += _steps(name, [sums for (of, _), sums in places.items() if of == name], a, b)
    missing = (whole_b - whole_a) - sum(step.amount for step in steps)
    return [*steps, Step("formulas of the whole model, not of its parts", missing)] if missing else steps


def _there_is(ledger: Ledger, record: Record) -> tuple[int, int, int]:
    """The multiply-adds of a record, the elements with a bias, the multiply-adds that an attention's mask saves."""
    call, price = ledger.trace.calls[record.call], ledger.prices[record.call].ideal
    fma = int(price.fma) if price is not None else 0
    dense = max(0, attention(call) - fma) if call.op == ATTENTION else 0
    return fma * record.count, _bias(call) * record.count, dense * record.count


def _steps(name: str, places: list[_Sums], a: Convention, b: Convention) -> Iterator[Step]:
    """The difference in one family: what one of them alone counts, and what both do."""
    first, second = sum(p.first for p in places), sum(p.second for p in places)
    if not first or not second:
        if first != second:
            yield Step(f"- {name}" if first else f"+ {name}", second - first)
        return
    both = _Sums()
    for place in places:
        if place.first and place.second:
            both.add(place)
    missed = sum(p.first for p in places if not p.second), sum(p.second for p in places if not p.first)
    if missed[0]:
        yield Step(f"- {name} that {b.name} does not count", -missed[0])
    if missed[1]:
        yield Step(f"+ {name} that {a.name} does not count", missed[1])
    yield from _of_both(name, both, _MULTIPLY_ADD.get(a.unit, 1), _MULTIPLY_ADD.get(b.unit, 1))


def _of_both(name: str, found: _Sums, weight_a: int, weight_b: int) -> Iterator[Step]:
    """The difference where both count: units, biases, masks, and what is counted by other rules."""
    if found.first == found.second:
        return
    scaled = (weight_b - weight_a) * found.multiply_adds
    rest = found.second - found.first - scaled
    if abs(rest) >= abs(found.second - found.first) and rest != 0:  # neither counts this family by its multiply-adds
        scaled, rest = 0, found.second - found.first
    if scaled:
        yield Step("x2: a multiply-add is two" if scaled > 0 else "/2: a multiply-add is one", scaled)
    reasons = {
        **{f"{sign} bias{twice}": (1 if sign == "+" else -1) * (2 if twice else 1) * found.biases
           for sign in "+-" for twice in ("", " twice")},
        "+ pairs that a mask hides": weight_b * found.masked,
        "- pairs that a mask hides": -weight_a * found.masked,
        "x2: a multiply-add is two": max(0, weight_b - weight_a) * found.masked,
        "/2: a multiply-add is one": min(0, weight_b - weight_a) * found.masked,
    }  # fmt: skip
    nearest = min(reasons, key=lambda reason: abs(rest - reasons[reason]))
    if 2 * abs(rest - reasons[nearest]) < abs(rest):
        yield Step(nearest, reasons[nearest])
        rest -= reasons[nearest]
    if rest:
        yield Step(f"{name}, counted otherwise", rest)


def _bias(call: Call) -> int:
    """The elements that a bias is added to."""
    given = (
        call.get("bias") if call.op == "aten::convolution" else call.get("self") if call.op == "aten::addmm" else None
    )
    return call.out.numel if isinstance(given, TensorSpec) and call.outputs else 0
