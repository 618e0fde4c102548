"""Roofline: the least time that a counted model takes on a device, operator by operator. A bound, not a prediction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from flopscan import analysis, devices
from flopscan.core.cost import ZERO, Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Record
from flopscan.devices.bound import UNITS, Bound, Work, arithmetic_dtype, bound, rates
from flopscan.devices.device import DTYPES, Device
from flopscan.errors import UsageError
from flopscan.report.ends import stored
from flopscan.report.recast import recast

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Form:
    """One call in the form that is fastest on the device: the recurrence of a scan, say, or its products by chunks."""

    cost: Cost
    work: Work
    bound: Bound


@dataclass(frozen=True, slots=True)
class Bounded:
    """An operator, or a module with all below it: its calls one after the other, each bound by its busiest unit.

    ``limits`` are the seconds that go to calls bound by each unit; they sum to ``seconds``.
    """

    name: str
    seconds: float
    limits: Mapping[str, float]
    calls: int
    flops: int
    bytes: int
    uncounted: int = 0
    cls: str = ""

    @property
    def by(self) -> str:
        """The unit that most of the time is bound by."""
        return max(self.limits, key=lambda unit: self.limits[unit]) if self.seconds else ""

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte; None where nothing moves."""
        return self.flops / self.bytes if self.bytes else None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-ready data, times in seconds."""
        data: dict[str, Any] = {"name": self.name, **({"class": self.cls} if self.cls else {})}
        return {
            **data, "seconds": self.seconds, "bound_by": self.by, "limits": dict(self.limits), "calls": self.calls,
            "flops": self.flops, "bytes": self.bytes, "intensity": self.intensity, "uncounted": self.uncounted,
        }  # fmt: skip


@dataclass(frozen=True)
class Roofline:
    """A ledger on a device. ``dtype`` is the one asked for; empty where each call keeps its own."""

    ledger: Ledger
    device: Device
    dtype: str = ""
    forms: Mapping[int, Form] = field(default_factory=dict, repr=False)

    @cached_property
    def all(self) -> Bounded:
        """Every operator, one after the other."""
        records = [record for record in self.ledger.trace.records if not record.envelope]
        return self._sum("", records)

    @property
    def total(self) -> float:
        """Seconds at least where each operator reads its operands from memory and writes its results back."""
        return self.all.seconds

    @cached_property
    def fused(self) -> Bound:
        """The bound with everything fused and overlapped: the ends move once, and all units work at once."""
        works: dict[str, list[Work]] = {}
        for record in self.ledger.trace.records:
            form = None if record.envelope else self.forms.get(record.call)
            if form is not None:
                works.setdefault(form.work.dtype, []).append(_times(replace(form.work, memory=0), record.count))
        sums = [_added(dtype, several) for dtype, several in works.items()]
        at_the_ends = Work(self.dtype or (sums[0].dtype if sums else "fp32"), memory=self.stored)
        return bound(self.device, at_the_ends, *sums)

    @property
    def stored(self) -> int:
        """The bytes of parameters, inputs and outputs, each once."""
        return stored(self.ledger, self.dtype)

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte over all operators."""
        return self.all.intensity

    @property
    def ridge(self) -> float | None:
        """The intensity from which on the arithmetic of products takes longer than their bytes; None if not known."""
        known = rates(self.device, self.main_dtype)
        rate = known.matrix if known.products_on == "matrix" else known.vector
        return rate / known.memory if rate and known.memory else None

    @property
    def main_dtype(self) -> str:
        """The dtype asked for; else the one in which most arithmetic is done."""
        if self.dtype:
            return self.dtype
        flops: dict[str, int] = {}
        for record in self.ledger.trace.records:
            form = None if record.envelope else self.forms.get(record.call)
            if form is not None:
                work = form.work
                flops[work.dtype] = flops.get(work.dtype, 0) + (work.matrix + work.vector) * record.count
        return max(flops, key=lambda dtype: flops[dtype], default="fp32")

    @property
    def unknown(self) -> tuple[str, ...]:
        """The rates that were needed and that nobody gives; what they would bound is left out."""
        found = dict.fromkeys(name for form in self.forms.values() for name in form.bound.unknown)
        return tuple(found)

    @property
    def least(self) -> bool:
        """Whether operators that were not counted are missing, so that even the bound could be higher."""
        return self.all.uncounted > 0

    def by_operator(self) -> dict[str, Bounded]:
        """A row per operator, the longest first."""
        calls = self.ledger.trace.calls
        rows = self._grouped(lambda record: calls[record.call].op)
        return dict(sorted(rows.items(), key=lambda item: -item[1].seconds))

    def by_module(self) -> dict[str, Bounded]:
        """A row per module path, in the model's order, each with everything below it; the root is ''."""
        trace = self.ledger.trace
        paths = {module.path: module.cls for module in trace.modules}
        pieces: dict[str, list[Record]] = {path: [] for path in paths}
        for record in trace.records:
            if record.envelope:
                continue
            path = trace.modules[record.module].path
            while True:
                if path in pieces:
                    pieces[path].append(record)
                if not path:
                    break
                path = path.rpartition(".")[0]
        return {path: replace(self._sum(path, records), cls=paths[path]) for path, records in pieces.items()}

    def own(self) -> dict[tuple[str, str], float]:
        """The seconds of the calls that each module makes itself, by its path and operator."""
        trace = self.ledger.trace
        rows = self._grouped(lambda record: (trace.modules[record.module].path, trace.calls[record.call].op))
        return {key: row.seconds for key, row in rows.items()}

    def to_dict(self) -> dict[str, Any]:
        """The roofline as JSON-ready data: ``points`` are the operators; seconds, and FLOPs a byte."""
        fused, whole = self.fused, self.all
        return {
            "device": self.device.name,
            "title": self.device.title,
            "dtype": self.dtype or None,
            "arithmetic_dtype": self.main_dtype,
            "seconds": whole.seconds,
            "limits": dict(whole.limits),
            "bound_by": whole.by,
            "fused": {
                "seconds": fused.seconds, "bound_by": fused.by, "busy": dict(fused.busy), "bytes": self.stored,
            },
            "intensity": whole.intensity,
            "ridge": self.ridge,
            "rates": self.peaks(),
            "at_least": self.least,
            "unknown_rates": list(self.unknown),
            "points": [row.to_dict() for row in self.by_operator().values() if row.seconds or row.uncounted],
            "by_module": [row.to_dict() for row in self.by_module().values()],
            "assumptions": list(self.assumptions()),
        }  # fmt: skip

    def peaks(self) -> dict[str, float | None]:
        """The rates of the main dtype by unit: bytes, FLOPs, FLOPs and functions a second."""
        known = rates(self.device, self.main_dtype)
        return {unit: getattr(known, unit) for unit in UNITS}

    def assumptions(self) -> tuple[str, ...]:
        """What the bound takes for granted, in sentences."""
        from flopscan.report.roofline_text import assumptions

        return assumptions(self)

    def __str__(self) -> str:
        from flopscan.report import roofline_text

        return roofline_text.render(self)

    def __repr__(self) -> str:
        return f"<Roofline of {self.ledger.trace.origin.get('target', 'a count')} on {self.device.name}>"

    def _grouped(self, key: Callable[[Record], Key]) -> dict[Key, Bounded]:
        groups: dict[Key, list[Record]] = {}
        for record in self.ledger.trace.records:
            if not record.envelope:
                groups.setdefault(key(record), []).append(record)
        return {name: self._sum(str(name), records) for name, records in groups.items()}

    def _sum(self, name: str, records: Iterable[Record]) -> Bounded:
        limits: dict[str, float] = {}
        calls = flops = moved = missing = 0
        for record in records:
            calls += record.count
            form = self.forms.get(record.call)
            if form is None:
                missing += record.count
                continue
            work = form.work
            flops += (work.matrix + work.vector + form.cost.sqrt) * record.count
            moved += work.memory * record.count
            if form.bound.by:
                limits[form.bound.by] = limits.get(form.bound.by, 0.0) + form.bound.seconds * record.count
        limits = {unit: limits[unit] for unit in UNITS if unit in limits}
        return Bounded(name, sum(limits.values()), limits, calls, flops, moved, missing)


