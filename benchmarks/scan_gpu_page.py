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

{device}, torch {torch}, NVRTC {nvrtc}; {date}. `python benchmarks/scan_gpu.py --out DIR`, the whole run in
`benchmarks/{log}`; this page by `python benchmarks/scan_gpu_page.py benchmarks/{log}`.

Microseconds of one call between CUDA events, each after a write of 512 MB that empties the L2 cache: 20th, 50th, 80th
percentile of 100. "public" is the time of mamba_ssm 2.3.2's CUDA kernel on an H100 with CUDA 13.0 and torch 2.11
(Triton's do_bench, median), taken on another day: it was not built in this run. A copy moved {copy:.2f} TB/s.
"cuda" is the default form of that run (of vmamba-t-3 backward it is rows=16 since), "best" the fastest of the forms
that were tried, "triton" the portable form.

| row | b d l n g | dtype, z | direction | cuda 20/50/80 % | public | times public | best | triton |
|---|---|---|---|---|---:|---:|---|---:|
"""


def page(log: Path) -> str:
    """The page of a run."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    copy = next(one for one in found if one["kind"] == "copy")
    date = "-".join(log.stem.split("-")[-3:])
    nvrtc = ".".join(map(str, copy["nvrtc"]))
    head = HEAD.format(
        device=copy["device"], torch=copy["torch"], nvrtc=nvrtc, date=date, copy=copy["TB/s"],
        log=log.relative_to(PAGE.parent.resolve()),
    )  # fmt: skip
    rows = "\n".join(_row(found, name, way) for name in ROWS for way in ("forward", "backward"))
    return "\n".join([head + rows, *_checks(found), *_memory(found), *_models(found)]) + "\n"


def _row(found: list[Found], name: str, way: str) -> str:
    shape, dtype, gated, *public = ROWS[name]
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
    theirs = public[way == "backward"]
    spread = " / ".join(f"{ours[p]:.0f}" for p in ("p20", "p50", "p80"))
    triton = f"{times['triton']['p50']:.0f}" if "triton" in times else "-"
    sizes = " ".join(map(str, shape))
    return (
        f"| {name} | {sizes} | {dtype}{', z' if gated else ''} | {way} | {spread} | {theirs} |"
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
        lines += [f"Not: {one['shape']} {one['dtype']}: {one.get('failed') or one.get('errors')}" for one in failed]
        for dtype in sorted({one["dtype"] for one in ours}):
            worst = max((one["worst"] for one in ours if one["dtype"] == dtype and "worst" in one), default=None)
            if worst is not None:
                lines.append(f"Largest relative error of output, states and gradients in {dtype}: {worst:.1e}.")
    return lines


def _memory(found: list[Found]) -> list[str]:
    lines = [
        "",
        "## Memory of a training step, beside its operands",
        "| row | kept by ours | kept by the public kernel |",
        "|---|---:|---:|",
    ]
    for one in found:
        if one["kind"] == "memory":
            lines.append(f"| {one['row']} | {one['saved']:,} B | {one['public_saved_beside_operands']:,} B |")
    return lines


def _models(found: list[Found]) -> list[str]:
    lines = ["", "## VMamba-T, batch 64, autocast", "| dtype | | images/s | of it scans, us |", "|---|---|---:|---:|"]
    for one in found:
        for way, words in (("infer", "forward"), ("train", "training step")):
            if one["kind"] == "model" and way in one:
                scans = sum(time for _, time in one[way]["scans"].values())
                lines.append(f"| {one['dtype']} | {words} | {one[way]['images/s']:.0f} | {scans:,.0f} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1]).resolve()))
