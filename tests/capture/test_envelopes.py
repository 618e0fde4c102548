"""What stands around operators in a trace: modules and functions as they were written."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flopscan.api import trace_of
from flopscan.core.trace import Trace


def spelled(function: Any, *shapes: tuple[int, ...]) -> list[tuple[str, str]]:
    trace = trace_of(function, *shapes)
    calls = [trace.calls[r.call] for r in trace.records if r.envelope]
    return [(c.op, c["spelled"]) for c in calls if c.op.startswith("torch::")]


def test_how_a_function_was_written_is_kept() -> None:
    def run(x: Tensor) -> Any:
        x @ x, torch.matmul(x, x), x.matmul(x), x.add(x), torch.add(x, x), x + x, F.relu(x), torch.relu(x), x.relu()
        x *= 2
        return F.softmax(x, dim=-1)

    assert spelled(run, (4, 4)) == [
        ("torch::matmul", "operator"), ("torch::matmul", "torch"), ("torch::matmul", "method"),
        ("torch::add", "method"), ("torch::add", "torch"),
        ("torch::relu", "functional"), ("torch::relu", "torch"), ("torch::relu", "method"),
        ("torch::softmax", "functional"),
    ]  # fmt: skip


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.twins = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).mean((2, 3))
        return self.twins[1](self.twins[0](y))


def chain(trace: Trace, op: str) -> list[str]:
    """The envelopes around the operator ``op``, innermost first."""
    (frame,) = {r.inside for r in trace.records if trace.calls[r.call].op == op}
    names = []
    while frame >= 0:
        names.append(trace.calls[trace.frames[frame].call].op)
        frame = trace.frames[frame].parent
    return names


def test_an_operator_knows_every_function_and_module_around_it() -> None:
    trace = trace_of(Net(), (1, 3, 9, 9))
    assert chain(trace, "aten::convolution") == [
        "torch::conv2d", "module::torch.nn.modules.conv.Conv2d", f"module::{__name__}.Net",
    ]  # fmt: skip
    assert chain(trace, "aten::mean") == [f"module::{__name__}.Net"]
    modules = {c.op: c for c in trace.calls if c.op.startswith("module::")}
    conv = modules["module::torch.nn.modules.conv.Conv2d"]
    settings = dict(conv["settings"])
    assert (settings["kernel_size"], settings["stride"], settings["groups"]) == ((3, 3), (2, 2), 1)
    assert [(name, spec.shape) for name, spec, _ in conv["parameters"]] == [("weight", (4, 3, 3, 3))]
    assert conv["operands"][0].shape == (1, 3, 9, 9)
    assert conv.out.shape == (1, 4, 4, 4)
    assert conv["leaf"] and not modules[f"module::{__name__}.Net"]["leaf"]
    (twins,) = [r for r in trace.records if trace.calls[r.call].op.endswith("Linear")][:1]
    assert sum(r.call == twins.call for r in trace.records) == 2  # one call, from two modules


def test_frames_survive_a_file(tmp_path: Any) -> None:
    trace = trace_of(Net(), (1, 3, 9, 9))
    trace.save(str(tmp_path / "t.json"))
    assert Trace.load(str(tmp_path / "t.json")) == trace
