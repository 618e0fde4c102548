"""One selective scan under every convention and in every tool: prints docs/one-scan.md; --write saves it.

A tool is given the scan in two ways: as the loop in plain PyTorch that models fall back to without CUDA, and as the
autograd Function around a compiled kernel that they call with it.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import peers
from flopscan import conventions
from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec

PAGE = Path(__file__).parent.parent / "docs" / "one-scan.md"


@dataclass(frozen=True)
class Shape:
    """The sizes of one scan, where it occurs, and whether the gate z is part of it."""

    name: str
    b: int
    d: int
    l: int
    n: int
    g: int
    gated: bool

    def operands(self) -> dict[str, tuple[int, ...]]:
        """The shape of every operand."""
        steps, state = (self.b, self.d, self.l), (self.b, self.g, self.n, self.l)
        shapes = {"u": steps, "delta": steps, "A": (self.d, self.n), "B": state, "C": state, "D": (self.d,)}
        return {**shapes, "delta_bias": (self.d,), **({"z": steps} if self.gated else {})}

    def call(self) -> Call:
        """The scan as a trace has it."""
        specs = {name: TensorSpec(shape) for name, shape in self.operands().items()}
        return Call("flopscan::selective_scan", {**specs, "delta_softplus": True}, (specs["u"],))


SHAPES = (
    Shape("a layer of Mamba-130m, 2,048 tokens", 1, 1536, 2048, 16, 1, True),
    Shape("a block of VMamba-T v0, stage 3, 224 x 224", 1, 768, 196, 16, 4, False),
    Shape("a block of VMamba-T [s1l8], stage 3, 224 x 224", 1, 384, 196, 1, 4, False),
)


class Loop(nn.Module):
    """The scan as models write it without a kernel: discretised by einsum, a loop over the steps, einsum to read."""

    def forward(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor,
        z: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The output, (b, d, l)."""
        heads = u.shape[1] // B.shape[1]
        B, C = B.repeat_interleave(heads, 1), C.repeat_interleave(heads, 1)
        delta = F.softplus(delta + delta_bias[:, None])
        decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
        driven = torch.einsum("bdl,bdnl,bdl->bdln", delta, B, u)
        state, outputs = torch.zeros_like(decay[:, :, 0]), []
        for i in range(u.shape[2]):
            state = decay[:, :, i] * state + driven[:, :, i]
            outputs.append(torch.einsum("bdn,bdn->bd", state, C[..., i]))
        y = torch.stack(outputs, 2) + u * D[:, None]
        return y if z is None else y * F.silu(z)


class SelectiveScanCuda(torch.autograd.Function):
    """What is around a compiled kernel; the kernel itself shows a tool nothing but its result."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, *others: Tensor) -> Tensor:
        """Memory for the output."""
        return torch.empty_like(u)


class Kernel(nn.Module):
    """The scan as a call of a compiled kernel."""

    def forward(self, **operands: Tensor) -> Tensor:
        """The output, (b, d, l)."""
        return SelectiveScanCuda.apply(*operands.values())  # type: ignore[no-any-return]


class Positional(nn.Module):
    """A model whose operands are given in order: some tools pass no names."""

    def __init__(self, inner: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.inner, self.names = inner, names
        self.weight = nn.Parameter(torch.zeros(1))  # calflops asks a parameter for the device

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """The output, (b, d, l)."""
        return self.inner(**dict(zip(self.names, args, strict=False)), **kwargs)  # type: ignore[no-any-return]


def main() -> None:
    """Print the page, or save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"save {PAGE.name} in place of printing it")
    torch.set_num_threads(1)
    text = page()
    if parser.parse_args().write:
        PAGE.write_text(text)
    else:
        print(text)


def page() -> str:
    """The whole page."""
    lines = [
        "# One scan, every convention, every tool",
        "",
        "Made by `python benchmarks/one_scan.py --write` in the environment of `make test-peers`,"
        f" {datetime.date.today()}, torch {torch.__version__}, Python {platform.python_version()}.",
    ]
    for shape in SHAPES:
        sizes = f"b={shape.b} d={shape.d} l={shape.l} n={shape.n}, {shape.g} group{'s' * (shape.g > 1)} of B and C"
        given = "D, delta_bias, softplus" + (", z" if shape.gated else "")
        lines += ["", f"## {shape.name[0].upper()}{shape.name[1:]}", "", f"{sizes}; {given}."]
        lines += ["", "| flopscan convention | unit | forward | formula |", "|---|---|---:|---|"]
        lines += [f"| {name} | {unit} | {value:,} | {formula} |" for name, unit, value, formula in conventional(shape)]
        lines += ["", "| tool | unit | given the loop | given the kernel |", "|---|---|---:|---:|"]
        lines += [f"| {name} | {unit} | {loop} | {kernel} |" for name, unit, loop, kernel in tools(shape)]
    lines += ["", "## Who counts so", "", "| flopscan convention | used by | source |", "|---|---|---|"]
    lines += [f"| {name} | {used_by} | {source} |" for name, used_by, source in users()]
    return "\n".join(lines) + "\n"


def users() -> list[tuple[str, str, str]]:
    """Per convention of the field: name, whose numbers are counted so, source."""
    known = map(conventions.get, conventions.names())
    return [(one.name, one.used_by, one.source) for one in known if one.scan and one.used_by]


def conventional(shape: Shape) -> list[tuple[str, str, int, str]]:
    """Per convention with a formula for a scan, after the tiers of the rule: name, unit, value, formula."""
    call, flops = shape.call(), conventions.get("flops")
    price = price_call(call)
    assert price.ideal is not None
    rows = []
    for tier, cost in (("ideal", price.ideal), ("executed by the CUDA kernel", price.executed)):
        if cost is not None:
            apart = cost.exp + cost.trig
            rows.append((f"flops, {tier}", "FLOP", flops.of(call, cost), f"and {apart:,} exponentials and logarithms"))
    for name in conventions.names():
        convention = conventions.get(name)
        if convention.scan and name != "flops":
            rows.append((name, convention.unit, convention.of(call, price.ideal), convention.scan))
    return rows


def tools(shape: Shape) -> list[tuple[str, str, str, str]]:
    """Per tool: name and version, unit, what it gives for the loop and for the kernel."""
    rows = []
    inputs = {name: torch.rand(size) * 0.1 for name, size in shape.operands().items()}
    for tool in peers.TOOLS:
        if tool.tensors == "real":
            name = f"{tool.name.removesuffix(' real')} {_version(tool.package)}"
            rows.append((name, tool.unit, _asked(tool, Loop(), inputs), _asked(tool, Kernel(), inputs)))
    return rows


def _asked(tool: peers.Tool, model: nn.Module, inputs: dict[str, Tensor]) -> str:
    """What the tool says, asked in a process of its own: some tools leave torch patched."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_ask, args=(there, tool, model, inputs))
    process.start()
    answer = here.recv()
    process.join()
    return str(answer)


def _ask(answers: Any, tool: peers.Tool, model: nn.Module, inputs: dict[str, Tensor]) -> None:
    try:
        with peers.silenced(), torch.no_grad():
            total = tool.load()(Positional(model, tuple(inputs)), inputs)
        answers.send(f"{int(total):,}")
    except Exception as error:
        text = " ".join(str(error).split())
        answers.send(f"fails: {type(error).__name__} {text[:60]}".strip())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