def roofline(ledger: Ledger, device: str | Device, dtype: str | None = None) -> Roofline:
    """The roofline of ``ledger`` on ``device`` (a name, a device file, a record).

    With a ``dtype`` everything is counted again as if each floating tensor had it. Raises UsageError for an unknown
    device or dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"there is no dtype {dtype!r} for a roofline; expected {', '.join(DTYPES)}")
    on = device if isinstance(device, Device) else devices.get(device)
    if dtype is not None:
        ledger = recast(ledger, dtype)
    wanted = {record.call for record in ledger.trace.records if not record.envelope}
    forms = {}
    for index in wanted:
        price = ledger.prices[index]
        if price.ideal is not None:
            forms[index] = _fastest(on, ledger.trace.calls[index], price, dtype)
    return Roofline(ledger, on, dtype or "", forms)


def _fastest(device: Device, call: Call, price: Price, dtype: str | None) -> Form:
    """The call in the faster of the two forms that its rule knows; where both take as long, the one with less to do."""
    tensors = tuple(tensor.dtype for tensor in (*call.tensors(), *call.outputs))
    computed = arithmetic_dtype(tensors)
    if dtype is not None and computed != "int8":
        computed = dtype
    on_matrix = analysis.on_matrix_units(call, price)
    costs = [price.ideal or ZERO] + ([price.executed] if price.executed is not None else [])
    forms = []
    for cost, products in zip(costs, on_matrix, strict=False):
        work = Work.of(cost, products, computed)
        forms.append(Form(cost, work, bound(device, work)))
    return min(forms, key=lambda form: (form.bound.seconds, sum(form.bound.busy.values())))


def _times(work: Work, count: int) -> Work:
    return Work(work.dtype, work.memory * count, work.matrix * count, work.vector * count, work.special * count)


def _added(dtype: str, works: Iterable[Work]) -> Work:
    several = list(works)
    return Work(dtype, *(sum(getattr(work, unit) for work in several) for unit in UNITS))
