"""mamba_ssm's CUDA kernel beside ours: built from its unpacked source distribution while other jobs run, then timed."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from flopscan.ops.cross_selective_scan import composed, fused
from flopscan.ops.selective_scan import cuda
from hardware.build import MANIFEST, compile_module, digest, version
from scan_cases import Job
from scan_times import row_operands, timed

BUILD = "FLOPSCAN_PUBLIC"  # names the folder that the module is built in


def start(mamba: Path, folder: Path, log: Path) -> None:
    """Build in a process of its own, gently: three minutes on 16 cores."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[BUILD] = str(folder.resolve())
    architecture = "{}.{}".format(*torch.cuda.get_device_capability())
    jobs = str(max((os.cpu_count() or 2) // 2, 1))
    with log.open("a") as output:
        subprocess.Popen(
            ["nice", "-n", "19", sys.executable, __file__, str(mamba), str(folder)], stdout=output, stderr=output,
            env={**os.environ, "TORCH_CUDA_ARCH_LIST": architecture, "MAX_JOBS": jobs},
        )  # fmt: skip


def _kernel() -> Any:
    """`selective_scan_cuda`, once it is built."""
    folder = Path(os.environ[BUILD])
    until = time.monotonic() + 50  # a job that stands for a minute is ended
    while not (folder / MANIFEST).exists():
        if time.monotonic() > until:
            raise RuntimeError("not built in time")
        time.sleep(1)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("selective_scan_cuda")


def public(job: Job) -> Job:
    """The times of both directions of a row by `selective_scan_cuda`."""
    kernel = _kernel()
    x = row_operands(job["row"])
    given = [x[name] for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]
    out, states, *_ = kernel.fwd(*given, True)
    kept = None if x["z"] is None else out
    backward = functools.partial(kernel.bwd, *given, torch.randn_like(out), states, kept, None, True, False)
    return {
        "forward": timed(lambda: kernel.fwd(*given, True)),
        "backward": timed(backward),
        "saved_bytes": sum(t.numel() * t.element_size() for t in (states, *([] if kept is None else [kept]))),
        "version": (Path(os.environ[BUILD]) / MANIFEST).read_text(),
    }


@contextlib.contextmanager
def in_place_of_ours() -> Iterator[None]:
    """Within, VMamba's scans are those of `selective_scan_cuda`, between the same kernels that cross and merge."""
    kernel = _kernel()

    def same(u: torch.Tensor, *others: torch.Tensor | None) -> list[torch.Tensor | None]:
        return [None if x is None else x.to(u.dtype).contiguous() for x in others]

    def forward(u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any, _: Any, *,
                delta_softplus: bool, **rest: Any) -> Any:  # fmt: skip
        delta, B, C = same(u, delta, B, C)
        out, states, *_ = kernel.fwd(u, delta, A, B, C, D, None, bias, delta_softplus)
        return out, None, states

    def backward(grad: Any, last: Any, u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any, z: Any, bias: Any,
                 _: Any, states: Any, *, delta_softplus: bool, **rest: Any) -> Any:  # fmt: skip
        grad, B, C = same(u, grad, B, C)
        found = kernel.bwd(u, delta, A, B, C, D, None, bias, grad, states, None, None, delta_softplus, False)
        return *found[:6], None, found[6], None

    def saved_shape(batch: int, channels: int, length: int, states: int, gated: bool = False) -> tuple[int, ...]:
        return batch, channels, -(-length // 2048), 2 * states

    ours = {"forward": forward, "backward": backward, "saved_shape": saved_shape}
    operands = composed._operands
    with contextlib.ExitStack() as stack:
        for name, function in ours.items():
            stack.enter_context(mock.patch.object(cuda, name, function))
        stack.enter_context(mock.patch.object(fused, "supports", lambda *operands: False))
        # all in the dtype of the image: this kernel knows no other for its sequences, nor for their gradients
        stack.enter_context(mock.patch.object(composed, "_operands", lambda *x: operands(*x[:-1], x[0].dtype)))
        yield


if __name__ == "__main__":
    source, into = map(Path, sys.argv[1:])
    compile_module("selective_scan_cuda", source / "csrc" / "selective_scan", into.resolve())
    (into / MANIFEST).write_text(
        f"mamba_ssm {version('mamba_ssm', source)}, {digest(source / 'csrc/selective_scan')[:12]}"
    )
