"""Mamba-130m of transformers at 1 x 2,048, three ways: its loop, mamba_ssm on shapes, and torch.jit's graph."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
from flopscan import conventions
from flopscan.analysis import price_call
from flopscan.compat.fvcore import supported_ops
from flopscan.core.trace import Call, TensorSpec
from flopscan.report.report import Report

pytestmark = pytest.mark.packages

MODULE = "transformers.models.mamba.modeling_mamba"
LAYERS, TOKENS = 24, flopscan.shape(1, 2048, dtype="int64")
# what a tool sees of the code that happens to run is another thing than what a scan is said to cost
FORMULAS = [n for n in conventions.names() if conventions.get(n).scan and n != "dispatcher"]


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """As on a machine that lacks ``packages``: an import fails."""
    with pytest.MonkeyPatch.context() as patch:
        for package in packages:
            patch.setitem(sys.modules, package, None)
        yield


def built(surroundings: AbstractContextManager[None]) -> nn.Module:
    """The model from its default config, with the functions that its file chooses when it is imported there."""
    with pytest.MonkeyPatch.context() as patch, surroundings:
        patch.delitem(sys.modules, MODULE, raising=False)
        module = importlib.import_module(MODULE)
        config = importlib.import_module("transformers").MambaConfig(num_hidden_layers=LAYERS)
        with torch.device("meta"):
            return module.MambaForCausalLM(config).eval()


class Logits(nn.Module):
    """The model as torch.jit can trace it: a tensor in, a tensor out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Any:
        return self.model(tokens, use_cache=False).logits


@pytest.fixture(scope="module")
def fast() -> nn.Module:
    return built(flopscan.stand_ins())


@pytest.fixture(scope="module")
def slow() -> nn.Module:
    return built(without("mamba_ssm", "causal_conv1d"))


@pytest.fixture(scope="module")
def reports(slow: nn.Module, fast: nn.Module) -> tuple[Report, Report]:
    """Of the loop and of the fast path."""
    return flopscan.count(slow, TOKENS, strict=True), flopscan.count(fast, TOKENS, strict=True)


def scan_of(model: nn.Module) -> Any:
    """The function behind the name that the model's file scans with."""
    mixer: Any = model.get_submodule("backbone.layers.0.mixer")
    wrapper = inspect.unwrap(type(mixer).forward).__globals__["mamba_selective_scan"]
    return inspect.getclosurevars(wrapper).nonlocals["implementation"]


def test_the_two_models_scan_with_different_code(slow: nn.Module, fast: nn.Module) -> None:
    assert scan_of(slow).__module__ == MODULE
    assert scan_of(fast).__module__ == "mamba_ssm.ops.selective_scan_interface"


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loop_and_the_fast_path_agree(reports: tuple[Report, Report], name: str) -> None:
    loop, fast_path = reports
    assert loop.under(name) == fast_path.under(name)
    assert loop.scan is not None and fast_path.scan is not None
    assert loop.scan.to_dict() == fast_path.scan.to_dict()
    assert loop.scan.states == LAYERS * 1536 * 2048 * 16


@pytest.mark.parametrize("name", FORMULAS)
def test_the_graph_of_torch_jit_agrees(reports: tuple[Report, Report], fast: nn.Module, name: str) -> None:
    analysis = importlib.import_module("fvcore.nn").FlopCountAnalysis(
        Logits(fast), torch.zeros(1, 2048, dtype=torch.int64, device="meta")
    )
    analysis.set_op_handle(**supported_ops(name)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with flopscan.stand_ins():
        by_operator = analysis.by_operator()
    scan = reports[0].scan
    assert scan is not None
    assert by_operator["PythonOp.SelectiveScanFn"] == {row.convention: row.value for row in scan.rows}[name]
    if name == "vmamba":  # fvcore counts all else by itself, as this convention does
        assert analysis.total() == reports[0].under(name) == 274_018_074_624


@pytest.mark.parametrize("name", FORMULAS)
def test_training_differs_by_what_the_fused_block_computes_again(slow: nn.Module, fast: nn.Module, name: str) -> None:
    """mamba_ssm's block makes its convolution and its step sizes twice (``checkpoint_lvl`` 1)."""
    loop, block = (flopscan.count(m, TOKENS, backward=True, training=True, strict=True) for m in (slow, fast))
    assert "flopscan::mamba_inner" in {call.op for call in block.ledger.trace.calls}
    convention = conventions.get(name)
    assert loop.using(name).by_phase()["forward"].value == block.using(name).by_phase()["forward"].value
    x, weight = TensorSpec((1, 1536, 2048)), TensorSpec((1536, 4))
    convolution = {"x": x, "weight": weight, "bias": TensorSpec((1536,)), "activation": "silu"}
    steps = {"self": TensorSpec((1536, 48)), "mat2": TensorSpec((48, 2048))}
    again = [Call("flopscan::causal_conv1d", convolution, (x,)), Call("aten::mm", steps, (TensorSpec((1536, 2048)),))]
    if convention.phases:  # it looks at no gradient
        again = []
    more = sum(convention.of(call, price_call(call).ideal) for call in again)
    # the two gradients of the convolution's output are an addition in the loop, and there the start of a product
    less = 1536 * 2048 if name == "flops" else 0
    assert int(block.under(name)) - int(loop.under(name)) == LAYERS * (more - less)
