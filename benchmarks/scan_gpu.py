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
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import scan_public
from flopscan.ops.gpu import nvrtc
from scan_cases import ROWS, Job, check
from scan_jobs import compile_all, jobs, warm
from scan_times import copy_bandwidth, measure, memory, model, once, profile


def run(job: Job, device: str, out: Path) -> Job:
    """What a job finds."""
    if job["kind"] == "check":
        return check(job, device)
    if job["kind"] == "profile":
        return profile(job, out)
    if job["kind"] == "model":
        with scan_public.in_place_of_ours() if job.get("public") else contextlib.nullcontext():
            return model(job)
    return {"copy": copy_bandwidth, "measure": measure, "memory": memory, "public": scan_public.public}[job["kind"]](
        job
    )


def work(log: Path, first: int, emulate: bool) -> None:
    """Run the jobs from the one numbered ``first``, each with a line in ``log`` before and after."""
    device = "cpu" if emulate else "cuda"
    if emulate:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from ops import emulation

        nvrtc.launch = emulation.launch
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
        if r["kind"] == "model":
            ways = [way for way in ("infer", "train") if way in r]
            lines += [f"{r['label']} {way} {r[way]['images/s']:.0f} images/s {r[way]['scans']}" for way in ways] or [
                str(r)
            ]
        if r["kind"] == "public" and "forward" in r:
            lines.append(
                f"{r['row']:16s} public   {r['forward']['p50']:8.1f} us forward {r['backward']['p50']:8.1f} backward"
            )
        if r["kind"] == "memory":
            lines.append(f"{r['row']:16s} memory   { ({k: r[k] for k in r if isinstance(r[k], int)}) }")
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
    parser.add_argument(
        "--mamba", type=Path, help="mamba_ssm's unpacked source distribution, to build its kernel and time it"
    )
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
        once(options.once)
        return
    if options.warm:
        warm(*options.warm)
        return
    start = time.monotonic()
    if options.compile:
        compile_all(jobs(False), options.compile, options.workers)
        return
    if not options.table:
        if options.mamba:
            scan_public.start(
                options.mamba, Path(tempfile.gettempdir()) / "flopscan-public", options.out / "background.log"
            )
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
