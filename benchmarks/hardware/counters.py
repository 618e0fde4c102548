"""Hardware counters of kernel launches, through Nsight Compute's command line."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.kernels import MARK

# Instructions by opcode and modifier, of threads whose predicate was true: counted by instrumented code, so exact.
# It comes with the two that are asked for.
OPCODES = "sass__thread_inst_executed_true_per_opcode_with_modifier_all"
_ASKED = ("sass__thread_inst_executed_true_per_opcode", "sass__inst_executed_per_opcode_with_modifier_all")
_SCALAR = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
SCALARS = (
    *(_SCALAR.format(op) for op in ("fadd", "fmul", "ffma", "hadd", "hmul", "hfma")),
    "smsp__inst_executed_pipe_xu.sum",
    *(f"sm__ops_path_tensor_src_{kind}_dst_fp32.sum" for kind in ("fp16", "bf16", "tf32")),
)
_KEPT = re.compile(r"F(ADD|MUL|FMA|MNMX|SEL|SETP|CHK)|MUFU|[HD](ADD|MUL|FMA)|[A-Z]*GMMA|[HDQ]MMA|RED|ATOM|I2F|F2")


@dataclass(frozen=True)
class Launch:
    """One launch: kernel, grid, block, scalar counters, all thread instructions, and those of arithmetic by opcode."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    counters: dict[str, int]
    instructions: int
    opcodes: dict[str, int]


def available() -> tuple[str, ...]:
    """What to ask of this GPU; counts by opcode are not in the list that ncu gives, and are taken as there."""
    listed = subprocess.run(["ncu", "--query-metrics"], capture_output=True, text=True).stdout
    known = set(re.findall(r"^(\w+__\w+)", listed, re.MULTILINE))
    return (*_ASKED, *(m for m in SCALARS if m.partition(".")[0] in known))


def profile(report: Path, metrics: Sequence[str], program: Sequence[str], kernels: str = "") -> None:
    """Run the Python module ``program`` under ncu and write ``report``; ``kernels``: a pattern of kernel names."""
    only = ["--kernel-name", f"regex:{kernels}|{MARK}"] if kernels else []
    subprocess.run(
        [
            "ncu", "--profile-from-start", "off", "--replay-mode", "kernel", "--clock-control", "none",
            "--metrics", ",".join(metrics), *only, "--force-overwrite", "--export", str(report),
            sys.executable, "-m", *program,
        ],
        check=True,
    )  # fmt: skip


def export(report: Path, to: Path) -> None:
    """Write ``report`` as a table."""
    with to.open("w") as file:
        subprocess.run(
            [
                "ncu", "--import", str(report), "--csv", "--page", "raw", "--print-units", "base",
                "--print-metric-instances", "details",
            ],
            stdout=file, check=True,
        )  # fmt: skip


def launches(table: Path) -> Iterator[Launch]:
    """The launches of a table, in order."""
    csv.field_size_limit(2**31 - 1)  # values by instruction are in the table too
    with table.open(newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("==")):
            if row["ID"]:  # the row of units has none
                yield _launch(row)


def _launch(row: dict[str, str]) -> Launch:
    total, _, parts = row[OPCODES].partition("(")
    return Launch(
        kernel=row["Kernel Name"],
        grid=_extent(row["Grid Size"]),
        block=_extent(row["Block Size"]),
        counters={name: _count(row[name]) for name in SCALARS if name in row},
        instructions=_count(total),
        opcodes={op: _count(n) for op, n in re.findall(r"([A-Z][\w.]*): ([\d,]+)", parts) if _KEPT.match(op)},
    )


def _count(text: str) -> int:
    return int(text.replace(",", ""))


def _extent(text: str) -> tuple[int, ...]:
    return tuple(int(x) for x in re.findall(r"\d+", text))


def by_case(table: Path) -> list[list[Launch]]:
    """The launches between marks."""
    found: list[list[Launch]] = []
    for launch in launches(table):
        if MARK in launch.kernel:
            found.append([])
        else:
            found[-1].append(launch)
    return found
