"""What becomes of torch's own operator samples (its OpInfo database, in the wheel) when flopscan counts them.

A sample is counted on its shapes; where that is refused, it is counted by running it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

import flopscan
from flopscan.errors import FlopscanError

DTYPES = (torch.float32, torch.complex64, torch.int64, torch.float8_e4m3fn)  # the first that the operator takes

OUTSIDE = {"as_strided.partial_views"}  # reads memory outside of its operand; a count works on a copy of the operand

WHOLE, PARTIAL, REFUSED, CRASHED = "counted", "partly uncounted", "refused", "crashed"


@dataclass(frozen=True)
class Count:
    """One route's answer for a sample: what became of it, its cost by kind, what was not counted, the error."""

    outcome: str
    kinds: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    error: str = ""

    @property
    def counted(self) -> bool:
        """Whether there is a count, whole or not."""
        return self.outcome in (WHOLE, PARTIAL)


@dataclass(frozen=True)
class Result:
    """A sample's answers: on shapes, and by running (None where that was not asked)."""

    operator: str
    sample: str
    shapes: Count
    running: Count | None
    works: bool

    @property
    def final(self) -> Count:
        """The answer that a user gets: on shapes, or by running where that was refused."""
        return self.shapes if self.shapes.counted or self.running is None else self.running

    @property
    def agrees(self) -> bool:
        """False where both routes counted the sample, left the same uncounted, and counted the rest differently."""
        shapes, running = self.shapes, self.running
        if running is None or not shapes.counted or not running.counted or shapes.uncounted != running.uncounted:
            return True
        return shapes.kinds == running.kinds


@dataclass
class Tally:
    """Results summed: samples by outcome, uncounted operators and disagreements by the operators they occur in."""

    samples: int = 0
    whole: int = 0
    partial: int = 0
    ran: int = 0  # of those, refused on shapes and counted by running
    impossible: int = 0  # neither counted nor runnable without flopscan
    uncounted: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    different: dict[str, list[str]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one more result."""
        self.samples += 1
        final = result.final
        name = f"{result.operator} {result.sample}"
        for route in filter(None, (result.shapes, result.running)):
            if route.outcome == CRASHED:
                self.failures.append(f"{name}: {route.error}")
        if result.running is not None and result.running.outcome == REFUSED and result.works:
            self.failures.append(f"{name}: works, but not while it is counted: {result.running.error}")
        if final.counted:
            self.whole += final.outcome == WHOLE
            self.partial += final.outcome == PARTIAL
            self.ran += final is result.running
        else:
            self.impossible += not result.works
        for op in final.uncounted:
            names = self.uncounted.setdefault(op, [])
            if result.operator not in names:
                names.append(result.operator)
        if not result.agrees:
            counts = f"{result.sample}: shapes {result.shapes.kinds}, running {result.running.kinds}"  # type: ignore[union-attr]
            self.different.setdefault(result.operator, []).append(counts)

    def merge(self, other: Tally) -> None:
        """Add another tally."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            if isinstance(mine, int):
                setattr(self, name, mine + value)
            elif isinstance(mine, list):
                mine += value
            else:
                for op, names in value.items():
                    mine[op] = list(dict.fromkeys([*mine.get(op, []), *names]))

    @property
    def share(self) -> float:
        """Of the samples that work at all, those with nothing uncounted."""
        return self.whole / max(self.samples - self.impossible, 1)

    def __str__(self) -> str:
        total = max(self.samples, 1)
        lines = [
            f"{self.samples} samples: {self.whole} counted whole ({self.whole / total:.2%}),"
            f" {self.partial} with something uncounted ({self.partial / total:.2%}),"
            f" {self.ran} of these refused on shapes and counted by running ({self.ran / total:.2%}),"
            f" {self.impossible} that torch itself cannot run here,"
            f" {len(self.failures)} failed,"
            f" {sum(map(len, self.different.values()))} counted differently by the two routes"
        ]
        ranked = sorted(self.uncounted.items(), key=lambda item: (-len(item[1]), item[0]))
        lines += [f"uncounted {op} in {len(names)}: {', '.join(names[:4])}" for op, names in ranked]
        return "\n".join(lines)


def tally(infos: Iterable[Any], *, most: int | None = None, both: bool = False) -> Tally:
    """The tally over the samples (the first ``most``) of some OpInfos; ``both``: by both routes."""
    found = Tally()
    for info in infos:
        for result in results(info, most=most, both=both):
            if result.operator not in OUTSIDE:
                found.add(result)
    return found


def results(info: Any, *, most: int | None = None, both: bool = False) -> Iterator[Result]:
    """A Result for each sample (the first ``most``) of an OpInfo; ``both``: by both routes even if shapes suffice."""
    name = f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name
    for i, sample in enumerate(islice(samples(info), most)):
        packed = [sample.input, list(sample.args), dict(sample.kwargs)]

        def call(packed: Any, op: Callable[..., Any] = info.op) -> Any:
            return op(packed[0], *packed[1], **packed[2])

        shapes = counted(call, packed)
        running = None
        if both or not shapes.counted:
            running = counted(call, packed, run=True)
        works = running is None or running.counted or _works(call, packed)
        yield Result(name, f"sample {i}", shapes, running, works)


def samples(info: Any) -> Iterator[Any]:
    """The samples of an OpInfo, the same each time; none where it does not run on CPU."""
    supported = info.supported_dtypes("cpu")
    dtype = next((d for d in DTYPES if d in supported), None)
    if dtype is not None:
        torch.manual_seed(0)
        random.seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # not sample_inputs: it looks through the whole stack for the name of the test, 0.2 s under pytest
            yield from info.sample_inputs_func(info, "cpu", dtype, requires_grad=False)


def counted(call: Callable[..., Any], packed: Any, *, run: bool = False) -> Count:
    """What flopscan says of ``call(packed)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            report = flopscan.count(call, packed, run=run)
            missing = {row.op for row in report.uncounted}
            return Count(PARTIAL if missing else WHOLE, report.cost.arithmetic(), tuple(sorted(missing)))
        except FlopscanError as error:
            return Count(REFUSED, error=f"{type(error).__name__}: {error}")
        except Exception as error:
            return Count(CRASHED, error=f"{type(error).__name__}: {error}")


def _works(call: Callable[..., Any], packed: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.no_grad():
                call(packed)
        except Exception:
            return False
        return True


__all__ = ["Count", "Result", "Tally", "counted", "op_db", "results", "samples", "tally"]
