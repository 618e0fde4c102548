"""What counting costs: flopscan and the other counters on the same models, in the same run. `make bench` runs this.

Each measurement is a process of its own, forked once everything is imported, with the model built before the clock
starts.
Prints Markdown; --write saves it as benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import importlib
import multiprocessing
import os
import pkgutil
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import flopscan
import peers
from cases import CASES, Case
from flopscan.capture.build import without_weights

RESULTS = Path(__file__).with_name("RESULTS.md")
OURS = "flopscan"
FIRST = ": count, first"
OUR_PARTS = (": build", FIRST, ": count, second")
SLOW = 30.0  # seconds; what takes longer is measured once
TOO_LARGE = "the weights do not fit in half of this machine's memory"
_FAKE = FakeTensorMode(allow_non_fake_inputs=True)
BUILDING = 300.0  # seconds that a model may take to be built


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds by the wall clock and of the processor, peak MiB above the built model, the total."""

    wall: float
    cpu: float
    peak: float
    total: float
    on_meta: bool = False  # a tool for real tensors, on a model whose weights do not fit


@dataclass
class Cell:
    """A place in the table: the samples of one tool on one case, or why there are none."""

    samples: list[Sample] = field(default_factory=list)
    reason: str = ""
    late: float = 0.0  # the limit that it ran into

    def median(self, name: str) -> float:
        """The median of one column of the samples."""
        return statistics.median(getattr(s, name) for s in self.samples)


def main() -> None:
    """Measure what was asked for, and print the tables."""
    options = _options()
    torch.set_num_threads(1)
    cases = [c for c in CASES if not options.only or c.name in options.only]
    names = [OURS, *(t.name for t in peers.TOOLS)]
    chosen = [n for n in names if not options.tools or any(word in n.lower() for word in options.tools)]
    _import_everything(cases)
    repeats = 1 if options.quick else options.repeats
    cells: dict[tuple[str, str], Cell] = {}
    for case in cases:
        for name in chosen:
            tool = next((t for t in peers.TOOLS if t.name == name), None)
            found = _measured(case, tool, repeats, options.timeout)
            for part, cell in found.items():
                cells[case.name, part] = cell
                print(f"{case.name}: {part}: {_time(cell)} {cell.reason}", file=sys.stderr, flush=True)
    columns = [c for name in chosen for c in ([OURS + p for p in OUR_PARTS] if name == OURS else [name])]
    text = _page(cases, columns, cells, repeats)
    print(text)
    if options.write:
        RESULTS.write_text(text + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[c.name for c in CASES], help="this case (may be repeated)")
    parser.add_argument(
        "--tools", type=lambda s: s.lower().split(","), help="tools by part of their names, as in flopscan,fvcore"
    )
    parser.add_argument("--quick", action="store_true", help="measure once instead of three times")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of what takes under 30 s (default 3)")
    parser.add_argument("--timeout", type=float, default=200.0, help="seconds that one count may take (default 200)")
    parser.add_argument("--write", action="store_true", help=f"save the page as {RESULTS.parent.name}/{RESULTS.name}")
    return parser.parse_args()


def _import_everything(cases: Sequence[Case]) -> None:
    """What no measurement shall pay for: all of flopscan, and the modules of the models."""
    for module in pkgutil.walk_packages(flopscan.__path__, "flopscan."):
        if not module.name.startswith("flopscan.cli") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in {m for case in cases for m in case.modules}:
        with contextlib.suppress(ImportError):  # the cells of such a case say so
            importlib.import_module(name)


def _measured(case: Case, tool: peers.Tool | None, repeats: int, timeout: float) -> dict[str, Cell]:
    """The cell of a tool on a case; for flopscan (None) three cells."""
    parts = [tool.name] if tool else [OURS + p for p in OUR_PARTS]
    cells = {part: Cell() for part in parts}
    for _ in range(repeats):
        answer = _in_own_process(case, tool, timeout)
        if not isinstance(answer, list):
            for cell in cells.values():
                cell.reason, cell.late = (answer, 0.0) if isinstance(answer, str) else ("", answer)
            break
        for cell, sample in zip(cells.values(), answer, strict=True):
            cell.samples.append(sample)
        if max(s.wall for s in answer) > SLOW:
            break
    return cells


def _in_own_process(case: Case, tool: peers.Tool | None, timeout: float) -> list[Sample] | str | float:
    """Samples from a process forked for them; or the reason why there are none; or the limit that was exceeded."""
    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)
    process = fork.Process(target=_child, args=(send, case, tool))
    process.start()
    send.close()
    try:
        if not receive.poll(BUILDING):
            return f"the model was not built in {BUILDING:.0f} s"
        ready = receive.recv()
        if ready is not None:
            return ready
        return receive.recv() if receive.poll(timeout) else timeout
    except EOFError:
        process.join()
        code = process.exitcode or 0
        return f"the process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
    finally:
        process.kill()
        process.join()


def _child(send: Any, case: Case, tool: peers.Tool | None) -> None:
    """Build, say None when the clock starts, then send the samples; or send why not."""
    try:
        with peers.silenced(), torch.no_grad():
            send.send(_flopscan(send, case) if tool is None else _peer(send, case, tool))
    except Exception as error:
        send.send(_sentence(error))


def _flopscan(send: Any, case: Case) -> list[Sample]:
    name, sizes, dtype = case.input
    send.send(None)
    models: list[Any] = []

    def build() -> float:
        with without_weights():
            models.append(case.build().eval())
        return 0

    def count() -> float:
        return int(flopscan.count(models[0], inputs={name: flopscan.shape(*sizes, dtype=dtype)}).flops)

    return [_sample(build), _sample(count), _sample(count)]


