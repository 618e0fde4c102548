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

{device}, torch {torch}, NVRTC {nvrtc}; {date}. `python benchmarks/scan_gpu.py --mamba SOURCES --out DIR`
in three runs of that day, on three machines of this kind (`run` in
`benchmarks/{log}`): the public kernel's times are of run 1; eleven of the
fourteen rows of Triton, the models and seven checks, run by themselves, of run 2; all else of run 3, which was cut
before it came to them. This page by
`python benchmarks/scan_gpu_page.py benchmarks/{log}`.

Microseconds of one call between CUDA events, each after a write of 512 MB that empties the L2 cache: 20th, 50th, 80th
percentile of 100, fewer where a call is long. "public" is the median of `selective_scan_cuda` of {public},
built on the machine from the unpacked source distribution, in run 1, where our default kernels took the same times
within 2 % (the backward of vmamba-t-3 within 5 %: it has fewer kernels of sums now). A copy moved {copy:.2f} TB/s.
"cuda" is the default form, "best" the fastest of the forms that were tried, "triton" the portable form.

| row | b d l n g | dtype, z | direction | cuda 20/50/80 % | public | times public | best | triton | times public |
|---|---|---|---|---|---:|---:|---|---:|---:|
"""
REST = """
## What a forward waits for
Of 16 states and z in bfloat16 (mamba-130m) a warp issues 8.4 instructions for each of its 32 x (b d l n), and keeps the
special-function unit busy for 9.5 cycles of a scheduler: an exp2 each, and 3 for each (b d l). At 1.95 GHz that is
106 us and 120 us with three warps on a scheduler; the profile says that the rest is waiting of three warps for one
another on the unit, the issue and shared memory. Tried beside what the table calls "best" and slower, or no faster:
exp2 as a polynomial for one or two of 16; decays known two or four positions ahead; the products of delta u and B by
tensor cores (fewer instructions and fewer reads, yet longer waits); blocks of 1, 2, 3, 6 and 12 warps; eight lanes a
channel with 3 to 6 blocks a multiprocessor. On three machines the median was 163.5 to 165.3 us; 163.5 is 1.5 times the
larger floor, 109 us. See `decisions/0009-the-scan-on-a-gpu.md`, also for what the rows of one state keep.

The times were taken while operands were loaded by asm; they are loaded by `__ldg` now. Side by side on one machine the
14 rows differed by 1.3 % at most, up or down (but for one whose launches a busy CPU held up).

## The Triton form
Never slower than the public kernel on these rows, forward or backward. A thread holds 8 neighbouring positions; the
recurrence over threads is a scan by shuffles, so every number of states is one kernel; the forward of many channels
goes from position to position instead, and of few channels over segments of l at the same time
(`decisions/0011-the-scan-in-triton.md`). It compiles for sm_80, sm_90 and gfx942 in a test that needs no GPU
(`tests/ops/test_triton_compiles.py`); it has run on an H100 only. Of its checks those of 1000 positions and more were
not reached in these runs; the rows' outputs were held to the definition.
"""


def page(log: Path) -> str:
    """The page of a day's runs."""
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
    cross = log.with_name(f"cross-{log.name}")
    crossed = [json.loads(line) for line in cross.read_text().splitlines()]
    parts = [*_bandwidth(found, copy["TB/s"]), *_checks(found), *_memory(found), *_crossed(crossed, cross)]
    parts += _models(found, crossed)
    return "\n".join([head + rows, *parts]) + "\n" + REST


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
    portable = times["triton"]["p50"]
    sizes = " ".join(map(str, shape))
    return (
        f"| {name} | {sizes} | {dtype}{', z' if gated else ''} | {way} | {spread} | {theirs:.0f} |"
        f" {theirs / ours['p50']:.2f} | {tried[best]['p50']:.0f} ({best}) | {portable:.0f} | {theirs / portable:.2f} |"
    )


def _bandwidth(found: list[Found], copy: float) -> list[str]:
    """What the rows of one state move, beside a copy."""
    lines = [
        "",
        "## One state: bytes",
        "What must be read and written (forward u, delta and the output; backward the gradients of these too; B and C,",
        "and their gradients in float32), by the median; in per cent of a copy of 1 GB.",
        "",
        "| row | direction | MB | TB/s | of a copy |",
        "|---|---|---:|---:|---:|",
    ]
    for name, (shape, dtype, gated, *_) in ROWS.items():
        b, d, l, n, g = shape
        if n > 1 or gated:
            continue
        size = 4 if dtype == "float32" else 2
        for way in ("forward", "backward"):
            moved = size * (3 if way == "forward" else 5) * b * d * l + 2 * b * g * l * (size + 4 * (way == "backward"))
            time = next(
                one["p50"]
                for one in found
                if one["kind"] == "measure" and (one["row"], one["direction"], one["label"]) == (name, way, "default")
            )
            speed = moved / time / 1e6
            lines.append(f"| {name} | {way} | {moved / 1e6:.0f} | {speed:.2f} | {100 * speed / copy:.0f} % |")
    return lines


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


