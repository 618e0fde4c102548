"""The selective scan on a CPU beside mamba_ssm's reference and mambapy's pscan: time and memory, into SCAN_CPU.md.

    OMP_WAIT_POLICY=passive PYTHONPATH=src:.venv/packages .venv/bin/python benchmarks/scan_cpu.py

or of one table alone, printed and not written: ``scan_cpu.py "state 64" gradients``, or ``forward``.

The packages are those of `make test-packages`, their Python alone. All are timed in one process in turns, so that what
else the machine does falls on all alike; peak memory is that of a process each. Threads of OpenMP that wait do not spin
(`passive`), or on a busy machine torch's parts would take many times as long.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flopscan
from flopscan.ops import selective_scan
from flopscan.ops.selective_scan import forms

HERE = Path(__file__).parent
ROUNDS, LONGEST = 7, 10.0  # how often each is timed, and seconds after which it is not timed again
SHAPES = {
    "mamba-130m": (1, 1536, 2048, 16, 1),
    "vmamba-t stage 1": (1, 384, 3136, 1, 4),
    "state 64": (1, 512, 1024, 64, 1),
}
FORMS = ("cpu", "chunked", "mamba_ssm", "mambapy")
WITHOUT_BACKWARD = ("mamba_ssm",)  # over ten minutes: each step's gradient is as large as the whole


def operands(shape: tuple[int, ...], requires_grad: bool) -> list[Tensor]:
    """u, delta, A, B, C, D and delta_bias."""
    b, d, l, n, g = shape
    torch.manual_seed(0)
    made = [
        torch.randn(b, d, l), 0.5 * torch.randn(b, d, l) - 2, -(0.3 * torch.randn(d, n)).exp(),
        *torch.randn(2, b, g, n, l), torch.randn(d), 0.1 * torch.randn(d),
    ]  # fmt: skip
    return [x.requires_grad_(requires_grad) for x in made]


def _ours(form: str) -> Callable[..., Tensor]:
    def run(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        with forms.use(form):
            return selective_scan(u, delta, A, B, C, D, delta_bias=bias, delta_softplus=True)  # type: ignore[return-value]

    return run


def _mamba_ssm() -> Callable[..., Tensor]:
    with flopscan.stand_ins():  # for its compiled modules, which the reference does not use
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")

    def run(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        return interface.selective_scan_ref(u, delta, A, B, C, D, delta_bias=bias, delta_softplus=True)  # type: ignore[no-any-return]

    return run


def _mambapy() -> Callable[..., Tensor]:
    pscan = importlib.import_module("mambapy.pscan").pscan

    def run(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        """The discretisation and the read-out as mambapy's `MambaBlock.selective_scan` has them; one group."""
        x, steps = u.transpose(1, 2), torch.nn.functional.softplus(delta.transpose(1, 2) + bias)
        B, C = B[:, 0].transpose(1, 2), C[:, 0].transpose(1, 2)
        decay = torch.exp(steps.unsqueeze(-1) * A)
        drive = steps.unsqueeze(-1) * B.unsqueeze(2) * x.unsqueeze(-1)
        states = pscan(decay, drive)
        return ((states @ C.unsqueeze(-1)).squeeze(3) + D * x).transpose(1, 2)

    return run


def load(name: str) -> Callable[..., Tensor]:
    """The scan that ``name`` is, a function of `operands`."""
    return {"mamba_ssm": _mamba_ssm, "mambapy": _mambapy}.get(name, lambda: _ours(name))()


def step(scan: Callable[..., Tensor], given: list[Tensor], grad: Tensor | None) -> Any:
    """One call, with its gradients where ``grad`` is given."""
    if grad is None:
        with torch.no_grad():
            return scan(*given)
    return torch.autograd.grad(scan(*given), given, grad)


def warm(scan: Callable[..., Tensor], shape: tuple[int, ...], backward: bool) -> None:
    """Compile what ``scan`` compiles, on a small shape: some take most of a minute for a call on the whole."""
    given = operands((1, 32, 64, shape[3], shape[4]), backward)
    step(scan, given, torch.ones(1, 32, 64) if backward else None)


