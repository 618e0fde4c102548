"""mamba_ssm's CUDA kernel beside ours: built from its unpacked source distribution while other jobs run, then timed."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

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


def public(job: Job) -> Job:
    """The times of both directions of a row by `selective_scan_cuda`."""
    folder = Path(os.environ[BUILD])
    until = time.monotonic() + 50  # a job that stands for a minute is ended
    while not (folder / MANIFEST).exists():
        if time.monotonic() > until:
            raise RuntimeError("not built in time")
        time.sleep(1)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    kernel: Any = importlib.import_module("selective_scan_cuda")
    x = row_operands(job["row"])
    given = [x[name] for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]
    out, states, *_ = kernel.fwd(*given, True)
    kept = None if x["z"] is None else out
    backward = functools.partial(kernel.bwd, *given, torch.randn_like(out), states, kept, None, True, False)
    return {
        "forward": timed(lambda: kernel.fwd(*given, True)),
        "backward": timed(backward),
        "saved_bytes": sum(t.numel() * t.element_size() for t in (states, *([] if kept is None else [kept]))),
        "version": (folder / MANIFEST).read_text(),
    }


if __name__ == "__main__":
    source, into = map(Path, sys.argv[1:])
    compile_module("selective_scan_cuda", source / "csrc" / "selective_scan", into.resolve())
    (into / MANIFEST).write_text(
        f"mamba_ssm {version('mamba_ssm', source)}, {digest(source / 'csrc/selective_scan')[:12]}"
    )
