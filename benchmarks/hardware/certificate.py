"""A certificate: the counters of a kernel on a GPU, case by case, and what the rules say of the same calls."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.rules import ssd_kernel
from hardware.kernels import Case, call

SCHEMA = "flopscan.certificate/1"
FOLDER = Path(__file__).parent / "certificates"
_WARP, _WARPGROUP = 32, 128
_KINDS = {
    "FADD": "add", "FMUL": "mul", "FFMA": "fma", "FSETP": "cmp", "FMNMX": "cmp", "MUFU.EX2": "exp", "MUFU.LG2": "exp",
    "MUFU.SIN": "trig", "MUFU.COS": "trig", "MUFU.TANH": "trig", "MUFU.RCP": "div", "MUFU.RSQ": "sqrt",
    "MUFU.SQRT": "sqrt", "DADD": "add", "DMUL": "mul", "DFMA": "fma",
}  # fmt: skip


def assemble(kernel: str, environment: dict[str, Any], table: Path) -> dict[str, Any]:
    """The certificate of ``kernel`` out of the table of a profiling run and the list of its cases beside it.

    A run that was cut short has begun one case more than it has finished: that one is left out.
    """
    from hardware import counters

    finished = [json.loads(line) for line in table.with_suffix(".jsonl").read_text().splitlines()]
    profiled = counters.by_case(table)
    if len(profiled) - len(finished) not in (0, 1):
        raise SystemExit(f"{table}: {len(profiled)} cases, {len(finished)} in the list beside it")
    cases = [
        {**case, **tiers(case), "launches": [vars(launch) for launch in launches]}
        for case, launches in zip(finished, profiled, strict=False)
    ]
    built = "" if kernel.startswith("flopscan_") else " --mamba SOURCES --build BUILD"
    command = f"python -m hardware.certify profile {kernel}{built} --raw RAW"
    return {"schema": SCHEMA, "kernel": kernel, "command": command, **environment, "cases": cases}


def tiers(found: dict[str, Any]) -> dict[str, Any]:
    """What the rule said on the day of the certificate; `compare` asks it again."""
    price = price_call(call(case(found)))
    return {
        name: cost.to_dict() if cost else None for name, cost in (("ideal", price.ideal), ("executed", price.executed))
    }


def write(made: dict[str, Any], folder: Path) -> Path:
    """Write ``made`` under its kernel, GPU and date, one launch a line."""
    gpu = made["gpu"]["name"].removeprefix("NVIDIA ").split()[0].lower()
    path = folder / f"{made['kernel']}-{gpu}-{made['date']}.json"
    head = {key: value for key, value in made.items() if key != "cases"}
    lines = [json.dumps(head, indent=1).removesuffix("\n}") + ',\n "cases": [']
    for i, found in enumerate(made["cases"]):
        fields = {key: value for key, value in found.items() if key != "launches"}
        launches = ",\n   ".join(json.dumps(launch) for launch in found["launches"])
        comma = "," if i + 1 < len(made["cases"]) else ""
        lines.append(f'  {json.dumps(fields)[:-1]}, "launches": [\n   {launches}]}}{comma}')
    path.write_text("\n".join([*lines, " ]", "}"]) + "\n")
    return path


def read(path: Path) -> dict[str, Any]:
    """The certificate at ``path``."""
    found = json.loads(path.read_text())
    if found.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: schema {found.get('schema')!r}, expected {SCHEMA!r}")
    return found


def committed() -> list[Path]:
    """The certificates in the repository."""
    return sorted(FOLDER.glob("*.json"))


def case(found: dict[str, Any]) -> Case:
    """The case that was profiled."""
    return Case(*(found[name] for name in ("kernel", "direction", "sizes", "dtype", "options")))


def counted(launches: list[dict[str, Any]]) -> Cost:
    """What threads executed, by kind; a fused multiply-add is one fma, on tensor cores too.

    The reciprocal of a division of integers, the HFMA2 that loads a constant and the HADD2 that converts do not count,
    nor does an addition that the memory makes (RED, ATOM).
    """
    kinds: Counter[str] = Counter()
    for launch in launches:
        for opcode, threads in launch["opcodes"].items():
            name = opcode if opcode.startswith("MUFU") else opcode.partition(".")[0]
            if name in _KINDS:
                kinds[_KINDS[name]] += threads
            elif opcode == "I2F.RP":
                kinds["div"] -= threads
            else:
                kinds["fma"] += _on_tensor_cores(opcode, threads)
    return Cost(**kinds)


def _on_tensor_cores(opcode: str, threads: int) -> int:
    """The multiply-adds of HGMMA.64x128x16 by warpgroups of four warps, and of HMMA.16816 by warps."""
    if group := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)\.", opcode):
        m, n, k = map(int, group.groups())
        return threads // _WARPGROUP * m * n * k
    if warp := re.match(r"HMMA\.16(8)(\d+)\.", opcode):
        return threads // _WARP * 16 * int(warp[1]) * int(warp[2])
    return 0


def additions_in_memory(launches: list[dict[str, Any]]) -> int:
    """The atomic additions that threads asked for."""
    atomic = re.compile(r"(RED|ATOM)\w*\..*\bADD\b")
    return sum(n for launch in launches for opcode, n in launch["opcodes"].items() if atomic.match(opcode))


def flops(cost: Cost) -> int:
    """Floating-point operations, a multiply-add as two."""
    return cost.add + cost.mul + 2 * cost.fma + cost.div + cost.sqrt


@dataclass(frozen=True)
class Row:
    """A case: what threads executed, the two tiers of its rule now, and the executed one with Triton's tiles known."""

    case: Case
    counted: Cost
    ideal: Cost | None
    executed: Cost | None
    informed: Cost | None

    def ratio(self, cost: Cost | None) -> float | None:
        """The FLOPs of ``cost`` for each that was counted."""
        return None if cost is None else flops(cost) / flops(self.counted)

    def transcendental(self, cost: Cost | None) -> float | None:
        """The same of exponentials and trigonometric functions."""
        functions = self.counted.exp + self.counted.trig
        return (cost.exp + cost.trig) / functions if cost and functions else None

    @property
    def variant(self) -> str:
        """What the rule's accuracy depends on: the direction, the kind of state, the form of B and C."""
        chosen = self.case.options
        words = [self.case.direction]
        words += ["complex A"] if chosen.get("complex") else []
        words += ["constant B or C"] if chosen.get("constant") else []
        return ", ".join(words)

    def compared(self) -> Iterator[tuple[str, Cost | None]]:
        """The executed tier by variant; with known tiles it is a variant of its own."""
        yield self.variant, self.executed
        if self.informed is not None:
            yield f"{self.variant}, its tiles known", self.informed


