"""Times and checks the GPU forms of the selective scan, in one run that loses nothing when a part of it fails.

    PYTHONPATH=../src python scan_gpu.py --out results --seconds 270

Jobs run in order of worth, in a process that is started anew if a job kills it. Each appends a line of JSON to
OUT/jobs.jsonl as it ends; the table at the end is made from that file (`--table` makes it again).
A time is the median of single calls between CUDA events, each after a write of 512 MB that empties the L2 cache and
hides the launch; with it stand the 20 and 80 percentiles. Errors are norms relative to the definition in float64.
`--emulate` runs the checks on the CPU by the emulator of the tests, `--compile` only fills $FLOPSCAN_CACHE.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from flopscan.ops.selective_scan import cuda, nvrtc, reference
from flopscan.ops.selective_scan.cuda import Rows

Job = dict[str, Any]
# name: shape b, d, l, n, g, dtype, z, and the public kernels' times forward and backward in microseconds, from an H100
# with CUDA 13.0 and torch 2.11 (mamba_ssm 2.3.2's selective_scan_cuda, do_bench's median)
ROWS = {
    "mamba-130m": ((8, 1536, 2048, 16, 1), "bfloat16", True, 451, 1834),
    "mamba-130m-fp32": ((8, 1536, 2048, 16, 1), "float32", False, 838, 2120),
    "mamba-2.8b": ((2, 5120, 2048, 16, 1), "bfloat16", True, 382, 1577),
    "mamba-long": ((1, 1536, 65536, 16, 1), "bfloat16", True, 2230, 7760),
    "vmamba-t-1": ((64, 384, 3136, 1, 4), "float16", False, 538, 1437),
    "vmamba-t-3": ((64, 1536, 196, 1, 4), "float16", False, 153, 453),
    "vmamba-v0": ((64, 768, 3136, 16, 4), "float16", False, 5330, 20050),
}
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def operands(
    shape: tuple[int, ...], dtype: str, given: set[str], device: str = "cuda", seed: int = 0
) -> dict[str, Any]:
    """Random operands such as a model has them; of the optional ones those in ``given``."""
    generator = torch.Generator(device).manual_seed(seed)
    b, d, l, n, g = shape

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device)

    kind = getattr(torch, dtype)
    made = {
        "u": normal(b, d, l).to(kind),
        "delta": (0.5 * normal(b, d, l) - 2).to(kind),
        "A": -torch.exp(0.3 * normal(d, n)),
        "B": normal(b, g, n, l).to(kind),
        "C": normal(b, g, n, l).to(kind),
        "D": normal(d),
        "z": normal(b, d, l).to(kind),
        "delta_bias": 0.1 * normal(d),
        "initial_state": normal(b, d, n),
    }
    return {name: made[name] if name in NAMES[:5] or name in given else None for name in NAMES}


def form_of(job: Job) -> dict[str, Any]:
    """The keyword that chooses how kernels are compiled; none where the default is meant."""
    if job.get("module", "cuda") != "cuda" or not job.get("form"):
        return {}
    _, _, length, states, _ = job["shape"]
    default = cuda.default_form(states, length)
    return {"form": dataclasses.replace(default, **job["form"])}


# Checks


def definition(x: dict[str, Any], softplus: bool, grad: torch.Tensor, grad_last: torch.Tensor | None) -> list[Any]:
    """Output, last state and gradients in float64: by autograd where short, else by the written gradient."""
    x = {name: None if v is None else v.double() for name, v in x.items()}
    eight = [x[name] for name in NAMES[:8]]
    if x["initial_state"] is None and grad_last is None and x["u"].shape[2] > 300:
        out, last = reference.selective_scan(*eight, softplus, True)
        return [out, last, *reference.selective_scan_backward(grad.double(), *eight, softplus), None]
    leaves = {name: None if v is None else v.requires_grad_() for name, v in x.items()}
    out, last = by_autograd(leaves, softplus)
    total = (out * grad.double()).sum() + (0 if grad_last is None else (last * grad_last.double()).sum())
    names = [name for name in NAMES if leaves[name] is not None]
    found = dict(zip(names, torch.autograd.grad(total, [leaves[name] for name in names]), strict=True))
    return [out.detach(), last.detach(), *(found.get(name) for name in NAMES)]


def by_autograd(x: dict[str, Any], softplus: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and last state, as a graph."""
    u, delta, A = x["u"], x["delta"], x["A"]
    delta = delta if x["delta_bias"] is None else delta + x["delta_bias"][:, None]
    delta = F.softplus(delta) if softplus else delta
    per_group = u.shape[1] // x["B"].shape[1]
    B, C = (x[name].repeat_interleave(per_group, 1) for name in "BC")
    h = u.new_zeros(*u.shape[:2], A.shape[1]) if x["initial_state"] is None else x["initial_state"]
    outputs = []
    for i in range(u.shape[2]):
        h = torch.exp(delta[..., i, None] * A) * h + (delta[..., i] * u[..., i])[..., None] * B[..., i]
        outputs.append((h * C[..., i]).sum(-1))
    y = torch.stack(outputs, -1)
    y = y if x["D"] is None else y + x["D"][:, None] * u
    return (y if x["z"] is None else y * F.silu(x["z"])), h


