"""Convention: how kinds and operators become one number, with a unit and a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flopscan.core.amount import Amount
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Trace
from flopscan.errors import SchemaError

Handle = Callable[[Call], int]
WrittenOut = Callable[[Call], Iterable[tuple[int, Call]]]
Settle = Callable[[Trace, list[int]], list[int]]
_WRITTEN = ("torch::", "module::")  # functions and modules as the user wrote them
_TORCHS_OWN = ("aten::", "prims::", "prim::")


@dataclass(frozen=True)
class Bug:
    """A known mistake of a peer that its convention reproduces: its name, where it is told, and what would be right.

    ``key`` is a word for it, as in ``torch~groups``: the convention without it. ``right`` holds the handles that take
    the place of the wrong ones, as the peer would count without the mistake; a step of ``settle`` with the name of the
    mistake is left out.
    """

    key: str
    name: str
    source: str
    right: Mapping[str, Handle] = field(default_factory=dict)


@dataclass(frozen=True)
class Convention:
    """A named way to count. Ours weigh kinds (``weights``); a peer's say what each operator adds (``handles``).

    A handle is keyed by the operator's name, or by the name of a function as the user wrote it (``torch::matmul``) or
    of a module's class (``module::torch.nn.modules.linear.Linear``); what is inside of such a one is not counted
    again, unless it is among those that the peer looks ``through``. Without weights, an operator that has
    no handle counts zero: that is what the peer does, and `uncounted` still lists what our rules do not know.
    ``phases`` are those that it sees at all; empty means every one. ``scan`` is its formula of a selective scan, in
    axis letters, ``ssd`` of Mamba-2's: a report with a scan in it shows the conventions that have one side by side;
    ``used_by`` names the models and projects whose published numbers are counted so.
    ``beyond`` says what the peer counts, or leaves out, that a trace cannot tell: a reason for what is left between its
    number and this one. ``bugs`` are the known mistakes among the handles, ``mended`` the keys of those that
    ``original`` has and this one has not, and ``version`` is the version of the peer that the handles are those of.

    Where names are not enough (every leaf module, any class of a package), ``fallback`` gives the handle of a function
    or module that has none, or None. A formula of a whole model, in parameters and tokens, is ``whole``: what each
    record of the ledger's trace adds to it; nothing else is asked then. ``settle`` are the steps, each with a name, by
    which the peer changes the counts of all records at the end: a division by the batch, a call that it forgets.
    ``module::`` among those that it looks ``through`` stands for every module. ``written_out`` says of an operator what
    functions, and how many of each, the peer sees in its place.
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
    used_by: str = ""
    through: frozenset[str] = frozenset()
    bugs: tuple[Bug, ...] = ()
    version: str = ""
    fallback: Callable[[Call], Handle | None] | None = None
    whole: Callable[[Ledger], Sequence[int]] | None = None
    settle: Mapping[str, Settle] = field(default_factory=dict)
    written_out: Mapping[str, WrittenOut] = field(default_factory=dict)
    beyond: str = ""
    mended: tuple[str, ...] = ()
    original: Convention | None = None

    def without(self, *mistakes: str) -> Convention:
        """This convention with mistakes mended, by their keys or names (all of them for none): ``torch~groups``.

        Raises KeyError for another.
        """
        if self.original is not None:
            return self.original.without(*self.mended, *(mistakes or (bug.key for bug in self.bugs)))
        known = {word: bug for bug in self.bugs for word in (bug.key, bug.name)}
        chosen = {known[word].key for word in mistakes} if mistakes else {bug.key for bug in self.bugs}
        mended = [bug for bug in self.bugs if bug.key in chosen]  # in this order, whatever order they are named in
        handles = dict(self.handles)
        for bug in mended:
            handles.update(bug.right)
        names, keys = {bug.name for bug in mended}, tuple(bug.key for bug in mended)
        return replace(
            self,
            name="~".join([self.name, *keys]),
            handles=handles,
            settle={name: step for name, step in self.settle.items() if name not in names},
            bugs=tuple(bug for bug in self.bugs if bug.key not in chosen),
            mended=keys,
            original=self,
        )

    def takes(self, call: Call) -> bool:
        """Whether what is inside of ``call`` is not looked at."""
        through = call.op in self.through or ("module::" in self.through and call.op.startswith("module::"))
        return not through and self._handle(call) is not None

    def knows(self, call: Call) -> bool:
        """Whether it has a formula of its own for ``call``, as an operator, a function or a module."""
        return call.op in self.written_out or self._handle(call) is not None

    def of(self, call: Call, cost: Cost | None) -> int:
        """What one call adds to the total."""
        if call.op in self.written_out:
            return sum(times * self.of(function, None) for times, function in self.written_out[call.op](call))
        handle = self._handle(call)
        if handle is not None:
            try:
                return handle(call)
            except (LookupError, AttributeError, TypeError, ValueError) as error:
                text = f"{self.name} cannot count {call.op}: its operands in the trace are not torch's ({error!r})"
                raise SchemaError(f"{text}; capture it again") from error
        if cost is None or not self.weights:
            return 0
        return sum(weight * getattr(cost, kind) for kind, weight in self.weights.items())

    def _taken(self, trace: Trace) -> list[bool]:
        """For each frame whether a handle takes it, or one around it."""
        taken: list[bool] = []  # a parent comes first
        takes: dict[int, bool] = {}
        for frame in trace.frames:
            around = frame.parent >= 0 and taken[frame.parent]
            if not around and frame.call not in takes:
                takes[frame.call] = self.takes(trace.calls[frame.call])
            taken.append(around or takes[frame.call])
        return taken

    def _handle(self, call: Call) -> Handle | None:
        found = self.handles.get(call.op)
        if found is None and self.fallback is not None and call.op.startswith(_WRITTEN):
            found = self.fallback(call)
        return found

    def counts(self, ledger: Ledger) -> list[int]:
        """What each record of the ledger's trace adds, record by record; the sum is the total."""
        if self.original is not None:  # made anew each time that it is asked for
            return self._counts(ledger)
        owner, counts = ledger.once(("counts", id(self)), lambda: (self, self._counts(ledger)))
        assert owner is self, "it is kept, so that no other has its id"
        return list(counts)

    def _counts(self, ledger: Ledger) -> list[int]:
        if self.whole is not None:
            return list(self.whole(ledger))
        trace, prices = ledger.trace, ledger.prices
        taken = self._taken(trace)
        per_call: dict[tuple[int, bool], int] = {}  # a call as an operator, or as a function as it is written
        counts = []
        for record in trace.records:
            enveloped = record.inside >= 0 and taken[record.inside]
            unseen = bool(self.phases) and record.phase not in self.phases
            if unseen or enveloped:
                counts.append(0)
                continue
            key = record.call, record.envelope
            if key not in per_call:
                call = trace.calls[record.call]
                silent = record.envelope and self._handle(call) is None
                per_call[key] = 0 if silent else self.of(call, prices[record.call].ideal)
            counts.append(per_call[key] * record.count)
        for step in self.settle.values():
            counts = step(trace, counts)
        return counts

    def kernels_at_zero(self, ledger: Ledger) -> dict[str, int]:
        """The kernels (operators that are not torch's own) that do arithmetic and add nothing here, with their calls.

        Those in a phase or inside of a function that it does not look at are not among them, nor those whose kinds of
        arithmetic have no weight.
        """
        if self.whole is not None:
            return {}
        trace, sums, calls = ledger.trace, dict[str, int](), dict[str, int]()
        taken = self._taken(trace)
        for record, count in zip(trace.records, self.counts(ledger), strict=True):
            op, cost = trace.calls[record.call].op, ledger.prices[record.call].ideal
            unseen = record.envelope or (self.phases and record.phase not in self.phases)
            if unseen or op.startswith(_TORCHS_OWN) or (record.inside >= 0 and taken[record.inside]):
                continue
            if cost is not None and cost.arithmetic() and (not self.weights or op in self.handles):
                sums[op] = sums.get(op, 0) + count
                calls[op] = calls.get(op, 0) + record.count
        return {op: calls[op] for op, value in sums.items() if not value}

    def total(self, ledger: Ledger) -> Amount:
        """The one number, in this convention's unit."""
        return Amount(sum(self.counts(ledger)), self.unit)
