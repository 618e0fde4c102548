"""The fused cross selective scan of VMamba-T's four stages on a GPU, beside its three steps and the bytes it must move.

    PYTHONPATH=src python benchmarks/cross_scan_gpu.py --out cross.jsonl --variants

Times are those of `scan_times.timed`: microseconds of single calls, each after a write that empties the L2 cache.
"copy" is a copy of as many bytes as the operands and results have. Errors are norms of differences, relative to the
three steps. A stage and dtype are a process of their own, started again behind a job that kills it; kernels are
compiled before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.cross_selective_scan import composed, fused
from flopscan.ops.cross_selective_scan.fused import Walk, default_walk
from flopscan.ops.gpu import nvrtc

Job = dict[str, Any]
STAGES = {"1": (96, 56), "2": (192, 28), "3": (384, 14), "4": (768, 7)}
WAYS = ("forward", "backward")
# images as VMamba's are, read where they lie or copied to rows first, within the time
LAST, COPIED = "channels last", "channels last, copied"
# lanes, span, warps, resident: beside the default
VARIANTS = {
    ("1", "forward"): [(32, 8, 1, 5), (32, 8, 1, 7), (32, 8, 2, 2), (32, 8, 2, 3), (16, 8, 1, 3), (32, 4, 1, 7)],
    ("2", "forward"): [(16, 8, 1, 5), (16, 8, 1, 7), (16, 8, 2, 2), (8, 8, 1, 5), (8, 8, 2, 2), (32, 8, 1, 5)],
    ("3", "forward"): [(4, 8, 1, 5), (4, 8, 1, 7), (4, 8, 2, 2), (8, 8, 1, 5), (8, 4, 1, 6), (32, 8, 1, 5)],
    ("4", "forward"): [(4, 8, 1, 5), (4, 8, 1, 7), (4, 8, 2, 2), (8, 8, 1, 5), (8, 4, 1, 6), (32, 2, 1, 7)],
    ("1", "backward"): [
        (32, 8, 1, 3), (32, 8, 1, 4), (32, 8, 3, 1), (32, 8, 4, 1), (32, 4, 4, 1), (32, 4, 2, 2), (16, 8, 2, 1),
    ],
    ("2", "backward"): [(16, 8, 1, 3), (16, 8, 3, 1), (16, 8, 4, 1), (8, 8, 1, 3), (8, 8, 2, 1), (8, 4, 1, 4)],
    ("3", "backward"): [(4, 8, 1, 4), (4, 8, 2, 1), (8, 8, 1, 3), (8, 4, 1, 4), (8, 8, 2, 1), (32, 8, 1, 3)],
    ("4", "backward"): [(4, 8, 1, 4), (4, 8, 2, 1), (8, 8, 1, 3), (8, 4, 1, 4), (4, 4, 1, 4), (8, 8, 2, 1)],
}  # fmt: skip


def jobs(stage: str, variants: bool) -> list[Job]:
    """What is timed of a stage."""
    found = []
    for way in WAYS:
        found += [{"way": way, "what": what} for what in ("copy", "three steps", "fused", LAST, COPIED)]
        if way == "forward":
            found.append({"way": way, "what": "fused, kept"})
        for walk in VARIANTS[stage, way] if variants else ():
            found.append({"way": way, "what": "variant", "walk": walk})
    return found


def operands(stage: str, dtype: torch.dtype, b: int, device: str) -> list[Tensor]:
    """x, delta, A, B, C, D and delta_bias, as a model has them, and the gradient of the output."""
    d, side = STAGES[stage]
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device)

    return [
        normal(b, d, side, side).to(dtype), (0.5 * normal(b, 4, d, side**2) - 2).to(dtype),
        -(0.3 * normal(4 * d, 1)).exp(), *(normal(b, 4, 1, side**2).to(dtype) for _ in range(2)), normal(4 * d),
        0.1 * normal(4 * d), normal(b, d, side, side).to(dtype),
    ]  # fmt: skip


def walk_of(job: Job, stage: str, dtype: torch.dtype) -> Walk:
    """How a job's kernel is compiled."""
    default = default_walk(STAGES[stage][1] ** 2, dtype.itemsize, job["way"] == "backward")
    return Walk(*job["walk"]) if "walk" in job else default


def run(module: Any, job: Job, given: list[Tensor], stage: str) -> tuple[Any, list[Tensor]]:
    """A call of one direction by fused or by three steps, and its results."""
    *own, grad = given
    if job["what"] in (LAST, COPIED):
        own[0], grad = (each.to(memory_format=torch.channels_last) for each in (own[0], grad))
    keep = job["way"] == "backward" or job["what"] == "fused, kept"
    options: Job = {"delta_softplus": True, "keep": keep, "out_dtype": own[0].dtype}
    later: Job = {}
    if module is fused:
        walk = walk_of(job, stage, own[0].dtype)
        usual = default_walk(STAGES[stage][1] ** 2, own[0].element_size())
        options["walk"] = replace(usual, lanes=walk.lanes, span=walk.span) if job["way"] == "backward" else walk
        later["walk"] = walk

    def image(x: Tensor) -> Tensor:
        return x.contiguous() if job["what"] == COPIED else x

    def forward() -> Any:
        return module.forward(image(own[0]), *own[1:], **options)

    out, saved = forward()
    if job["way"] == "forward":
        return forward, [out]

    def backward() -> Any:
        images = image(grad), image(own[0])
        return module.backward(*images, *own[1:], saved, delta_softplus=True, deterministic=False, **later)

    return backward, list(backward())