def error(got: torch.Tensor | None, expected: torch.Tensor | None) -> float | None:
    """The relative norm of the difference; infinite where a number is not finite or a gradient is missing."""
    if got is None or expected is None:
        return None if got is expected else float("inf")
    difference = (got.double() - expected).norm() / expected.norm().clamp_min(1e-30)
    return float(difference) if torch.isfinite(got).all() else float("inf")


def module_of(job: Job) -> Any:
    """The form that a job is about."""
    if job.get("module", "cuda") == "cuda":
        return cuda
    from flopscan.ops.selective_scan import triton

    return triton


def check(job: Job, device: str) -> Job:
    """Errors of output, last state and every gradient."""
    module, given, form = module_of(job), set(job["given"]), form_of(job)
    x = operands(tuple(job["shape"]), job["dtype"], given, device)
    if job.get("extreme"):
        x["delta"][..., ::3], x["delta"][..., 1::7], x["delta"][..., 2::11] = 25, -40, 100
        x["A"] *= 20
    if job.get("strided"):
        x["u"] = x["u"].mT.contiguous().mT
        x["delta"] = F.pad(x["delta"], (1, 2))[..., 1:-2]
    torch.manual_seed(1)
    grad = torch.randn(x["u"].shape, device=device).to(x["u"].dtype)
    grad_last = torch.randn(*x["u"].shape[:2], x["A"].shape[1], device=device) if "grad_last" in given else None
    softplus = job.get("softplus", True)
    if not softplus:
        x["delta"] = x["delta"].abs() * 0.2
    out, last, saved = module.forward(*x.values(), delta_softplus=softplus, keep=True, out_dtype=x["u"].dtype, **form)
    grads = module.backward(
        grad,
        grad_last,
        *x.values(),
        saved,
        delta_softplus=softplus,
        deterministic=job.get("deterministic", False),
        **form,
    )
    expected = definition(x, softplus, grad, grad_last)
    errors = {
        name: error(a, b) for name, a, b in zip(("out", "last", *NAMES), [out, last, *grads], expected, strict=True)
    }
    found = {name: e for name, e in errors.items() if e is not None}
    limit = 2e-6 if job["dtype"] == "float32" else 5e-3
    return {"errors": found, "worst": max(found.values()), "passed": max(found.values()) < limit}


