"""Scripts for fvcore, with flopscan's calls: by hand without fvcore, and beside it where it is installed."""

from __future__ import annotations

import importlib
import logging
import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from compat.nets_of_scripts import CASES, Shared, Small, made, state
from flopscan.compat import fvcore as ours
from flopscan.compat.fvcore import (
    FlopCountAnalysis,
    flop_count,
    flop_count_str,
    flop_count_table,
    parameter_count,
    parameter_count_table,
    supported_ops,
)
from flopscan.errors import CaptureError, FlopscanError, UsageError
from flopscan.models import vmamba

CONVOLUTION, NORM, CLASSIFIER = 15552, 2 * 576, 160


def test_a_script(caplog: pytest.LogCaptureFixture) -> None:
    model, x = made("small")
    before = state(model)
    with caplog.at_level(logging.WARNING):
        flops = FlopCountAnalysis(model, x)
        assert flops.total() == CONVOLUTION + NORM + CLASSIFIER
    assert type(flops.total()) is int
    assert flops.by_operator() == Counter(conv=CONVOLUTION, batch_norm=NORM, linear=CLASSIFIER)
    assert flops.by_module()["body"] == flops.total("body") == CONVOLUTION + NORM
    assert flops.by_module()["unused"] == 0
    assert flops.by_module_and_operator()["head.fc.0"] == Counter(linear=CLASSIFIER)
    assert flops.unsupported_ops() == Counter({"aten::mean": 1})
    assert flops.uncalled_modules() == {"unused", "nothing"}
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "no handle for the operator aten::mean",
        "no operator was called in these modules",
    ]
    assert caplog.records[1].getMessage().endswith(": unused")
    assert state(model) == before


def test_warnings_can_be_silenced(caplog: pytest.LogCaptureFixture) -> None:
    model, x = made("small")
    flops = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    flops.tracer_warnings("none").total()
    assert not caplog.records


def test_no_weights_are_needed() -> None:
    with torch.device("meta"):
        model = nn.Linear(100_000, 100_000)
    assert FlopCountAnalysis(model, torch.empty(1, 100_000, device="meta")).total() == 10**10


def test_handles_are_asked_with_shapes() -> None:
    model, x = made("attention")

    def products(inputs: list[Any], outputs: list[Any]) -> int:
        query, key = inputs[0].type().sizes(), inputs[1].type().sizes()
        assert inputs[0].isCompleteTensor() and inputs[5].toIValue() is False  # is_causal
        return 2 * query[0] * query[1] * query[2] * key[2] * query[3]

    flops = FlopCountAnalysis(model, x)
    plain = flops.total()
    flops.set_op_handle("aten::scaled_dot_product_attention", products, "aten::add", None)
    assert flops.by_operator("attention")["scaled_dot_product_attention"] == 2 * 2 * 4 * 9 * 9 * 4
    assert flops.total() == plain + 2 * 2 * 4 * 9 * 9 * 4
    assert flops.unsupported_ops() == Counter({"aten::gelu": 1})
    flops.set_op_handle(**{"aten::linear": lambda inputs, outputs: Counter(fc=len(inputs))})
    assert flops.by_operator("mlp") == Counter(fc=6)
    assert flops.clear_op_handles().total() == 0


def test_a_handle_reads_lists_and_constants() -> None:
    seen = []

    def einsum(inputs: list[Any], outputs: list[Any]) -> int:
        seen.append((inputs[0].toIValue(), [v.type().sizes() for v in inputs[1].node().inputs()]))
        return 1

    model, x = made("functions")
    assert FlopCountAnalysis(model, x).set_op_handle("aten::einsum", einsum).by_operator()["einsum"] == 1
    assert seen == [("bcl,bdl->bcd", [[2, 4, 25], [2, 4, 25]])]


def test_a_convolution_is_asked_with_its_schema() -> None:
    seen = []

    def convolution(inputs: list[Any], outputs: list[Any]) -> int:
        seen.append((inputs[1].type().sizes(), inputs[6].toIValue(), outputs[0].type().sizes()))
        return 7

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 2, 3))
    assert (
        FlopCountAnalysis(model, torch.rand(1, 3, 8, 8)).set_op_handle("aten::_convolution", convolution).total() == 14
    )
    assert seen == [([8, 3, 3, 3], False, [1, 8, 6, 6]), ([8, 2, 3, 3], True, [1, 2, 8, 8])]


def test_owner_and_caller() -> None:
    model, x = Shared(), torch.rand(2, 3)
    owner = FlopCountAnalysis(model, x)
    caller = FlopCountAnalysis(model, x).ancestor_mode("caller")
    assert owner.by_module() == Counter({"": 84, "a": 54, "a.0": 54, "b": 30, "b.1": 30, "a.1": 0})
    assert caller.by_module() == Counter({"": 84, "a": 18, "a.0": 54, "b": 48, "b.1": 30, "a.1": 0})
    assert owner.canonical_module_name("c") == owner.canonical_module_name("b.0") == "a.0"
    assert owner.by_operator("c") == owner.by_operator("a.0")


def test_vmamba() -> None:
    """The script of the VMamba repository, one import changed."""
    model = vmamba.build("vmamba_tiny").eval()
    counts, unsupported = flop_count(model, (torch.zeros(1, 3, 224, 224),), supported_ops())
    assert round(sum(counts.values()) * 1e9) == 4905609984
    assert set(unsupported) == {"aten::add", "aten::gelu"}


