"""Where two conventions meet: what each counts of a module, a function or an operator, and what there is to count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from flopscan.conventions._products import ATTENTION, attention
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Record, TensorSpec
from flopscan.report.families import Families


@dataclass
class Place:
    """A module, function or operator of a family: what two conventions count of it, and what it is.

    ``beside`` is the arithmetic that is no multiply-add, ``biases`` the elements that one is added to, ``masked`` the
    multiply-adds that a mask saves, ``pairs`` those of attention; ``outputs`` and ``inputs`` are elements.
    """

    first: int = 0
    second: int = 0
    multiply_adds: int = 0
    beside: int = 0
    biases: int = 0
    masked: int = 0
    pairs: int = 0
    outputs: int = 0
    inputs: int = 0

    def add(self, other: Place) -> None:
        """Take in another."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


Found = dict[str, dict[int, Place]]


def known(convention: Convention, ledger: Ledger) -> frozenset[int]:
    """The frames that a convention has a formula for; of a formula of a whole model every module without children."""
    trace = ledger.trace
    calls = (trace.calls[frame.call] for frame in trace.frames)
    if convention.whole is not None:
        return frozenset(i for i, call in enumerate(calls) if call.op.startswith("module::") and call["leaf"])
    return frozenset(i for i, call in enumerate(calls) if convention.knows(call))


def meet(
    ledger: Ledger, frames: frozenset[int], counts: tuple[Sequence[int], Sequence[int]], phases: frozenset[str]
) -> Found:
    """The places of each family, where ``frames`` are taken whole; ``counts`` are of each record in these phases."""
    families = Families(ledger, frames)
    found: Found = {}
    for index, (record, first, second) in enumerate(zip(ledger.trace.records, *counts, strict=True)):
        if record.phase not in phases:
            continue
        family, frame = families.place(record)
        place = found.setdefault(family, {}).setdefault(frame if frame >= 0 else -1 - index, Place())
        place.add(Place(first, second))
        if not record.envelope:
            place.add(_arithmetic(ledger, record))
        if frame < 0 or families.is_frame(record, frame):
            place.add(_elements(ledger.trace.calls[record.call], record.count))
    return found


def _arithmetic(ledger: Ledger, record: Record) -> Place:
    """What an operator computes."""
    call, cost = ledger.trace.calls[record.call], ledger.prices[record.call].ideal
    fma = int(cost.fma) if cost is not None else 0
    beside = 0 if cost is None else sum(int(getattr(cost, kind)) for kind in ("add", "mul", "div", "sqrt", "cmp"))
    dense = max(0, attention(call) - fma) if call.op == ATTENTION else 0
    pairs = call.out.numel // call["value"].shape[-1] * call["key"].shape[-2] if call.op == ATTENTION else 0
    n = record.count
    return Place(0, 0, n * fma, n * beside, n * _bias(call), n * dense, n * pairs)


def _elements(call: Call, count: int) -> Place:
    """How many elements go in first and come out first."""
    given = next(call.tensors(), None)
    made = call.outputs[0].numel if call.outputs else 0
    return Place(outputs=count * made, inputs=count * (given.numel if given is not None else 0))


def _bias(call: Call) -> int:
    """The elements that a bias is added to."""
    given = (
        call.get("bias") if call.op == "aten::convolution" else call.get("self") if call.op == "aten::addmm" else None
    )
    return call.out.numel if isinstance(given, TensorSpec) and call.outputs else 0