def peak(name: str, shape: tuple[int, ...], backward: bool) -> float:
    """MiB that a call takes at most above the operands, in a process of its own; the code is compiled before."""
    warm(load(name), shape, backward)
    given = operands(shape, backward)
    grad = torch.ones(shape[0], shape[1], shape[2]) if backward else None
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _memory("VmRSS")
    step(load(name), given, grad)
    return _memory("VmHWM") - before


def _memory(field: str) -> float:
    """MiB that Linux tells of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) / 1024


def timed(shape: tuple[int, ...], backward: bool) -> dict[str, list[tuple[float, float]]]:
    """Seconds and processor seconds of every round by name, the names in turns."""
    names = [name for name in FORMS if runs(name, shape, backward)]
    scans, found = {name: load(name) for name in names}, {name: [] for name in names}
    given = operands(shape, backward)
    grad = torch.ones(shape[0], shape[1], shape[2]) if backward else None
    for name in names:
        warm(scans[name], shape, backward)
    for _ in range(ROUNDS):
        for name in names:
            if found[name] and sum(x for x, _ in found[name]) > LONGEST:
                continue
            start, used = time.perf_counter(), time.process_time()
            step(scans[name], given, grad)
            found[name].append((time.perf_counter() - start, time.process_time() - used))
    return found


def runs(name: str, shape: tuple[int, ...], backward: bool) -> bool:
    """Whether ``name`` can be timed on such a shape."""
    return not (backward and name in WITHOUT_BACKWARD) and not (name == "mambapy" and shape[4] > 1)


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` of the values lie."""
    return sorted(values)[min(len(values) - 1, round(part * (len(values) - 1)))]


def rows(label: str, shape: tuple[int, ...], backward: bool) -> list[str]:
    """The lines of a table."""
    found = timed(shape, backward)
    fastest, lines = percentile([x for x, _ in found["cpu"]], 0.5), []
    for name, rounds in found.items():
        seconds, used = zip(*rounds, strict=True)
        memory = subprocess.run(
            [sys.executable, __file__, name, label, str(int(backward))], capture_output=True, text=True, check=True
        ).stdout.strip()
        at = [percentile(seconds, part) for part in (0.2, 0.5, 0.8)]
        times = (f"{x:.4f}" for x in (*at, percentile(used, 0.5)))
        cells = (name, *times, f"{at[1] / fastest:.1f}", f"{float(memory):.0f}", len(seconds))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def table(label: str, backward: bool) -> list[str]:
    """The lines of one table with its title."""
    shape = SHAPES[label]
    title = f"{label}: b d l n g = {' '.join(map(str, shape))}, {'with gradients' if backward else 'forward'}"
    return [
        "",
        f"## {title}",
        "",
        "| form | 20 % (s) | 50 % (s) | 80 % (s) | processor s | times cpu | peak MiB | rounds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *rows(label, shape, backward),
    ]


def main() -> None:
    cpu = next(
        (x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numba", "mamba_ssm", "mambapy")
    )
    busy = os.getloadavg()[0]
    lines = [
        "# The selective scan on a CPU",
        "",
        f"{cpu}, {torch.get_num_threads()} threads; {date.today()}.",
        f"Python {platform.python_version()}, {versions}.",
        f"Load average when the run began: {busy:.1f}.",
        "",
        "`python benchmarks/scan_cpu.py`: float32; 20th, 50th, 80th percentile of the rounds, in turns in one process;",
        "memory is the peak above the operands, in a process each. cpu and chunked are the two forms of",
        "`flopscan.ops.selective_scan`, with Numba and without; mamba_ssm is its `selective_scan_ref`, mambapy its",
        "pscan with discretisation and read-out. Processor seconds are those of all threads, the median: what others",
        "do on the machine makes rounds longer, and these hardly.",
    ]
    for label in SHAPES:
        for backward in (False, True):
            lines += table(label, backward)
            (HERE / "SCAN_CPU.md").write_text("\n".join(lines) + "\n")
    lines += [
        "",
        "Not timed: mamba_ssm's reference with gradients (over ten minutes on the first shape), mambapy with groups",
        "(it has none).",
    ]
    (HERE / "SCAN_CPU.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print("\n".join(table(sys.argv[1], sys.argv[2] == "gradients")))
    elif len(sys.argv) > 1:
        print(peak(sys.argv[1], SHAPES[sys.argv[2]], sys.argv[3] == "1"))
    else:
        main()
