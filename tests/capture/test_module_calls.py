"""What a trace keeps of a module's call: the functions that the module holds, and under how many names it stands."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flopscan
from flopscan.core.trace import Call, Trace


def calls(model: nn.Module, *operands: Any, **how: Any) -> list[Call]:
    trace = flopscan.count(model, *operands, **how).ledger.trace
    return [call for call in trace.calls if call.op.startswith("module::")]


def test_a_function_of_torch_in_an_attribute_is_a_setting() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.pool, self.other = F.relu, F.max_pool1d, print
            self.partial = functools.partial(F.gelu, approximate="tanh")
            self.product = torch.matmul

        def forward(self, x: Tensor) -> Tensor:
            return self.partial(self.plain(x))

    (call,) = calls(Holds(), (2, 3))
    assert dict(call["settings"]) == {
        "training": True, "plain": "torch::relu", "pool": "torch::max_pool1d", "partial": "torch::gelu",
        "product": "torch::matmul",
    }  # fmt: skip


def test_the_encoder_layer_holds_its_activation() -> None:
    (layer,) = [c for c in calls(nn.TransformerEncoderLayer(8, 2, 16), (5, 2, 8)) if c.op.endswith("EncoderLayer")]
    assert dict(layer["settings"])["activation"] == "torch::relu"


def test_lists_of_other_shapes_are_other_calls() -> None:
    class Adds(nn.Module):
        def forward(self, terms: list[Tensor]) -> Tensor:
            return sum(terms[1:], terms[0])

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.adds = Adds()

        def forward(self, x: Tensor) -> Tensor:
            return self.adds([x, x]) + self.adds([x[:, :1], x[:, :1]])

    shapes = [[t.shape for t in c["operands"][0]] for c in calls(Twice(), (2, 3)) if c.op.endswith("Adds")]
    assert shapes == [[(2, 3)] * 2, [(2, 1)] * 2]


def test_a_module_under_two_parents_is_the_same_module() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared, nn.ReLU()))
    trace = flopscan.count(model, (2, 3)).ledger.trace
    assert {m.path: trace.modules[m.same].path for m in trace.modules if m.same >= 0} == {"1.0": "0.0"}
    again = Trace.from_dict(trace.to_dict())
    assert again.modules == trace.modules
    called = [trace.modules[r.module].path for r in trace.records if trace.calls[r.call].op.endswith("Linear")]
    assert called == ["0.0", "1.0"]


def test_largest_of_windows_with_indices_is_seen_as_written() -> None:
    trace = flopscan.count(nn.MaxPool2d(2, return_indices=True), (1, 2, 4, 4)).ledger.trace
    assert "torch::max_pool2d_with_indices" in {call.op for call in trace.calls}
    (norm,) = (c for c in flopscan.count(nn.LPPool1d(2, 2), (1, 2, 4)).ledger.trace.calls if c.op == "torch::lp_pool1d")
    assert norm["norm_type"] == 2.0
