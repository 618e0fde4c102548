"""Price a trace: the only place where traces and rules meet."""

from __future__ import annotations

from flopscan import rules
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Trace


def price(trace: Trace) -> Ledger:
    """The ledger of ``trace``: each distinct call is priced once. A call without a rule is listed, never zero."""
    envelopes = {r.call for r in trace.records if r.envelope} - {r.call for r in trace.records if not r.envelope}
    return Ledger(trace, tuple(Price(None) if i in envelopes else price_call(c) for i, c in enumerate(trace.calls)))


def price_call(call: Call) -> Price:
    """The price of one call."""
    rule = rules.find(call.op)
    if rule is None:
        return Price(None, note="no rule for this operator")
    return rule.price(call)
