"""The list of what scan_gpu.py does, the most valuable first, and the kernels that it needs."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from flopscan.ops.gpu import nvrtc
from flopscan.ops.selective_scan import cuda
from flopscan.ops.selective_scan.cuda import Rows
from scan_cases import ROWS, Job, checks, default_form, form_of
from scan_public import BUILD
from scan_times import row_operands


def cell(row: str, direction: str, label: str = "default", form: Job | None = None, **more: Any) -> Job:
    """A job that times a row."""
    return {
        "kind": "measure",
        "row": row,
        "shape": ROWS[row][0],
        "direction": direction,
        "label": label,
        "form": form or {},
        **more,
    }


EIGHT = {"lanes": 8, "states": 2}
# other ways to compile the kernels, on the rows that they are about, the most promising first
VARIANTS: dict[tuple[str, str], list[Job]] = {
    ("mamba-130m", "forward"): [{**EIGHT, "resident": 4}, {"unroll": 7}],
    ("mamba-2.8b", "forward"): [{**EIGHT, "resident": 5, "unroll": 1}, {**EIGHT, "resident": 4}],
    ("mamba-130m", "backward"): [{**EIGHT, "resident_backward": 4}],
    ("mamba-2.8b", "backward"): [{**EIGHT, "resident_backward": 5}],
    ("mamba-long", "forward"): [{**EIGHT, "resident": 4, "fill": 4}, {"fill": 4}],
    ("mamba-long", "backward"): [{**EIGHT, "resident_backward": 4, "fill": 4}],
    ("mamba-130m-fp32", "forward"): [{**EIGHT, "resident": 5}, {"unroll": 7}],
    ("mamba-130m-fp32", "backward"): [{**EIGHT, "resident_backward": 4}],
    ("vmamba-v0", "forward"): [{**EIGHT, "resident": 5}, {"lanes": 2, "states": 8, "unroll": 1}],
    ("vmamba-v0", "backward"): [{**EIGHT, "resident_backward": 5}],
    ("vmamba-t-3", "forward"): [{"rows": 4}, {"resident": 6}],
    ("vmamba-t-1", "forward"): [{"rows": 1}],
    ("vmamba-t-3", "backward"): [{"rows": 8}],
    ("vmamba-t-1", "backward"): [{"rows": 8}],
}


def variants() -> list[Job]:
    """The jobs of VARIANTS: the first of every row and direction, the second of every one ..."""
    jobs = []
    for place in range(max(map(len, VARIANTS.values()))):
        for (row, direction), forms in VARIANTS.items():
            if place < len(forms):
                label = " ".join(f"{k}={v}" for k, v in forms[place].items())
                jobs.append(cell(row, direction, label, forms[place]))
    return jobs


def jobs(emulate: bool) -> list[Job]:
    """All of them, the most valuable first."""
    if emulate:
        return [job for job in checks("cuda") if job["shape"][2] <= 300]
    defaults = [
        cell(row, direction, check=direction == "forward") for row in ROWS for direction in ("forward", "backward")
    ]

    def about(kind: str, row: str, **more: Any) -> Job:
        return {"kind": kind, "label": kind, "row": row, "shape": ROWS[row][0], **more}

    several, checked = variants(), checks("cuda")
    return [
        {"kind": "copy", "label": "copy"},
        *defaults,
        *checked[:12],
        *several[: len(VARIANTS)],
        about("memory", "mamba-130m"),
        about("memory", "mamba-130m-fp32"),
        *models(),
        *several[len(VARIANTS) : 2 * len(VARIANTS)],
        *(
            cell(row, "forward", "float32 out", out_dtype="float32")
            for row in ("vmamba-t-1", "vmamba-t-3", "vmamba-v0")
        ),
        cell("mamba-130m", "forward", "keep", keep=True),
        cell("mamba-130m", "backward", "deterministic", deterministic=True),
        *checked[12:30],
        *triton_jobs(),
        *several[2 * len(VARIANTS) :],
        *checked[30:],
        *checks("triton"),
        *((*(about("public", row) for row in ROWS), *models(public=True)) if os.environ.get(BUILD) else ()),
        *(about("profile", "mamba-130m", direction=direction) for direction in ("forward", "backward")),
    ]


def models(**more: Any) -> list[Job]:
    """VMamba-T in both dtypes."""
    return [{"kind": "model", "label": f"vmamba_tiny {d}", "dtype": d, **more} for d in ("bfloat16", "float16")]


def triton_jobs() -> list[Job]:
    """The rows by the Triton form."""
    order = ("mamba-130m", "vmamba-t-1", "vmamba-t-3", "mamba-2.8b", "vmamba-v0", "mamba-130m-fp32", "mamba-long")
    return [
        cell(row, direction, "triton", module="triton", check=direction == "forward")
        for row in order
        for direction in ("forward", "backward")
    ]


class Warm:
    """A Triton kernel that is compiled where it would be launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **options: self.kernel.warmup(*args, grid=grid, **options)


