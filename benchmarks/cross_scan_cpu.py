"""VMamba's scan in four directions on a CPU, as one operator and as its parts: time and memory, into CROSS_SCAN_CPU.md.

    OMP_WAIT_POLICY=passive PYTHONPATH=src .venv/bin/python benchmarks/cross_scan_cpu.py

One operator is `flopscan.ops.cross_selective_scan`; the parts are a cross scan and a cross merge in plain torch with
`flopscan.ops.selective_scan` in its compiled form between them, as VMamba's authors' code has it. "module" is all that
`SS2D.scan` does, projections included: the parts project four sequences, the operator the image. Both are timed in one
process in turns; peak memory is that of a process each.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from flopscan.models.vmamba import VMamba
from flopscan.ops import cross_selective_scan, selective_scan
from flopscan.ops.cross_selective_scan.order import cross_merge, cross_scan
from scan_cpu import _memory, percentile

HERE = Path(__file__).parent
ROUNDS = 11
# b d h w n of the first stage of VMamba-T: [s2l5], [s1l8] and Vanilla; a batch of the first
SHAPES = {
    "vmamba_tiny_s2l5": (1, 192, 56, 56, 1),
    "vmamba_tiny": (1, 96, 56, 56, 1),
    "vmamba_tiny_v0": (1, 192, 56, 56, 16),
    "vmamba_tiny_s2l5, a batch": (8, 192, 56, 56, 1),
}
WAYS = ("one operator", "parts")
Case = tuple[Callable[[str], Any], Any]


def operands(shape: tuple[int, ...], requires_grad: bool) -> list[Tensor]:
    """x, delta, A, B, C, D and delta_bias."""
    b, d, h, w, n = shape
    torch.manual_seed(0)
    made = [
        torch.randn(b, d, h, w), 0.5 * torch.randn(b, 4, d, h * w) - 2, -(0.3 * torch.randn(4 * d, n)).exp(),
        *torch.randn(2, b, 4, n, h * w), torch.randn(4 * d), 0.1 * torch.randn(4 * d),
    ]  # fmt: skip
    return [x.requires_grad_(requires_grad) for x in made]


def parts(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """The scan as three steps."""
    u = cross_scan(x).flatten(1, 2)
    y = selective_scan(u, delta.flatten(1, 2), A, B, C, D, delta_bias=bias, delta_softplus=True)
    assert isinstance(y, Tensor)
    return cross_merge(y.unflatten(1, (4, -1)), *x.shape[2:])


def one(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """The scan as one operator."""
    return cross_selective_scan(x, delta, A, B, C, D, bias, delta_softplus=True)


@contextlib.contextmanager
def taken_apart() -> Iterator[None]:
    """Inside, the module runs its parts, as where its operators are recorded."""
    with mock.patch("torch.jit.is_tracing", lambda: True):
        yield


def step(way: str, what: str, given: Any, grad: Tensor | None) -> None:
    """One call of the operator or of the module, with gradients where ``grad`` is given."""
    with contextlib.nullcontext() if grad is not None else torch.no_grad():
        if what == "operator":
            out, leaves = (one if way == WAYS[0] else parts)(*given), given
        else:
            module, x = given
            with contextlib.nullcontext() if way == WAYS[0] else taken_apart():
                out = module.scan(x)
            leaves = [x, module.x_proj_weight, module.dt_projs_weight, module.dt_projs_bias, module.A_logs, module.Ds]
    if grad is not None:
        torch.autograd.grad(out, leaves, grad)


def make(label: str, what: str, backward: bool, *, small: bool = False) -> tuple[Any, Tensor | None]:
    """What `step` takes, of the shape or of a small one with the same code."""
    b, d, h, w, n = SHAPES[label]
    if small:
        b, h, w = 1, 9, 7
    grad = torch.ones(b, d, h, w) if backward else None
    if what == "operator":
        return operands((b, d, h, w, n), backward), grad
    torch.manual_seed(0)
    ratio = d / 96
    kind = {"forward_type": "v0"} if n > 1 else {"forward_type": "v05_noz", "norm_layer": "ln2d"}
    down = {} if n > 1 else {"downsample_version": "v3", "patchembed_version": "v2"}
    model = VMamba(dims=96, depths=(1,), ssm_d_state=n, ssm_ratio=ratio, ssm_conv_bias=n > 1, **kind, **down)
    return (model.layers[0].blocks[0].op, torch.randn(b, d, h, w).requires_grad_(backward)), grad


def peak(label: str, what: str, way: str, backward: bool) -> float:
    """MiB that a call takes at most above its operands, in a process of its own; the code is compiled before."""
    step(way, what, *make(label, what, backward, small=True))
    given, grad = make(label, what, backward)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _memory("VmRSS")
    step(way, what, given, grad)
    return _memory("VmHWM") - before


def rows(label: str, what: str, backward: bool) -> list[str]:
    """The lines of a table."""
    given, grad = make(label, what, backward)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for turn in range(ROUNDS + 1):
        for way in WAYS:
            start, used = time.perf_counter(), time.process_time()
            step(way, what, given, grad)
            if turn:  # the first one compiles and warms up
                found[way].append((time.perf_counter() - start, time.process_time() - used))
    lines = []
    base = percentile([x for x, _ in found[WAYS[0]]], 0.5)
    for way, rounds in found.items():
        seconds, used_ = zip(*rounds, strict=True)
        command = [sys.executable, __file__, label, what, way, str(int(backward))]
        memory = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        at = [1000 * percentile(seconds, part) for part in (0.2, 0.5, 0.8)]
        times = (f"{x:.1f}" for x in (*at, 1000 * percentile(used_, 0.5)))
        phase = "with gradients" if backward else "forward"
        cells = (what, phase, way, *times, f"{at[1] / 1000 / base:.1f}", f"{memory:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    cpu = next(
        (x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numba"))
    lines = [
        "# VMamba's scan in four directions on a CPU",
        "",
        f"{cpu}, {torch.get_num_threads()} threads; {date.today()}.",
        f"Python {platform.python_version()}, {versions}. Load average when the run began: {os.getloadavg()[0]:.1f}.",
        "",
        "`python benchmarks/cross_scan_cpu.py`: float32, the first stage of VMamba-T; milliseconds, 20th, 50th, 80th",
        f"percentile of {ROUNDS} rounds in turns in one process, processor time of all threads (median), and the peak",
        "above the operands in a process each. The operator alone, and all of `SS2D.scan` with its projections.",
        "Parts are a cross scan, `selective_scan` in its compiled form, and a cross merge.",
    ]
    for label, shape in SHAPES.items():
        lines += [
            "",
            f"## {label}: b d h w n = {' '.join(map(str, shape))}",
            "",
            "| what | | way | 20 % | 50 % | 80 % | processor | times | peak MiB |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for what in ("operator", "module"):
            for backward in (False, True):
                lines += rows(label, what, backward)
        (HERE / "CROSS_SCAN_CPU.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "1"))
    else:
        main()
