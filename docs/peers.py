"""Write docs/peers.md: the conventions of other tools, from their files. `make docs` runs it, a test compares."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from flopscan import conventions
from flopscan.core.convention import Convention

PEERS = {  # heading: the conventions below it
    "Counters of operators and functions": (
        "torch", "torch-2.14", "torch-2.13", "fvcore", "torchprofile", "torch-flops", "ptflops-aten", "torchvision",
        "xla", "onnx-tool",
    ),
    "Counters of modules": (
        "ptflops", "thop", "ultralytics-thop", "calflops", "calflops-macs", "deepspeed", "deepspeed-macs", "torchinfo",
        "flopth", "torchscan",
    ),
    "Formulas for language models": ("6nd", "palm", "megatron", "torchtitan", "hf-trainer", "nemo"),
}  # fmt: skip
INTRODUCTION = """# What other tools count

Each tool's number stands in a file of its own under `src/flopscan/conventions`, with its version, its unit and its
mistakes; this page is made from these files (`make docs`). What a tool does is said below; what is said is compared
with the tool itself (`make test-peers`; `make test` compares with what the tools printed before, `tests/data`).

    flopscan count vmamba_tiny --convention ptflops     # the number that ptflops would print
    flopscan explain vmamba_tiny --between fvcore,thop  # what lies between two of them, step by step

A mistake that we know of is reproduced, is told in a report with what it is of the number, and is left out by its key:

    flopscan count vmamba_tiny --convention ptflops~twice             # ptflops without one of its mistakes
    flopscan explain vmamba_tiny --between ptflops,ptflops~all        # without all of them, one by one
    report.under("fvcore~broadcast~einsum"), report.using("fvcore").mistakes  # in Python

Where a model of transformers runs a state-space kernel, a tool that counts operators or functions sees what
transformers writes out in torch, and one that counts modules sees the layers around it; of a compiled kernel of a
package no tool sees anything. torch.jit drops what has no use before fvcore and torchprofile see it, such as the state
after the last step where nobody asks for it; that is counted here.
"""


def page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for heading, names in PEERS.items():
        parts.append(f"## {heading}\n")
        parts += [_section(conventions.get(name)) for name in names]
    return "\n".join(parts)


def _section(convention: Convention) -> str:
    """One tool: version, unit, what it sees, and what is known to be wrong."""
    seen = "forward alone" if convention.phases == ("forward",) else "forward and backward"
    version = f", {convention.version}" if convention.version else ""
    lines = [f"### `{convention.name}`{version}", ""]
    lines.append(
        f"Unit: {convention.unit}; {'a training step' if convention.whole else seen}. Source: {convention.source}."
    )
    lines += ["", _told(convention), ""]
    if convention.bugs:
        lines += ["| without it | known mistake | where it stands |", "|---|---|---|"]
        lines += [
            f"| `{convention.name}~{bug.key}` | {_cell(bug.name)} | {_cell(bug.source)} |" for bug in convention.bugs
        ]
        lines.append("")
    return "\n".join(lines)


def _told(convention: Convention) -> str:
    """What the convention's file says of it."""
    for path in Path(conventions.__path__[0]).glob("[!_]*.py"):
        if importlib.import_module(f"flopscan.conventions.{path.stem}").CONVENTION is convention:
            return (ast.get_docstring(ast.parse(path.read_text())) or "").replace("``", "`")
    raise LookupError(convention.name)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(__file__).with_name("peers.md").write_text(page())