def _peer(send: Any, case: Case, tool: peers.Tool) -> list[Sample] | str:
    try:
        count = tool.load()
    except ImportError as error:
        return f"not installed ({error})"
    tensors = tool.tensors
    too_large = tensors == "real" and not _fits(case)
    if too_large:
        if tool.package == "torch":
            return TOO_LARGE
        tensors = "meta"
    with _tensors(tensors) as device, contextlib.suppress(Exception):  # what is imported at the first count
        count(torch.nn.Linear(2, 2).eval(), {"input": torch.ones(2, 2, device=device)})
    model = _built(case, tensors)
    with _tensors(tensors) as device:
        name, sizes, dtype = case.input
        make = torch.zeros if dtype == "int64" else torch.randn
        inputs: Mapping[str, Any] = {name: make(sizes, dtype=getattr(torch, dtype), device=device)}
        send.send(None)
        try:
            return [replace(_sample(lambda: count(model, inputs)), on_meta=too_large)]
        except Exception as error:
            where = (
                "on meta tensors, since the weights do not fit in half of this machine's memory: " if too_large else ""
            )
            return where + _sentence(error)


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"


def _built(case: Case, kind: str) -> Any:
    """The model on this kind of tensors. Fake ones are swapped in: not every constructor runs on them."""
    if kind != "fake":
        with _tensors(kind):
            return case.build().eval()
    with without_weights():
        model = case.build().eval()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with _FAKE:
        return model.to_empty(device="cpu")


def _fits(case: Case) -> bool:
    """Whether the parameters fit in half of the memory."""
    with torch.device("meta"):
        size = sum(p.numel() * p.element_size() for p in case.build().parameters())
    return size < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


@contextlib.contextmanager
def _tensors(kind: str) -> Iterator[str]:
    """Inside, models are built of this kind of tensors; gives the device for their inputs."""
    if kind == "fake":
        with _FAKE:
            yield "cpu"
    elif kind == "meta":
        with torch.device("meta"):
            yield "meta"
    else:
        yield "cpu"


def _sample(work: Callable[[], float]) -> Sample:
    """One measurement of ``work``."""
    gc.collect()  # also: the pages shared with the parent are copied now, not under the clock
    base = _reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    total = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(wall, cpu, max(_status("VmHWM") - base, 0.0), total)


def _reset_peak() -> float:
    """Forget the peak of the resident memory; gives the memory that is resident now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _import_time() -> tuple[float, bool]:
    """Seconds of ``import flopscan`` above a bare interpreter (median of 7), and whether torch was loaded by it."""

    def seconds(code: str) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    seen = subprocess.run(
        [sys.executable, "-c", "import flopscan, sys; print('torch' in sys.modules)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return seconds("import flopscan") - seconds("pass"), seen.stdout.strip() == "True"


def _page(cases: Sequence[Case], columns: Sequence[str], cells: Mapping[tuple[str, str], Cell], repeats: int) -> str:
    """The Markdown page."""
    reasons = list(dict.fromkeys(cell.reason for cell in cells.values() if cell.reason))

    def table(heads: Mapping[str, str], show: Callable[[Cell], str]) -> list[str]:
        rows = [[case.title, *(show(cells[case.name, c]) for c in heads)] for case in cases]
        lines = [["model", *heads.values()], ["---", *("---:" for _ in heads)], *rows]
        return [f"| {' | '.join(line)} |" for line in lines]

    def speed(cell: Cell) -> str:
        return f"- [{reasons.index(cell.reason) + 1}]" if cell.reason else _time(cell)

    heads = dict(zip(columns, columns, strict=True))
    units = {OURS + FIRST: f"{OURS} (FLOP)", **{t.name: f"{t.name} ({t.unit})" for t in peers.TOOLS}}
    seconds, torch_loaded = _import_time()
    lines = [
        "# What counting costs",
        "",
        f"{_machine()}, one thread; {_versions()}; {datetime.date.today()}.",
        "",
        f"Medians of {repeats}, but one run where it takes over {SLOW:.0f} s, each in a process of its own, after"
        " imports and with the model built. The others have counted a linear layer before, so that nothing is imported"
        " under the clock; flopscan has counted nothing. Images are 1x3x224x224 float32, batches 1, without gradients."
        f" (meta): on meta tensors, since {TOO_LARGE}.",
        "",
        f"`import flopscan` takes {1000 * seconds:.0f} ms above a bare interpreter and"
        f" {'loads' if torch_loaded else 'does not load'} torch.",
        "",
        "## Seconds, and peak MiB above the built model",
        "",
        *table(heads, speed),
        "",
        *(f"{i}. {reason}" for i, reason in enumerate(reasons, 1)),
        "",
        "## Processor seconds",
        "",
        *table(heads, lambda cell: f"{cell.median('cpu'):.3g}" if cell.samples else "-"),
        "",
        "## Totals, each in the unit of its tool",
        "",
        *table({c: units[c] for c in columns if c in units}, _total),
        "",
        f"Again: `{' '.join(['python', 'benchmarks/run.py', *map(shlex.quote, sys.argv[1:])])}`",
    ]
    return "\n".join(lines)


def _time(cell: Cell) -> str:
    if cell.samples:
        meta = " (meta)" if cell.samples[0].on_meta else ""
        return f"{cell.median('wall'):.3g} s, {cell.median('peak'):.0f} MiB{meta}"
    return f"> {cell.late:.0f} s" if cell.late else "-"


def _total(cell: Cell) -> str:
    return f"{cell.median('total'):,.0f}" if cell.samples else "-"


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"{os.cpu_count()} cores of {found[1].strip() if found else platform.machine()}"


def _versions() -> str:
    names = dict.fromkeys(["torch", "transformers", *(t.package for t in peers.TOOLS)])
    found = [f"flopscan {flopscan.__version__}", f"Python {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
