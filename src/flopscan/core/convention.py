"""Convention: how kinds and operators become one number, with a unit and a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from flopscan.core.amount import Amount
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call
from flopscan.errors import SchemaError

Handle = Callable[[Call], int]


@dataclass(frozen=True)
class Bug:
    """A known mistake of a peer that its convention reproduces: its name, where it is told, and what would be right.

    ``right`` holds the handles that take the place of the wrong ones, as the peer would count without the mistake.
    """

    name: str
    source: str
    right: Mapping[str, Handle]


@dataclass(frozen=True)
class Convention:
    """A named way to count. Ours weigh kinds (``weights``); a peer's say what each operator adds (``handles``).

    A handle is keyed by the operator's name, or by the name of a function as the user wrote it (``torch::matmul``) or
    of a module's class (``module::torch.nn.modules.linear.Linear``); what is inside of such a one is not counted
    again, unless it is among those that the peer looks ``through``. Without weights, an operator that has
    no handle counts zero: that is what the peer does, and `uncounted` still lists what our rules do not know.
    ``phases`` are those that it sees at all; empty means every one. ``scan`` is its formula of a selective scan, in
    axis letters, ``ssd`` of Mamba-2's: a report with a scan in it shows the conventions that have one side by side.
    ``bugs`` are the known mistakes among the handles, and ``version`` the version of the peer that the handles are
    those of.
    """

    name: str
    unit: str
    summary: str
    source: str
    weights: Mapping[str, int] = field(default_factory=dict)
    handles: Mapping[str, Handle] = field(default_factory=dict)
    phases: tuple[str, ...] = ()
    scan: str = ""
    ssd: str = ""
    through: frozenset[str] = frozenset()
    bugs: tuple[Bug, ...] = ()
    version: str = ""

    def without(self, *names: str) -> Convention:
        """This convention with the bugs called ``names`` mended (all of them for none). Raises KeyError for another."""
        known = {bug.name: bug for bug in self.bugs}
        handles = dict(self.handles)
        for name in names or known:
            handles.update(known[name].right)
        return replace(self, handles=handles, bugs=tuple(b for b in self.bugs if names and b.name not in names))

    def takes(self, op: str) -> bool:
        """Whether what is inside of ``op`` is not looked at."""
        return op in self.handles and op not in self.through

    def of(self, call: Call, cost: Cost | None) -> int:
        """What one call adds to the total."""
        handle = self.handles.get(call.op)
        if handle is not None:
            try:
                return handle(call)
            except (KeyError, AttributeError, ValueError) as error:
                text = f"{self.name} cannot count {call.op}: its operands in the trace are not torch's ({error!r})"
                raise SchemaError(f"{text}; capture it again") from error
        if cost is None or not self.weights:
            return 0
        return sum(weight * getattr(cost, kind) for kind, weight in self.weights.items())

    def counts(self, ledger: Ledger) -> list[int]:
        """What each record of the ledger's trace adds, record by record; the sum is the total."""
        trace, prices = ledger.trace, ledger.prices
        taken: list[bool] = []  # per frame: whether a handle took it, or one around it; a parent comes first
        for frame in trace.frames:
            op = trace.calls[frame.call].op
            around = frame.parent >= 0 and taken[frame.parent]
            taken.append(around or self.takes(op))
        per_call: dict[int, int] = {}
        counts = []
        for record in trace.records:
            op = trace.calls[record.call].op
            enveloped = record.inside >= 0 and taken[record.inside]
            unseen = bool(self.phases) and record.phase not in self.phases
            if unseen or enveloped or (record.envelope and op not in self.handles):
                counts.append(0)
                continue
            if record.call not in per_call:
                per_call[record.call] = self.of(trace.calls[record.call], prices[record.call].ideal)
            counts.append(per_call[record.call] * record.count)
        return counts

    def total(self, ledger: Ledger) -> Amount:
        """The one number, in this convention's unit."""
        return Amount(sum(self.counts(ledger)), self.unit)
