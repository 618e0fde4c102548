"""Measure this machine through torch: what it copies, multiplies, adds and exponentiates a second at best.

A measurement grows its tensors while time and memory allow, takes the median of what it sees at each size, and keeps
the fastest size; of a copy the largest, which no cache holds. Nothing runs for long: a size is tried only where the one
before says that it fits into the time.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch

from flopscan.devices.device import Device, Figure, Source
from flopscan.errors import UsageError

DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16")
_TORCH = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_SHARE_OF_MEMORY = 8  # tensors take at most this part of the memory that is free ...
_LARGEST = 2**30  # ... and at most so many bytes
_LEAST_SAMPLE = 1e-3  # shorter calls are timed several at once
_SAMPLES = (3, 50)
_BUSY = 0.3  # of the cores: from there on others are in the way
_UNITS = {"copy": "B/s", "product": "FLOP/s", "elementwise": "FLOP/s", "exp": "/s"}


@dataclass(frozen=True)
class Measured:
    """A rate a second: the median of ``samples`` at the fastest size, and the quartiles around it."""

    name: str
    dtype: str
    rate: float
    low: float
    high: float
    samples: int
    size: str

    @property
    def unit(self) -> str:
        """The unit of ``rate``."""
        return _UNITS[self.name]


@dataclass(frozen=True)
class _Kind:
    """What is measured: the smallest size, how work grows when a size doubles, the work of a size, and its run."""

    name: str
    first: int
    growth: int
    work: Callable[[int, int], float]
    tensors: Callable[[int], int]
    prepare: Callable[[int, torch.dtype, str], Callable[[], Any]]


def measure(on: str, dtypes: Sequence[str], seconds: float) -> list[Measured]:
    """The rates of ``on`` (cpu, cuda) in about ``seconds``: a copy, then by dtype products, elementwise and exp.

    Raises UsageError for a device that torch does not see, or tf32 where there is none.
    """
    if on == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch sees no CUDA device here; measure with --on cpu")
    if "tf32" in dtypes and on != "cuda":
        raise UsageError("tf32 is what matrix units of a GPU compute; measure fp32 on a CPU")
    plan = [(_COPY, "fp32")]
    for dtype in dict.fromkeys(dtypes):
        plan += [(_PRODUCT, dtype)] + [(kind, dtype) for kind in (_ELEMENTWISE, _EXP) if dtype != "tf32"]
    with torch.no_grad():
        return [_best(kind, dtype, on, seconds / len(plan)) for kind, dtype in plan]


def busy() -> str:
    """How busy this machine is, in words, where that spoils a measurement; empty where it idles or does not say."""
    cores = os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # not everywhere
        return ""
    return f"others kept {load:.1f} of {cores} cores busy" if load > _BUSY * cores else ""


def device(measured: Sequence[Measured], on: str, name: str, *, remark: str = "") -> Device:
    """A device file's record of what was measured; ``remark`` is a note more."""
    source = Source(f"measured with torch {torch.__version__}", date.today().isoformat())

    def figures(kind: str) -> dict[str, Figure]:
        return {m.dtype: _figure(m, source) for m in measured if m.name == kind}

    fastest = max((m for m in measured if m.name == "exp"), key=lambda m: m.rate, default=None)
    copy = next(m for m in measured if m.name == "copy")
    return Device(
        name, title(on), f"measured {on}", Figure(float(_memory(on)[1]), source), _figure(copy, source),
        figures("product"), figures("elementwise"), None if fastest is None else _figure(fastest, source),
        notes=(
            "what torch reached, not what the hardware can: faster code beats a bound that is made of it",
            "matrix: products; vector: x + y * z by elements; special: exp; bandwidth: a copy, read and written",
            *((remark,) if remark else ()),
        ),
    )  # fmt: skip


def title(on: str) -> str:
    """The model of the device, in words."""
    if on == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _figure(measured: Measured, source: Source) -> Figure:
    how = f"{measured.name} of {measured.size}, median of {measured.samples}"
    return Figure(measured.rate, source, f"{how}, quartiles {measured.low:.4g} and {measured.high:.4g}")


