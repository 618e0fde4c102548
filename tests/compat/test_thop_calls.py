"""Scripts for thop with flopscan's calls: by hand without thop, and beside thop 0.1.1 where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compat.nets_of_scripts import CASES, Small, made, state
from flopscan.compat import thop as ours
from flopscan.compat.thop import clever_format, profile
from flopscan.errors import CaptureError, FlopscanError

CONVOLUTION, NORM, CLASSIFIER = 15552, 4 * 576, 160


def test_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = Small(), torch.rand(2, 3, 8, 8)
    before = state(model)
    macs, params = profile(model, inputs=(x,))
    assert (macs, params) == (CONVOLUTION + NORM + CLASSIFIER, 224 + 16 + 80)
    assert type(macs) is type(params) is float
    assert clever_format([macs, params], "%.3f") == ("18.016K", "320.000B")
    assert clever_format(7) == "7.00B"
    assert capsys.readouterr().out.count("counts by the rule of thop") == 6
    assert state(model) == before and model.training


def test_layers() -> None:
    model, x = made("small")
    _, _, layers = profile(model, (x,), verbose=False, ret_layer_info=True)
    assert layers["body"] == (
        CONVOLUTION + NORM, 240.0,
        {"0": (CONVOLUTION, 224.0, {}), "1": (NORM, 16.0, {}), "2": (0.0, 0.0, {})},
    )  # fmt: skip
    assert layers["head"] == (160.0, 80.0, {"fc": (160.0, 80.0, {"0": (160.0, 80.0, {})})})
    assert layers["unused"] == (0.0, 0.0, {})


def count_linear(module: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
    module.total_ops += torch.DoubleTensor([int(x[0].numel() * y.shape[-1] + y.numel())])


class Block(nn.Module):
    """With a hook, what is inside of it does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).tanh()


def count_block(module: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
    module.total_ops += torch.DoubleTensor([1000])


def test_custom_ops(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), Block(), Block(), nn.GELU()), torch.rand(2, 3)
    before = state(model)
    custom = {nn.Linear: count_linear, Block: count_block}
    assert profile(model, (x,), custom_ops=custom, report_missing=True) == (2 * 3 * 4 + 2 * 4 + 2000, 16 + 20 + 20)
    printed = capsys.readouterr().out
    assert "Block counts by count_block" in printed and "GELU has no rule in thop" in printed
    assert state(model) == before


def test_a_custom_op_that_asks_for_values() -> None:
    def of_values(module: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
        module.total_ops += y.sum().item()

    model = nn.Sequential(nn.Linear(3, 4))
    before = state(model)
    with pytest.raises(FlopscanError, match=r"of_values of Linear raised .* expected a count from shapes"):
        profile(model, (torch.rand(2, 3),), custom_ops={nn.Linear: of_values}, verbose=False)
    assert state(model) == before


def test_a_layer_under_two_parents_counts_four_times() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(nn.Sequential(layer), nn.Sequential(layer))
    assert profile(model, (torch.rand(2, 4),), verbose=False) == (4 * 2 * 32, 2 * 20)


def test_a_model_that_is_one_layer_has_no_parameters() -> None:
    assert profile(nn.Linear(3, 4), (torch.rand(2, 3),), verbose=False) == (24.0, 0)


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.layer(y) if y.isfinite().all() else y


def test_a_model_that_depends_on_values_is_run_and_its_hooks_count_once() -> None:
    """What was seen of the start on shapes, until it asked for a value, is void."""
    x = torch.rand(2, 3)
    assert profile(Choosing(), (x,), verbose=False) == (36.0, 12.0)
    assert profile(Choosing(), (x,), {nn.Linear: count_linear}, verbose=False) == (2 * (18 + 6), 12.0)


def test_an_error_leaves_the_model_alone() -> None:
    model = Small()
    before = state(model)
    with pytest.raises(CaptureError):
        profile(model, (torch.rand(2, 4, 8, 8),), custom_ops={nn.Linear: count_linear}, verbose=False)
    assert state(model) == before


def test_a_model_without_weights() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000))
    assert profile(model, (torch.empty(1, 100_000),), verbose=False) == (1e10, 1e10 + 1e5)


MODELS = {
    **{name: lambda name=name: made(name) for name in CASES},
    "one layer": lambda: (nn.Linear(3, 4), torch.rand(2, 3)),
    "blocks": lambda: (nn.Sequential(Block(), nn.Sequential(Block(), nn.Softmax(-1))), torch.rand(2, 4)),
    "recurrent": lambda: (nn.Sequential(nn.LSTM(3, 4, batch_first=True)), torch.rand(2, 5, 3)),
}


@pytest.mark.peers
@pytest.mark.parametrize("custom", [{}, {nn.Linear: count_linear, Block: count_block}], ids=["plain", "custom"])
@pytest.mark.parametrize("name", MODELS)
def test_as_thop(name: str, custom: Any) -> None:
    theirs = pytest.importorskip("thop")
    if not theirs.__version__.startswith("0.1.1"):
        pytest.skip(f"the calls are those of thop 0.1.1, found is {theirs.__version__}")
    results = []
    for tool in (theirs, ours):
        model, x = MODELS[name]()
        results.append(tool.profile(model, (x,), custom_ops=custom, verbose=False, ret_layer_info=True))
    assert results[1] == results[0]
    for numbers in (results[0][:2], 1e9, [0.5, 1000, 1001, 2.5e12]):
        assert clever_format(numbers, "%.3f") == importlib.import_module("thop").clever_format(numbers, "%.3f")