def rows(made: dict[str, Any]) -> list[Row]:
    """Every case beside the rules as they are now."""
    found = []
    for one in made["cases"]:
        price = price_call(call(case(one)))
        found.append(Row(case(one), counted(one["launches"]), price.ideal, price.executed, informed(one)))
    return found


def tiles(tuned: list[dict[str, Any]]) -> dict[str, ssd_kernel.Tiles]:
    """The tiles of SSD's kernels by what Triton's autotuner chose; a side that a kernel does not have is as assumed."""
    fields = {"BLOCK_SIZE_M": "m", "BLOCK_SIZE_N": "n", "BLOCK_SIZE_K": "k", "BLOCK_SIZE_CS": "k"}
    sides = {t["kernel"]: {fields[name]: side for name, side in t.items() if name in fields} for t in tuned}
    return {kernel: ssd_kernel.Tiles(**chosen, least=None) for kernel, chosen in sides.items()}


def informed(found: dict[str, Any]) -> Cost | None:
    """The executed tier of SSD with the tiles that were chosen."""
    if found["kernel"] != "ssd":
        return None
    executed = ssd_kernel.executed_forward if found["direction"] == "forward" else ssd_kernel.executed_backward
    named = {("chunk_size" if axis == "q" else axis): size for axis, size in found["sizes"].items()}
    chosen = found["options"]
    given = frozenset(name for name in ("D", "z", "dt_bias") if chosen[name])
    return executed(**named, given=given, dt_softplus=chosen["dt_softplus"], known=tiles(found["tuned"]))