def test_a_users_own_handle_of_a_scan() -> None:
    def scan(inputs: list[Any], outputs: list[Any]) -> int:
        (b, d, l), (_, n) = inputs[0].type().sizes(), inputs[2].type().sizes()
        return 9 * b * d * l * n + b * d * l

    analysis = FlopCountAnalysis(vmamba.build("vmamba_tiny").eval(), torch.zeros(1, 3, 224, 224))
    analysis.set_op_handle(**{"prim::PythonOp.SelectiveScanCore": scan, "prim::PythonOp.SelectiveScanCuda": scan})
    assert analysis.total() == 4905609984
    analysis.set_op_handle(**{"prim::PythonOp.SelectiveScanCuda": lambda inputs, outputs: 1})
    with pytest.raises(UsageError, match="give one, for 'flopscan::selective_scan'"):
        analysis.total()


def test_tables() -> None:
    model, x = made("small")
    assert flop_count_table(FlopCountAnalysis(model, x), max_depth=1) == (
        "| module     | #parameters or shape   | #flops   |\n"
        "|:-----------|:-----------------------|:---------|\n"
        "| model      | 0.332K                 | 16.864K  |\n"
        "|  body      |  0.24K                 |  16.704K |\n"
        "|  head.fc.0 |  80                    |  0.16K   |\n"
        "|  unused    |  12                    |          |"
    )
    assert "(0): Linear(\n        in_features=8, out_features=10, bias=False\n        #params: 80, #flops: 0.16K" in (
        flop_count_str(FlopCountAnalysis(model, x))
    )
    assert "(nothing): Identity(#params: 0, #flops: N/A)" in flop_count_str(FlopCountAnalysis(model, x))
    assert parameter_count(model)["body.0"] == 224
    assert parameter_count_table(model, 1).splitlines()[2:4] == [
        "| model   | 0.3K                 |",
        "|  body   |  0.2K                |",
    ]


def test_what_cannot_be_done_is_said() -> None:
    model, x = made("small")
    flops = FlopCountAnalysis(model, x)
    with pytest.raises(RuntimeError, match="ask for a count"):
        flops.unsupported_ops()
    with pytest.raises(KeyError, match="no module 'tail'"):
        flops.total("tail")
    with pytest.raises(TypeError, match="pairs"):
        flops.set_op_handle("aten::add")
    with pytest.raises(ValueError, match="'owner' or 'caller'"):
        flops.ancestor_mode("friend")
    with pytest.raises(UsageError, match="activations"):
        flop_count_table(flops, activations=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a number"):
        flops.set_op_handle("aten::mean", lambda inputs, outputs: "many").total()


def test_twins_that_call_a_stranger_cannot_be_told_apart() -> None:
    class Caller(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.others = (layer,)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.others[0](x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.a, self.b = Caller(self.layer), Caller(self.layer)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    analysis = FlopCountAnalysis(Net(), torch.rand(1, 3)).ancestor_mode("caller")
    with pytest.raises(FlopscanError, match="called by one of a, b, which are alike"):
        analysis.total()


def test_a_model_that_fails_is_left_as_it_was() -> None:
    model = Small()
    before = state(model)
    with pytest.raises(CaptureError):
        FlopCountAnalysis(model, torch.rand(2, 4, 8, 8)).total()
    assert state(model) == before


def cells(table: str) -> list[str]:
    """The rows of a table without blanks; its rule is a matter of width."""
    return [re.sub(r"\s", "", row) for row in table.splitlines() if not row.startswith(("|:-", "N/A"))]


@pytest.mark.peers
@pytest.mark.parametrize("mode", ["owner", "caller"])
@pytest.mark.parametrize("name", CASES)
def test_as_fvcore(name: str, mode: str) -> None:
    theirs = pytest.importorskip("fvcore.nn")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    model, x = made(name)
    a, b = (tool.FlopCountAnalysis(model, x).ancestor_mode(mode) for tool in (theirs, ours))
    for what in ("total", "by_operator", "by_module", "by_module_and_operator", "uncalled_modules", "unsupported_ops"):
        found, expected = getattr(b, what)(), getattr(a, what)()
        if what == "unsupported_ops":  # what torch.jit sees of sizes and views
            for moved in ("aten::unflatten", "aten::mul", "aten::div", "aten::view_as"):
                expected.pop(moved, None)
        assert found == expected, what
    for show in (
        lambda tool, of: tool.flop_count_table(of),
        lambda tool, of: tool.flop_count_table(of, 1, show_param_shapes=False),
        lambda tool, of: tool.flop_count_str(of),
        lambda tool, of: tool.parameter_count_table(model) if len(list(model.parameters())) else "",
    ):
        assert cells(show(ours, b)) == cells(show(theirs, a))


@pytest.mark.peers
def test_handles_of_fvcore_work_here() -> None:
    handles = pytest.importorskip("fvcore.nn.jit_handles")
    supported = importlib.import_module("fvcore.nn.flop_count")._DEFAULT_SUPPORTED_OPS
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    for name in CASES:
        model, x = made(name)
        added = {
            "aten::add": handles.elementwise_flop_counter(0, 1),
            "aten::gelu": handles.elementwise_flop_counter(1, 0),
        }
        expected = importlib.import_module("fvcore.nn").FlopCountAnalysis(model, x).set_op_handle(**added).by_operator()
        assert FlopCountAnalysis(model, x).set_op_handle(**supported, **added).by_operator() == expected