def measure(job: Job, given: list[Tensor], expected: dict[str, list[Tensor]], stage: str) -> Job:
    """The time of a job and its largest error."""
    from scan_times import timed

    way = job["way"]
    if way not in expected:
        _, expected[way] = run(composed, {"way": way, "what": ""}, given, stage)
    if job["what"] == "copy":
        moved = [*(given if way == "backward" else given[:-1]), *expected[way]]
        size = sum(x.numel() * x.element_size() for x in moved)
        source, target = (torch.empty(size // 2, dtype=torch.int8, device="cuda") for _ in range(2))
        return {**timed(lambda: target.copy_(source)), "bytes": size}
    call, results = run(composed if job["what"] == "three steps" else fused, job, given, stage)
    errors = [
        float((x.double() - y.double()).norm() / y.double().norm()) for x, y in zip(results, expected[way], strict=True)
    ]
    found = (
        {}
        if job["what"] == "three steps"
        else {"error": max(errors), "walk": asdict(walk_of(job, stage, given[0].dtype))}
    )
    del results
    return {**timed(call), **found}


def work(out: Path, stage: str, name: str, variants: bool, first: int) -> None:
    """The jobs of a stage and dtype from the one numbered ``first``, each with a line in ``out``."""
    given, expected = operands(stage, getattr(torch, name), 64, "cuda"), {}
    for number, job in list(enumerate(jobs(stage, variants)))[first:]:
        try:
            found = measure(job, given, expected, stage)
        except Exception as e:
            found = {"failed": f"{type(e).__name__}: {e}"[:500]}
        line = {"stage": stage, "dtype": name, "number": number, **job, **found}
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if "failed" in found and any(word in found["failed"] for word in ("CUDA", "illegal", "launch", "misaligned")):
            os._exit(1)  # the context may be lost


def compiled(task: tuple[str, str, Job, str]) -> str | None:
    """Compile what a job launches; the error if there is one."""
    stage, name, job, arch = task

    def launch(source: str, options: tuple[str, ...], *rest: Any) -> None:
        nvrtc.code(source, options, arch)

    nvrtc.launch = launch  # type: ignore[assignment]
    try:
        run(fused, job, operands(stage, getattr(torch, name), 1, "cpu"), stage)
    except Exception as e:
        return f"{stage} {name} {job}: {e}"[:500]
    return None


def table(out: Path) -> str:
    """The lines of a run as a table."""
    lines = [
        "| stage | dtype | direction | what | 20/50/80 % us | of the copy | error |",
        "|---|---|---|---|---|---:|---|",
    ]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    copies = {(r["stage"], r["dtype"], r["way"]): r.get("p50") for r in found if r["what"] == "copy"}
    for r in sorted(found, key=lambda r: (r["stage"], r["dtype"], WAYS.index(r["way"]))):
        d, side = STAGES[r["stage"]]
        walk = ", ".join(str(each) for each in r["walk"].values()) if isinstance(r.get("walk"), dict) else ""
        head = f"| {d} {side} {side} | {r['dtype']} | {r['way']} | {r['what']} {walk} |"
        if "failed" in r:
            lines.append(f"{head} {r['failed'][:120]} | | |")
            continue
        copy = copies.get((r["stage"], r["dtype"], r["way"]))
        times = f"{r['p20']:.0f} / {r['p50']:.0f} / {r['p80']:.0f}"
        lines.append(f"{head} {times} | {r['p50'] / copy if copy else 0:.2f} | {r.get('error', 0):.0e} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the file of JSON lines")
    parser.add_argument("--variants", action="store_true", help="other ways to compile the kernels, in bfloat16")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16"])
    parser.add_argument("--seconds", type=float, default=120, help="for a stage and dtype")
    parser.add_argument("--compile", metavar="ARCH", help="compile for sm_90, say, into $FLOPSCAN_CACHE, and stop")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        stage, name, first = options.work
        work(options.out, stage, name, options.variants, int(first))
        return
    groups = [(stage, name) for name in options.dtypes for stage in options.stages]
    with_variants = {group: options.variants and group[1] == options.dtypes[0] for group in groups}
    arch = options.compile or "sm_{}{}".format(*torch.cuda.get_device_capability())
    tasks = [
        (*group, job, arch) for group in groups for job in jobs(group[0], with_variants[group])
        if job["what"] not in ("copy", "three steps")
    ]  # fmt: skip
    with ProcessPoolExecutor() as pool:
        print(*filter(None, pool.map(compiled, tasks)), sep="\n")
    if options.compile:
        return
    options.out.write_text("")
    for stage, name in groups:
        variants, first = with_variants[stage, name], 0
        listed = jobs(stage, variants)
        while first < len(listed):
            command = [sys.executable, __file__, "--out", str(options.out), "--work", stage, name, str(first)]
            try:
                done = subprocess.run(command + ["--variants"] * variants, timeout=options.seconds).returncode
            except subprocess.TimeoutExpired:
                done = 1
            if done == 0:
                break
            records = [json.loads(line) for line in options.out.read_text().splitlines()]
            ended = [r["number"] for r in records if (r["stage"], r["dtype"]) == (stage, name)]
            last = max(ended, default=-1)
            if last < first:  # it ended without a word
                last = first
                with options.out.open("a") as file:
                    line = {
                        "stage": stage,
                        "dtype": name,
                        "number": last,
                        **listed[last],
                        "failed": "the process ended",
                    }
                    file.write(json.dumps(line) + "\n")
            first = last + 1
    print(table(options.out))


if __name__ == "__main__":
    main()
