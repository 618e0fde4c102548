"""Writes SCAN_GPU.md from what `scan_gpu.py` found on a GPU.

python scan_gpu_page.py hardware/scan-h100-2026-11-27.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from scan_cases import ROWS

Found = dict[str, Any]
PAGE = Path(__file__).parent / "SCAN_GPU.md"
HEAD = """# The selective scan on a GPU

{device}, torch {torch}, NVRTC {nvrtc}; {date}. `python benchmarks/scan_gpu.py --mamba SOURCES --out DIR`, the whole
run in `benchmarks/{log}`; this page by
`python benchmarks/scan_gpu_page.py benchmarks/{log}`.

Microseconds of one call between CUDA events, each after a write of 512 MB that empties the L2 cache: 20th, 50th, 80th
percentile of 100, fewer where a call is long. "public" is the median of `selective_scan_cuda` of {public}
in the same run, built on that machine from the unpacked source distribution. A copy moved {copy:.2f} TB/s.
"cuda" is the default form, "best" the fastest of the forms that were tried, "triton" the portable form.

| row | b d l n g | dtype, z | direction | cuda 20/50/80 % | public | times public | best | triton |
|---|---|---|---|---|---:|---:|---|---:|
"""
REST = """
## What a forward waits for
Of 16 states and z in bfloat16 (mamba-130m) a warp issues 8.4 instructions for each of its 32 x (b d l n), and keeps the
special-function unit busy for 9.5 cycles of a scheduler: an exp2 each, and 3 for each (b d l). At 1.95 GHz that is
106 us and 120 us with three warps on a scheduler; the profile says that the rest is waiting of three warps for one
another on the unit, the issue and shared memory. Tried beside what the table calls "best" and slower, or no faster:
exp2 as a polynomial for one or two of 16; decays known two or four positions ahead; the products of delta u and B by
tensor cores (fewer instructions and fewer reads, yet longer waits); blocks of 1, 2, 3, 6 and 12 warps. See
`decisions/0009-the-scan-on-a-gpu.md`, also for what the rows of one state keep.

Since that run the kernel of the edges between segments reads nothing that was not loaded, and two checks are new, of
states made again without z; they pass in the emulator (`tests/ops/test_selective_scan_cuda.py`).

## The Triton form
Beside the row of 65536 positions, where the few programs that there are go through all of l, the forward is faster than
the public kernel everywhere; the backward is not for 16 states and few channels (it keeps every state of a chunk in
global memory). Of that run's checks three failed that have been put right since: two did not compile where a step was
1, and the gradient of A of one state with fast decays was a difference of equal numbers. They pass in Triton's
interpreter (`tests/ops/test_selective_scan_triton.py`); on a GPU they have not been run again, nor has the backward of
one state been timed since.
"""


def page(log: Path) -> str:
    """The page of a run."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    copy = next(one for one in found if one["kind"] == "copy")
    date = "-".join(log.stem.split("-")[-3:])
    nvrtc = ".".join(map(str, copy["nvrtc"]))
    head = HEAD.format(
        public=next((one["version"].split(",")[0] for one in found if one["kind"] == "public"), "mamba_ssm"),
        device=copy["device"], torch=copy["torch"], nvrtc=nvrtc, date=date, copy=copy["TB/s"],
        log=log.relative_to(PAGE.parent.resolve()),
    )  # fmt: skip
    rows = "\n".join(_row(found, name, way) for name in ROWS for way in ("forward", "backward"))
    return "\n".join([head + rows, *_checks(found), *_memory(found), *_models(found)]) + "\n" + REST


def _row(found: list[Found], name: str, way: str) -> str:
    shape, dtype, gated, *_ = ROWS[name]
    times = {
        one["label"]: one
        for one in found
        if one["kind"] == "measure" and (one["row"], one["direction"]) == (name, way) and "p50" in one
    }
    ours = times["default"]
    tried = {
        label: one for label, one in times.items() if label not in ("triton", "keep", "deterministic", "float32 out")
    }
    best = min(tried, key=lambda label: tried[label]["p50"])
    theirs = next(one[way]["p50"] for one in found if one["kind"] == "public" and one["row"] == name)
    spread = " / ".join(f"{ours[p]:.0f}" for p in ("p20", "p50", "p80"))
    triton = f"{times['triton']['p50']:.0f}" if "triton" in times else "-"
    sizes = " ".join(map(str, shape))
    return (
        f"| {name} | {sizes} | {dtype}{', z' if gated else ''} | {way} | {spread} | {theirs:.0f} |"
        f" {theirs / ours['p50']:.2f} | {tried[best]['p50']:.0f} ({best}) | {triton} |"
    )


def _checks(found: list[Found]) -> list[str]:
    lines = ["", "## Right"]
    for module in ("cuda", "triton"):
        ours = [one for one in found if one["kind"] == "check" and one["module"] == module]
        failed = [one for one in ours if not one.get("passed")]
        lines.append(
            f"{module}: {len(ours) - len(failed)} of {len(ours)} checks against the definition in float64 passed."
        )
        lines += [f"Not: {one['shape']} {one['dtype']}: {_reason(one)}" for one in failed]
        for dtype in sorted({one["dtype"] for one in ours}):
            worst = max((one["worst"] for one in ours if one["dtype"] == dtype and "worst" in one), default=None)
            if worst is not None:
                lines.append(f"Largest relative error of output, states and gradients in {dtype}: {worst:.1e}.")
    return lines


def _reason(one: Found) -> str:
    """The errors that are too large, or the last line of what failed."""
    if "errors" in one:
        return ", ".join(f"{name} {error:.1e}" for name, error in one["errors"].items() if error > 2e-6)
    return str(one["failed"]).strip().splitlines()[-1]


def _memory(found: list[Found]) -> list[str]:
    """What is kept from the forward for the backward, beside the operands."""
    lines = [
        "",
        "## Kept for the backward, beside the operands",
        "| row | by ours | by the public kernel |",
        "|---|---:|---:|",
    ]
    for row in ROWS:
        kept = {
            one["kind"]: one["saved_bytes"]
            for one in found
            if one.get("row") == row and "saved_bytes" in one
            and (one["kind"] == "public" or (one.get("direction"), one["label"]) == ("backward", "default"))
        }  # fmt: skip
        lines.append(f"| {row} | {kept['measure']:,} B | {kept['public']:,} B |")
    return lines


def _models(found: list[Found]) -> list[str]:
    """VMamba-T, and the same model with the public kernel in place of ours."""
    lines = [
        "",
        "## VMamba-T, batch 64, autocast",
        "With the public kernel: the same model, the four sequences made and merged by kernels of ours, and the scan",
        "between them that of `selective_scan_cuda`. Scans: all of these kernels.",
        "",
        "| dtype | | images/s | of a step's us, scans | images/s, public kernel | scans, public kernel |",
        "|---|---|---:|---:|---:|---:|",
    ]
    models = {(one["dtype"], bool(one.get("public"))): one for one in found if one["kind"] == "model"}
    for dtype in ("bfloat16", "float16"):
        for way, words in (("infer", "forward"), ("train", "training step")):
            cells = []
            for public in (False, True):
                one = models.get((dtype, public), {}).get(way)
                if one is None:
                    cells += ["-", "-"]
                    continue
                scans = sum(time for _, time in one["scans"].values())
                cells += [f"{one['images/s']:.0f}", f"{scans:,.0f} of {one['p50']:,.0f}"]
            lines.append(f"| {dtype} | {words} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1]).resolve()))