def _best(kind: _Kind, dtype: str, on: str, seconds: float) -> Measured:
    """What was seen at the size that counts, of those that fit into ``seconds`` and into the memory."""
    end = time.perf_counter() + seconds
    number = getattr(torch, _TORCH[dtype])
    found: list[Measured] = []
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    try:
        for size in _sizes(kind, number, on):
            run = kind.prepare(size, number, on)
            once, rates = _sampled(run, kind.work(size, number.itemsize), on, min(end, _now() + seconds / 4))
            low, middle, high = _quartiles(rates)
            shape = f"{size}x{size} {_TORCH[dtype]}" if kind is _PRODUCT else f"{size} {_TORCH[dtype]}"
            found.append(Measured(kind.name, dtype, middle, low, high, len(rates), shape))
            if _now() + 2 * once * kind.growth > end:
                break
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found[-1] if kind is _COPY else max(found, key=lambda m: m.rate)


def _sizes(kind: _Kind, dtype: torch.dtype, on: str) -> Iterator[int]:
    """The sizes from the smallest on, each twice the one before, as memory allows; the smallest in any case."""
    most = min(_memory(on)[0] // _SHARE_OF_MEMORY, _LARGEST)
    size = kind.first
    yield size
    while kind.tensors(2 * size) * dtype.itemsize <= most:
        size *= 2
        yield size


def _sampled(run: Callable[[], Any], work: float, on: str, end: float) -> tuple[float, list[float]]:
    """The time of a call, and the rate of each sample: as many as fit before ``end``, but three."""
    _timed(run, on, 1)  # pays for what torch sets up
    once = min(_timed(run, on, 1) for _ in range(2))
    calls = max(1, min(1000, round(_LEAST_SAMPLE / once) if once else 1000))
    taken: list[float] = []
    while len(taken) < _SAMPLES[1] and (len(taken) < _SAMPLES[0] or _now() < end):
        taken.append(max(_timed(run, on, calls), 1e-9))
    return statistics.median(taken) / calls, [work * calls / seconds for seconds in taken]


def _timed(run: Callable[[], Any], on: str, calls: int) -> float:
    _wait(on)
    start = _now()
    for _ in range(calls):
        run()
    _wait(on)
    return _now() - start


def _wait(on: str) -> None:
    if on == "cuda":
        torch.cuda.synchronize()


def _now() -> float:
    return time.perf_counter()


def _quartiles(rates: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(rates, n=4, method="inclusive")
    return low, middle, high


def _memory(on: str) -> tuple[int, int]:
    """The bytes that are free, and all there are."""
    if on == "cuda":
        return torch.cuda.mem_get_info()
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    except (ValueError, OSError, AttributeError):
        return _LARGEST, _LARGEST  # a system that does not say: small tensors


def _copied(size: int, dtype: torch.dtype, on: str) -> Callable[[], Any]:
    source, target = torch.ones(size, dtype=dtype, device=on), torch.empty(size, dtype=dtype, device=on)
    return lambda: target.copy_(source)


def _multiplied(size: int, dtype: torch.dtype, on: str) -> Callable[[], Any]:
    left, right = (torch.full((size, size), 0.01, dtype=dtype, device=on) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype, device=on)
    return lambda: torch.mm(left, right, out=out)


def _added(size: int, dtype: torch.dtype, on: str) -> Callable[[], Any]:
    x, y, z = (torch.full((size,), 0.5, dtype=dtype, device=on) for _ in range(3))
    return lambda: torch.addcmul(x, y, z, out=x)


def _exponentiated(size: int, dtype: torch.dtype, on: str) -> Callable[[], Any]:
    x = torch.linspace(-1, 1, size, dtype=torch.float32, device=on).to(dtype)
    out = torch.empty_like(x)
    return lambda: torch.exp(x, out=out)


_COPY = _Kind("copy", 2**22, 2, lambda n, itemsize: 2.0 * n * itemsize, lambda n: 2 * n, _copied)
_PRODUCT = _Kind("product", 128, 8, lambda n, itemsize: 2.0 * n**3, lambda n: 3 * n * n, _multiplied)
_ELEMENTWISE = _Kind("elementwise", 2**14, 2, lambda n, itemsize: 2.0 * n, lambda n: 3 * n, _added)
_EXP = _Kind("exp", 2**14, 2, lambda n, itemsize: 1.0 * n, lambda n: 2 * n, _exponentiated)