def warm(which: int, of: int) -> None:
    """Compile every ``of``-th of the Triton kernels that are timed, so that the jobs find them in Triton's cache."""
    from flopscan.ops.selective_scan import triton

    for name in ("forward_states", "segment_edges", "forward_scan", "backward_scan"):
        setattr(triton, name, Warm(getattr(triton, name)))
    for job in triton_jobs()[which::of]:
        x = row_operands(job["row"])
        keep = job["direction"] == "backward"
        out, _, saved = triton.forward(*x.values(), delta_softplus=True, keep=keep, out_dtype=x["u"].dtype)
        if keep:
            triton.backward(out, None, *x.values(), saved, delta_softplus=True, deterministic=False)


def kernels(job: Job) -> list[tuple[str, tuple[str, ...]]]:
    """The kernels that a job compiles: name and options."""
    if job["kind"] not in ("check", "measure") or job.get("module", "cuda") != "cuda":
        return []
    _, _, length, states, _ = job["shape"]
    dtype, z = (ROWS[job["row"]][1], ROWS[job["row"]][2]) if "row" in job else (job["dtype"], "z" in job["given"])
    some = torch.empty(0, dtype=getattr(torch, dtype))
    dtypes = cuda._dtypes(some, some, some if z else None, some, some, getattr(torch, job.get("out_dtype", dtype)))
    if states > 1:
        softplus, whole = job.get("softplus", True), length % 8 == 0 and not job.get("strided")
        dtypes = (*dtypes, f"-DSOFTPLUS={int(softplus)}", f"-DWHOLE={int(whole)}")
    found = []
    for backward in (False, True):
        if backward and job.get("direction") == "forward":
            continue
        form = form_of(job, backward).get("form") or default_form(job["shape"], backward)
        way = "backward" if backward else "forward"
        chosen = [(f"rows_{way}" if isinstance(form, Rows) else f"scan_{way}", dtypes)]
        if length >= 1000 and not isinstance(form, Rows):
            chosen.append(("scan_edges", (*dtypes, f"-DFORWARD={1 - backward}")))
        found += [(name, cuda.options(name, form, macros)) for name, macros in chosen]
    return found


def compile_one(task: tuple[str, tuple[str, ...], str]) -> str | None:
    """The error of compiling a kernel, if any."""
    name, options, arch = task
    try:
        nvrtc.code(cuda.source(name), options, arch)
    except nvrtc.CompilationError as e:
        return f"{name} {options}: {e}"
    return None


def compile_all(listed: list[Job], arch: str, workers: int) -> None:
    """Fill the cache of compiled kernels."""
    tasks = list(dict.fromkeys((name, options, arch) for job in listed for name, options in kernels(job)))
    start = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        failed = [text for text in pool.map(compile_one, tasks) if text]
    print(
        f"{len(tasks)} kernels, {len(failed)} refused, {time.perf_counter() - start:.0f} s",
        *failed,
        sep="\n",
        flush=True,
    )