STAGES = {"1": (96, 56, 2), "2": (192, 28, 2), "3": (384, 14, 8), "4": (768, 7, 2)}  # channels, side, blocks
MEASURED = {"1": "vmamba-t-1", "3": "vmamba-t-3"}  # the rows of the table that are scans of a stage


def _time(crossed: list[Found], stage: str, dtype: str, way: str, what: str) -> Found:
    """What one job of the fused scan found."""
    wanted = (stage, dtype, way, what)
    return next(one for one in crossed if tuple(one[key] for key in ("stage", "dtype", "way", "what")) == wanted)


def _crossed(crossed: list[Found], log: Path) -> list[str]:
    """VMamba's four directions in one kernel."""
    lines = [
        "",
        "## VMamba's four directions: one kernel",
        "`cross_selective_scan` with one state, at the four stages of VMamba-T and 64 images, in bfloat16, beside",
        "three steps (a kernel that writes four sequences, the scan, one that adds up) and a copy of as many bytes as",
        "operands and results have. `python benchmarks/cross_scan_gpu.py --out FILE`;",
        f"`benchmarks/hardware/{log.name}`.",
        "",
        "| d, h w | direction | one kernel 20/50/80 % | three steps | times | copy |",
        "|---|---|---|---:|---:|---:|",
    ]
    for stage, (d, side, _) in STAGES.items():
        for way in ("forward", "backward"):
            ours, steps, copy = (
                _time(crossed, stage, "bfloat16", way, what) for what in ("fused", "three steps", "copy")
            )
            spread = " / ".join(f"{ours[p]:.0f}" for p in ("p20", "p50", "p80"))
            lines.append(
                f"| {d}, {side} x {side} | {way} | {spread} | {steps['p50']:.0f} |"
                f" {steps['p50'] / ours['p20']:.1f} | {copy['p50']:.0f} |"
            )
    lines += ["", "Times are by the 20th percentile: of the smallest images Python takes longer than the kernel."]
    return lines


def _models(found: list[Found], crossed: list[Found]) -> list[str]:
    """VMamba-T, and what of it the scans are."""
    lines = [
        "",
        "## VMamba-T, batch 64, autocast",
        "| dtype | | images/s | us | of it scans |",
        "|---|---|---:|---:|---:|",
    ]
    for one in found:
        for way, words in (("infer", "forward"), ("train", "training step")):
            if one["kind"] == "model" and way in one:
                scans = sum(time for _, time in one[way]["scans"].values())
                lines.append(
                    f"| {one['dtype']} | {words} | {one[way]['images/s']:.0f} | {one[way]['p50']:,.0f} | {scans:,.0f} |"
                )
    forward, backward = (_by_public(found, crossed, way) for way in ("forward", "backward"))
    inference = next(one["infer"] for one in found if one["kind"] == "model" and one["dtype"] == "bfloat16")
    ours = sum(time for _, time in inference["scans"].values())
    alone = sum(
        blocks * _time(crossed, stage, "bfloat16", "forward", "fused")["p50"]
        for stage, (_, _, blocks) in STAGES.items()
    )
    slower = 64e6 / (inference["p50"] - ours + forward)
    training = next(one["train"] for one in found if one["kind"] == "model" and one["dtype"] == "bfloat16")
    ours = sum(time for _, time in training["scans"].values())
    slower_step = 64e6 / (training["p50"] - ours + forward + backward)
    return [
        *lines,
        "",
        "With the public kernel's times in the place of our scan's, between our kernels that cross and merge, the",
        f"scans of a forward in bfloat16 would take {forward:,.0f} us ({slower:.0f} images/s), of a backward",
        f"{backward:,.0f} ({slower_step:.0f} images/s in training).",
        "That is of stages 1 and 3, of which the public kernel was timed; stages 2 and 4 are taken at our own time.",
        "In the model images have their channels last (seen on a CPU), which the one kernel reads pixel by pixel:",
        f"rows in one piece, as in the table above, would take {alone:,.0f} us forward. A training step here waits for",
        "Python: its images/s say how fast the CPU was (480 to 755 in other runs). `scan_public.in_place_of_ours` runs",
        "the same model on the public kernel; that run was not reached.",
    ]


def _by_public(found: list[Found], crossed: list[Found], way: str) -> float:
    """The microseconds of all scans of VMamba-T where the public kernel runs between the kernels around it."""
    total = 0.0
    for stage, (_, _, blocks) in STAGES.items():
        steps = _time(crossed, stage, "bfloat16", way, "three steps")["p50"]
        if (row := MEASURED.get(stage)) is not None:
            label = "float32 out" if way == "forward" else "default"
            ours = next(
                one["p50"]
                for one in found
                if one["kind"] == "measure" and (one["row"], one["direction"], one["label"]) == (row, way, label)
            )
            steps += next(one[way]["p50"] for one in found if one["kind"] == "public" and one["row"] == row) - ours
        total += blocks * steps
    return total


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1]).resolve()))
