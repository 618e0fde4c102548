"""Price a trace: the only place where traces and rules meet."""

from __future__ import annotations

from dataclasses import replace

from flopscan import rules
from flopscan.core.cost import ZERO, Count, total
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Record, Trace


def price(trace: Trace) -> Ledger:
    """The ledger of ``trace``: each distinct call is priced once. A call without a rule is listed, never zero."""
    envelopes = {r.call for r in trace.records if r.envelope}
    prices = tuple(Price(None) if i in envelopes else price_call(call) for i, call in enumerate(trace.calls))
    if any(record.branch for record in trace.records):
        trace = replace(trace, records=_larger_branches(trace.records, prices))
    return Ledger(trace, prices)


def price_call(call: Call) -> Price:
    """The price of one call."""
    rule = rules.find(call.op)
    if rule is None:
        return Price(None, note="no rule for this operator")
    sparse = {t.layout for t in (*call.tensors(), *call.outputs) if t.layout != "strided"}
    if sparse:
        return Price(None, note=f"no formula for the layout {', '.join(sorted(sparse))}")
    return rule.price(call)


def on_matrix_units(call: Call, price: Price) -> tuple[Count, Count]:
    """The multiply-adds of the ideal and the executed cost that may run on matrix units, as the call's rule says.

    All of them where the rule is not here (a ledger priced with rules of another package): that they may not, nobody
    says.
    """
    rule = rules.find(call.op)
    if rule is None:
        ideal = price.ideal or ZERO
        return ideal.fma, (price.executed or ideal).fma
    return rule.on_matrix(call, price)


def _larger_branches(records: tuple[Record, ...], prices: tuple[Price, ...]) -> tuple[Record, ...]:
    """The records without those of the smaller branch of each conditional, the innermost decided first."""
    while marked := {r.branch for r in records if r.branch}:
        deepest = max(marked, key=lambda branch: branch.count("/"))
        outer, _, last = deepest.rpartition("/")
        group = last.split(".")[0]
        sides: dict[str, list[Record]] = {}
        for record in records:
            head, _, tail = record.branch.rpartition("/")
            if record.branch and head == outer and tail.split(".")[0] == group:
                sides.setdefault(record.branch, []).append(record)
        chosen = max(sides, key=lambda branch: _work(sides[branch], prices))
        kept = [r for r in records if r.branch not in sides or r.branch == chosen]
        records = tuple(replace(r, branch=outer) if r.branch == chosen else r for r in kept)
    return records


def _work(records: list[Record], prices: tuple[Price, ...]) -> tuple[int, int]:
    cost = total((prices[r.call].ideal, r.count) for r in records if prices[r.call].ideal is not None)  # type: ignore[misc]
    arithmetic = cost.arithmetic()
    return sum(arithmetic.values()) + arithmetic.get("fma", 0), cost.read + cost.written