def check_row(job: Job, x: dict[str, Any], out: torch.Tensor) -> float:
    """The error of a few channels of the output of a row of the table."""
    _, d, _, _, g = job["shape"]
    channels = torch.tensor(sorted({0, d // 3, d // 2 + 1, d - 1}), device=out.device)
    groups = channels // (d // g)
    b = slice(-1, None)
    part = [x["u"][b, channels], x["delta"][b, channels], x["A"][channels], x["B"][b, groups], x["C"][b, groups]]
    part += [x["D"][channels], None if x["z"] is None else x["z"][b, channels], x["delta_bias"][channels]]
    expected = reference.selective_scan(*(None if v is None else v.double() for v in part), True)
    return float(error(out[b, channels], expected))


# Times


def timed(call: Any, seconds: float = 0.25, least: int = 15) -> dict[str, float]:
    """Percentiles of single calls, in microseconds."""
    scratch = torch.empty(1 << 29, dtype=torch.int8, device="cuda")
    call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    count = max(least, min(100, int(seconds / (time.perf_counter() - start + 3e-4))))
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    for before, after in events:
        scratch.zero_()
        before.record()
        call()
        after.record()
    torch.cuda.synchronize()
    times = torch.tensor([1e3 * before.elapsed_time(after) for before, after in events])
    p20, p50, p80 = times.quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
    return {"p20": p20, "p50": p50, "p80": p80, "count": count}


_held: dict[str, Any] = {}


def row_operands(row: str) -> dict[str, Any]:
    """The operands of a row, kept while jobs ask for the same."""
    if row not in _held:
        _held.clear()
        torch.cuda.empty_cache()
        shape, dtype, z, *_ = ROWS[row]
        _held[row] = operands(shape, dtype, {"D", "delta_bias"} | ({"z"} if z else set()))
    return _held[row]


def measure(job: Job) -> Job:
    """The time of one direction of a row, with its memory."""
    module, form = module_of(job), form_of(job)
    x = row_operands(job["row"])
    dtype = getattr(torch, job.get("out_dtype", ROWS[job["row"]][1]))
    keep = job["direction"] == "backward" or job.get("keep", False)

    def forward() -> Any:
        return module.forward(*x.values(), delta_softplus=True, keep=keep, out_dtype=dtype, **form)

    out, _, saved = forward()
    result: Job = {"saved_bytes": saved.numel() * 4}
    call = forward
    if job["direction"] == "backward":
        grad = torch.randn_like(out)

        def call() -> Any:
            return module.backward(
                grad,
                None,
                *x.values(),
                saved,
                delta_softplus=True,
                deterministic=job.get("deterministic", False),
                **form,
            )
    elif job.get("check"):
        result["error"] = check_row(job, x, out)
    del out
    return {**result, **timed(call)}


def copy_bandwidth(job: Job) -> Job:
    """Bytes read and written a second by a copy of 1 GB, and what was found out about the machine."""
    source = torch.empty(1 << 30, dtype=torch.int8, device="cuda").random_()
    target = torch.empty_like(source)
    result = timed(lambda: target.copy_(source))
    return {**result, "TB/s": 2 * (1 << 30) / result["p50"] / 1e6, "device": torch.cuda.get_device_name(),
            "torch": torch.__version__, "nvrtc": nvrtc.version()}  # fmt: skip


PROFILED = (  # counters of ncu: what kernels execute, and where warps wait
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum,smsp__sass_thread_inst_executed_op_fmul_pred_on.sum,"
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum,smsp__inst_executed.sum,smsp__inst_executed_pipe_xu.sum"
)
SECTIONS = ("SpeedOfLight", "WarpStateStats", "SchedulerStats", "ComputeWorkloadAnalysis",
            "MemoryWorkloadAnalysis_Tables", "MemoryWorkloadAnalysis", "InstructionStats", "Occupancy",
            "LaunchStats")  # fmt: skip


def profile(job: Job, out: Path) -> Job:
    """The kernel of one direction of a row under ncu; its report is a text of its own."""
    report = out / f"ncu-{job['row']}-{job['direction']}.txt"
    command = ["ncu", "--clock-control", "none", "--metrics", PROFILED, "--kernel-name", f"regex:_{job['direction']}",
               "--launch-skip", "1", "--launch-count", "1"]  # fmt: skip
    for section in SECTIONS:
        command += ["--section", section]
    program = [sys.executable, __file__, "--out", str(out), "--once", f"{job['row']}:{job['direction']}"]
    with report.open("w") as file:
        done = subprocess.run([*command, *program], stdout=file, stderr=file, timeout=50)
    return {"returned": done.returncode, "report": report.name}


def once(row: str, direction: str) -> None:
    """Two calls of one direction of a row, to be profiled."""
    x = row_operands(row)
    out, _, saved = cuda.forward(*x.values(), delta_softplus=True, keep=True, out_dtype=x["u"].dtype)
    if direction == "forward":
        cuda.forward(*x.values(), delta_softplus=True, keep=False, out_dtype=x["u"].dtype)
    for _ in range(2 if direction == "backward" else 0):
        cuda.backward(torch.randn_like(out), None, *x.values(), saved, delta_softplus=True, deterministic=False)
    torch.cuda.synchronize()


class Warm:
    """A Triton kernel that is compiled where it would be launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **options: self.kernel.warmup(*args, grid=grid, **options)


def warm(which: int, of: int) -> None:
    """Compile every ``of``-th of the Triton kernels that are timed, so that the jobs find them in Triton's cache."""
    from flopscan.ops.selective_scan import triton

    for name in ("_forward_states", "_backward_states", "_forward_rows", "_backward_rows"):
        setattr(triton, name, Warm(getattr(triton, name)))
    for job in [job for job in triton_jobs() if job["kind"] == "measure"][which::of]:
        x = row_operands(job["row"])
        keep = job["direction"] == "backward"
        out, _, saved = triton.forward(*x.values(), delta_softplus=True, keep=keep, out_dtype=x["u"].dtype)
        if keep:
            triton.backward(out, None, *x.values(), saved, delta_softplus=True, deterministic=False)


# The list of jobs


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


FULL = ["D", "z", "delta_bias", "initial_state", "grad_last"]
USUAL = ["D", "z", "delta_bias"]


def checks(module: str) -> list[Job]:
    """The cases that are checked."""

    def case(shape: tuple[int, ...], given: list[str] = FULL, dtype: str = "float32", **more: Any) -> Job:
        return {
            "kind": "check",
            "module": module,
            "shape": shape,
            "given": given,
            "dtype": dtype,
            "label": "check",
            **more,
        }

    cases = [case((2, 34, 65, n, 2)) for n in (1, 2, 3, 8, 16, 17, 64, 128, 256)]
    cases += [case((2, 40, l, n, 4)) for n in (1, 16) for l in (1, 2, 63, 64, 196, 257)]
    cases += [
        case((2, 33, 196, n, 1), given, "float32") for n in (1, 16) for given in ([], ["D"], ["z"], ["delta_bias"])
    ]
    cases += [case((2, 40, 196, n, 2), FULL, dtype) for n in (1, 16) for dtype in ("float16", "bfloat16")]
    cases += [case((1, 24, 130, n, 2), extreme=True, given=USUAL) for n in (1, 16)]
    cases += [case((2, 40, 131, n, 2), strided=True) for n in (1, 16)]
    cases += [case((2, 40, 131, n, 2), softplus=False) for n in (1, 16)]
    cases += [case((2, 40, 196, n, 2), deterministic=True) for n in (1, 16)]
    return cases + [
        case((2, 48, l, n, 2), USUAL) for l, n in ((1000, 16), (3136, 1), (3136, 16), (1000, 64), (8192, 16))
    ]


def variants() -> list[Job]:
    """Other ways to compile the kernels, on the rows that they are about, the most promising first."""
    jobs: list[Job] = []

    def add(row: str, direction: str, **form: Any) -> None:
        jobs.append(cell(row, direction, " ".join(f"{k}={v}" for k, v in form.items()), form))

    narrow = {"lanes": 2, "states": 8}
    for form in ({"unroll": 1}, {"unroll": 4}, {"resident": 4}, {"tile": 32}, {"tile": 32, "resident": 4, "unroll": 1},
                 {"polynomial": 1}, {"polynomial": 2}, {"warps": 2, "resident": 6}, {"lanes": 8, "states": 2}, narrow,
                 {**narrow, "fill": 6}, {"warps": 8, "resident": 1}):  # fmt: skip
        add("mamba-130m", "forward", **form)
    for form in ({"resident_backward": 2}, {"tile": 32}, {"sub": 4}, {"tile": 32, "sub": 4, "resident_backward": 4},
                 {"warps": 2, "resident_backward": 6}, {"warps": 8, "resident_backward": 1},
                 {**narrow, "sub": 4, "tile": 32, "fill": 4}, {"lanes": 8, "states": 2, "sub": 8}):  # fmt: skip
        add("mamba-130m", "backward", **form)
    for form in ({"rows": 2}, {"rows": 8}, {"rows": 1}, {"resident": 6}, {"resident": 4}, {"warps": 8, "resident": 4}):
        add("vmamba-t-1", "forward", **form)
    for form in (
        {"rows": 8},
        {"rows": 2},
        {"resident_backward": 3},
        {"resident_backward": 5},
        {"warps": 8, "resident_backward": 2},
    ):
        add("vmamba-t-1", "backward", **form)
    for form in ({"rows": 8}, {"rows": 2}, {"resident": 6}):
        add("vmamba-t-3", "forward", **form)
    for form in ({"rows": 8}, {"rows": 2}, {"resident_backward": 3}):
        add("vmamba-t-3", "backward", **form)
    for form in ({"fill": 6}, {"fill": 2}, {**narrow, "fill": 6}, {"unroll": 1}):
        add("mamba-long", "forward", **form)
    for form in ({"fill": 6}, {"fill": 2}):
        add("mamba-long", "backward", **form)
    for form in (narrow, {**narrow, "resident": 4, "tile": 32}, {"unroll": 1}):
        add("vmamba-v0", "forward", **form)
    for form in ({"warps": 2, "resident": 6}, {"fill": 6}):
        add("mamba-2.8b", "forward", **form)
    for form in ({"fill": 6}, {"warps": 2, "resident_backward": 6}):
        add("mamba-2.8b", "backward", **form)
    return jobs


def jobs(emulate: bool) -> list[Job]:
    """All of them, the most valuable first."""
    if emulate:
        return [job for job in checks("cuda") if job["shape"][2] <= 300]
    defaults = [cell(row, direction, check=True) for row in ROWS for direction in ("forward", "backward")]
    for job in defaults:
        if job["direction"] == "backward":
            job["check"] = False
    first = [{"kind": "copy", "label": "copy"}, defaults[0], defaults[1]]
    profiles = [{"kind": "profile", "label": "ncu", "row": row, "direction": direction, "shape": ROWS[row][0]}
                for row, direction in (("mamba-130m", "forward"), ("mamba-130m", "backward"),
                                       ("vmamba-t-1", "forward"))]  # fmt: skip
    several = variants()
    listed = [
        *first,
        *checks("cuda")[:21],
        *defaults[2:],
        *checks("cuda")[21:],
        *several[:20],
        *profiles,
        *several[20:],
    ]
    listed += [
        cell("mamba-130m", "forward", "keep", keep=True),
        cell("mamba-130m", "backward", "deterministic", deterministic=True),
    ]
    listed += [
        cell(row, "forward", "float32 out", out_dtype="float32") for row in ("vmamba-t-1", "vmamba-t-3", "vmamba-v0")
    ]
    return [*listed, *triton_jobs()]


def triton_jobs() -> list[Job]:
    """Those of the Triton form."""
    order = ("mamba-130m", "vmamba-t-1", "vmamba-t-3", "mamba-2.8b", "vmamba-v0", "mamba-130m-fp32", "mamba-long")
    timed = [cell(row, direction, "triton", module="triton", check=direction == "forward") for row in order
             for direction in ("forward", "backward")]  # fmt: skip
    return [*checks("triton")[:12], *timed, *checks("triton")[12:]]


def kernels(job: Job) -> list[tuple[str, tuple[str, ...]]]:
    """The kernels that a job compiles: name and options."""
    if job["kind"] in ("copy", "profile") or job.get("module", "cuda") != "cuda":
        return []
    _, _, length, states, _ = job["shape"]
    form = form_of(job).get("form") or cuda.default_form(states, length)
    dtype, z = (ROWS[job["row"]][1], ROWS[job["row"]][2]) if "row" in job else (job["dtype"], "z" in job["given"])
    out = getattr(torch, job.get("out_dtype", dtype))
    some = torch.empty(0, dtype=getattr(torch, dtype))
    dtypes = cuda._dtypes(some, some, some if z else None, some, some, out)
    if isinstance(form, Rows):
        chosen = [("rows_forward", dtypes), ("rows_backward", dtypes)]
    else:
        chosen = [("scan_forward", dtypes), ("scan_backward", dtypes)]
        if length >= 1000:
            chosen += [("scan_edges", (*dtypes, f"-DFORWARD={way}")) for way in (0, 1)]
    if job["kind"] == "measure" and job["direction"] == "forward":
        chosen = [each for each in chosen if "backward" not in each[0]]
    return [(name, cuda.options(name, form, states, length, macros)) for name, macros in chosen]


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


# The process that works, and the one that watches


def run(job: Job, device: str, out: Path) -> Job:
    """What a job finds."""
    if job["kind"] == "profile":
        return profile(job, out)
    if job["kind"] == "check":
        return check(job, device)
    return copy_bandwidth(job) if job["kind"] == "copy" else measure(job)


def work(log: Path, first: int, emulate: bool) -> None:
    """Run the jobs from the one numbered ``first``, each with a line in ``log`` before and after."""
    device = "cpu" if emulate else "cuda"
    if emulate:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from ops import emulation

        nvrtc.launch, cuda._multiprocessors = emulation.launch, lambda device: 132
    torch.use_deterministic_algorithms(True, warn_only=True)  # then fresh memory is filled with NaN
    with log.open("a") as file:
        for number, job in list(enumerate(jobs(emulate)))[first:]:
            file.write(json.dumps({"begin": number}) + "\n")
            file.flush()
            torch.utils.deterministic.fill_uninitialized_memory = job["kind"] == "check"
            try:
                found = run(job, device, log.parent)
            except Exception as e:
                found = {"failed": f"{type(e).__name__}: {e}"[:2000]}
                fatal = "CUDA" in str(e) or "illegal" in str(e) or "launch" in str(e)
            else:
                fatal = False
            file.write(json.dumps({"number": number, **job, **found}) + "\n")
            file.flush()
            if fatal:
                os._exit(1)  # the context is lost


def watch(out: Path, seconds: float, emulate: bool) -> None:
    """Keep a worker running until the jobs are done or the time is over."""
    deadline = time.monotonic() + seconds
    log = out / "jobs.jsonl"
    listed = jobs(emulate)
    log.write_text("")
    first = 0
    while first < len(listed) and deadline - time.monotonic() > 5:
        command = [
            sys.executable,
            __file__,
            "--work",
            str(first),
            "--out",
            str(out),
            *(["--emulate"] if emulate else []),
        ]
        with (out / "worker.log").open("a") as errors:
            worker = subprocess.Popen(command, stdout=errors, stderr=errors)
            begun, since = first, time.monotonic()
            while worker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                now = progress(log, first)
                begun, since = (now, time.monotonic()) if now != begun else (begun, since)
                if time.monotonic() - since > 60:
                    break
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        if worker.returncode == 0:
            break
        begun = progress(log, first)
        if not finished(log, begun):
            with log.open("a") as file:
                file.write(
                    json.dumps({"number": begun, **listed[begun], "failed": f"the process ended ({worker.returncode})"})
                    + "\n"
                )
        first = begun + 1


def records(log: Path) -> list[Job]:
    """The whole lines of a log."""
    found = []
    for line in log.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def progress(log: Path, first: int) -> int:
    """The job that was begun last."""
    return max([first, *(r["begin"] for r in records(log) if "begin" in r)])


def finished(log: Path, number: int) -> bool:
    """Whether a job has ended."""
    return any(r.get("number") == number for r in records(log))


def table(out: Path) -> str:
    """What the jobs found, in short."""
    found = [r for r in records(out / "jobs.jsonl") if "number" in r]
    lines = []
    checked = [r for r in found if r["kind"] == "check"]
    for module in ("cuda", "triton"):
        ours = [r for r in checked if r["module"] == module]
        bad = [r for r in ours if not r.get("passed")]
        lines.append(f"{module}: {len(ours) - len(bad)} of {len(ours)} checks passed")
        lines += [
            f"  {r['shape']} {r['dtype']} {r['given']} {r.get('failed', '')[:300]} {r.get('errors', '')}" for r in bad
        ]
    for r in found:
        if r["kind"] == "copy" and "p50" in r:
            lines.append(f"copy {r['TB/s']:.2f} TB/s on {r['device']}, torch {r['torch']}, NVRTC {r['nvrtc']}")
        if r["kind"] == "measure":
            forward, backward = ROWS[r["row"]][3:]
            public = forward if r["direction"] == "forward" else backward
            head = f"{r['row']:16s} {r['direction']:8s} {r['label']:40s}"
            if "failed" in r:
                lines.append(f"{head} FAILED {r['failed'][:200]}")
            else:
                spread = f"{r['p50']:8.1f} us ({r['p20']:.0f} to {r['p80']:.0f})"
                lines.append(f"{head} {spread} x{public / r['p50']:.2f} {r.get('error', '')}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder for results")
    parser.add_argument("--seconds", type=float, default=270, help="when to stop")
    parser.add_argument("--emulate", action="store_true", help="checks alone, on the CPU")
    parser.add_argument("--compile", metavar="ARCH", help="compile every kernel of the jobs for sm_90, say, and stop")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that compile")
    parser.add_argument("--table", action="store_true", help="print the table of a run that was")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.work is not None:
        work(options.out / "jobs.jsonl", options.work, options.emulate)
        return
    if options.once:
        once(*options.once.split(":"))
        return
    if options.warm:
        warm(*options.warm)
        return
    start = time.monotonic()
    if options.compile:
        compile_all(jobs(False), options.compile, options.workers)
        return
    if not options.table:
        if not options.emulate:
            with (options.out / "background.log").open("a") as log:
                for i in range(4):
                    command = [sys.executable, __file__, "--out", str(options.out), "--warm", str(i), "4"]
                    subprocess.Popen(["nice", *command], stdout=log, stderr=log)
            arch = "sm_{}{}".format(*torch.cuda.get_device_capability())
            compile_all([job for job in jobs(False) if not job.get("form")], arch, options.workers)
            with (options.out / "background.log").open("a") as log:  # the variants, while the first jobs run
                command = [sys.executable, __file__, "--out", str(options.out), "--compile", arch]
                subprocess.Popen(
                    ["nice", *command, "--workers", str(max(options.workers - 4, 1))], stdout=log, stderr=log
                )
        watch(options.out, options.seconds - (time.monotonic() - start), options.emulate)
    print(text := table(options.out))
    (options.out / "table.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
