"""What a GPU takes for a selective scan: times, memory, and hardware counters by ncu."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from flopscan.ops.gpu import nvrtc
from flopscan.ops.selective_scan import cuda
from scan_cases import ROWS, Job, check_row, form_of, module_of, operands


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
    module, form = module_of(job), form_of(job, job["direction"] == "backward")
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


def memory(job: Job) -> Job:
    """The bytes of a training step of a row, beyond its operands, and what the public kernel keeps, by formula.

    mamba_ssm's function keeps u, delta, A, B, C, D, z, delta_bias, of every 2048 positions 2 n numbers in float32, and
    with z the output before the gate.
    """
    x = row_operands(job["row"])
    b, d, l, n, _ = job["shape"]
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    out, last, saved = cuda.forward(*x.values(), delta_softplus=True, keep=True, out_dtype=x["u"].dtype)
    kept = torch.cuda.memory_allocated() - before
    forward = torch.cuda.max_memory_allocated() - before
    grads = cuda.backward(out, None, *x.values(), saved, delta_softplus=True, deterministic=False)
    torch.cuda.synchronize()
    step = torch.cuda.max_memory_allocated() - before
    public = 4 * b * d * -(-l // 2048) * 2 * n + (0 if x["z"] is None else b * d * l * x["u"].element_size())
    given = sum(v.numel() * v.element_size() for v in x.values() if v is not None)
    made = sum(g.numel() * g.element_size() for g in grads if g is not None)
    return {"operands": given, "output": out.numel() * out.element_size(), "last": 4 * last.numel(),
            "saved": 4 * saved.numel(), "after_forward": kept, "peak_forward": forward, "peak_step": step,
            "gradients": made, "public_saved_beside_operands": public}  # fmt: skip


# kernels' names: ours, and those of mamba_ssm
OF_SCANS = ("rows_forward", "rows_backward", "fused_", "cross_scan", "cross_merge", "selective_scan_")


def model(job: Job) -> Job:
    """VMamba-T at 64 images of 224 x 224: images a second of inference and of a training step, and the scans' part."""
    from flopscan.models import vmamba

    _held.clear()
    torch.cuda.empty_cache()
    torch.use_deterministic_algorithms(False)  # as a user has it
    dtype, images = getattr(torch, job["dtype"]), torch.randn(64, 3, 224, 224, device="cuda")
    net = vmamba.build("vmamba_tiny").cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    target = torch.randint(0, 1000, (64,), device="cuda")

    def infer() -> None:
        with torch.no_grad(), torch.autocast("cuda", dtype):
            net(images)

    def train() -> None:
        with torch.autocast("cuda", dtype):
            loss = torch.nn.functional.cross_entropy(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    found: Job = {}
    for name, call in (("infer", infer), ("train", train)):
        times = timed(call, seconds=1.5, least=5)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            call()
            torch.cuda.synchronize()
        kernels = {e.key: [e.count, e.self_device_time_total] for e in profiler.key_averages()}
        scans = {key: each for key, each in kernels.items() if any(part in key for part in OF_SCANS)}
        most = sorted(kernels.items(), key=lambda each: -each[1][1])[:12]
        found[name] = {**times, "images/s": 64e6 / times["p50"], "scans": scans, "most": dict(most)}
    torch.use_deterministic_algorithms(True, warn_only=True)
    return found


COUNTERS = (  # of ncu: what kernels execute
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum,smsp__sass_thread_inst_executed_op_fmul_pred_on.sum,"
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum,smsp__inst_executed.sum,smsp__inst_executed_pipe_xu.sum"
)
WAVEFRONTS = (  # where the traffic of shared memory comes from
    "l1tex__data_pipe_lsu_wavefronts.sum,l1tex__data_pipe_lsu_wavefronts_mem_shared.sum,"
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum,l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum,"
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum,l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum"
)
SECTIONS = ("SpeedOfLight", "WarpStateStats", "SchedulerStats", "ComputeWorkloadAnalysis",
            "MemoryWorkloadAnalysis_Tables", "MemoryWorkloadAnalysis", "InstructionStats", "Occupancy",
            "LaunchStats")  # fmt: skip


def profile(job: Job, out: Path) -> Job:
    """The kernel of one direction of a row under ncu; its report is a text of its own."""
    report = out / f"ncu-{job['row']}-{job['direction']}.txt"
    command = ["ncu", "--clock-control", "none", "--metrics", f"{COUNTERS},{WAVEFRONTS}",
               "--kernel-name", f"regex:_{job['direction']}", "--launch-skip", "1", "--launch-count", "1"]  # fmt: skip
    for section in SECTIONS:
        command += ["--section", section]
    with report.open("w") as file:
        done = subprocess.run([*command, *_once(out, f"{job['row']}:{job['direction']}")],
                              stdout=file, stderr=file, timeout=50)  # fmt: skip
    return {"returned": done.returncode, "report": report.name}


def _once(out: Path, what: str) -> list[str]:
    """The command that makes the launches to be profiled."""
    program = str(Path(__file__).with_name("scan_gpu.py"))
    return [sys.executable, program, "--out", str(out), "--once", what]


def once(what: str) -> None:
    """The launches that are profiled: two of one direction of a row."""
    row, direction = what.split(":")
    x = row_operands(row)
    out, _, saved = cuda.forward(*x.values(), delta_softplus=True, keep=True, out_dtype=x["u"].dtype)
    if direction == "forward":
        cuda.forward(*x.values(), delta_softplus=True, keep=False, out_dtype=x["u"].dtype)
    for _ in range(2 if direction == "backward" else 0):
        cuda.backward(torch.randn_like(out), None, *x.values(), saved, delta_softplus=True, deterministic=False)
    torch.cuda.synchronize()
