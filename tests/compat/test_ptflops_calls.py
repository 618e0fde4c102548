"""Scripts for ptflops with flopscan's calls: by hand without it, and beside it where it is installed."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compat.nets_of_scripts import CASES, Small, made, state
from flopscan.compat import ptflops as ours
from flopscan.compat.ptflops import FLOPS_BACKEND, flops_to_string, get_model_complexity_info, params_to_string
from flopscan.errors import UsageError

# with biases; the activation as a layer and again as the function in it
CONVOLUTION, NORM, ACTIVATION, CLASSIFIER = 27 * 8 * 36 + 8 * 36, 2 * 288, 2 * 288, 80
TOTAL, PARAMS = CONVOLUTION + NORM + ACTIVATION + CLASSIFIER, 224 + 16 + 80 + 12


def test_a_script() -> None:
    model, out = Small(), io.StringIO()
    before = state(model)
    assert get_model_complexity_info(model, (3, 8, 8), ost=out) == ("9.3 KMac", "332")
    assert get_model_complexity_info(model, (3, 8, 8), False, as_strings=False) == (TOTAL, PARAMS) == (9296, 332)
    assert state(model) == before and model.training
    assert "(0): Linear(80, 24.096% Params, 80.0 Mac, 0.861% MACs, in_features=8, out_features=10, bias=False)" in (
        out.getvalue()
    )


def test_units() -> None:
    options = {"print_per_layer_stat": False, "flops_units": "MMac", "param_units": "K", "output_precision": 4}
    assert get_model_complexity_info(Small(), (3, 8, 8), **options) == ("0.0093 MMac", "0.332 K")  # type: ignore[arg-type]
    assert [flops_to_string(n) for n in (0, 999, 1500, 2.5e9)] == ["0 Mac", "999 Mac", "1.5 KMac", "2.5 GMac"]
    assert [params_to_string(n) for n in (999, 1500, 2_500_000)] == ["999", "1.5 k", "2.5 M"]


def count_linear(module: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
    module.__flops__ += int(x[0].numel() * y.shape[-1] * 10)  # type: ignore[operator]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))


def count_block(module: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
    module.__flops__ += 1000  # type: ignore[operator]


def counted(model: nn.Module, size: tuple[int, ...], **options: Any) -> Any:
    return get_model_complexity_info(model, size, False, False, **options)


def test_hooks_and_ignored_classes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), Block(), nn.ReLU())
    before = state(model)
    assert counted(model, (3,)) == (12 + 4 + 16 + 4 + 4 + 4, 16 + 20)
    assert counted(model, (3,), custom_modules_hooks={nn.Linear: count_linear}) == (120 + 160 + 8, 36)
    assert counted(model, (3,), custom_modules_hooks={Block: count_block}) == (16 + 1000 + 8, 36)
    assert counted(model, (3,), ignore_modules=[nn.ReLU]) == (16 + 20 + 4, 36)  # the function in it still counts
    assert counted(model, (3,), backend_specific_config={"count_functional": False}) == (16 + 20 + 4, 36)
    assert state(model) == before


def test_input_constructor() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4, bias=False)

        def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
            return self.layer(a if b is None else a + b)

    by_name = counted(Two(), (5, 3), input_constructor=lambda size: {"a": torch.rand(size), "b": torch.rand(size)})
    assert by_name == (60, 12)
    by_place = counted(Two(), (5, 3), input_constructor=torch.rand)
    assert by_place == (12, 12)  # the first axis is the batch, by which it divides


def test_the_aten_backend() -> None:
    model, out = Small(), io.StringIO()
    aten = torch.ops.aten
    found = get_model_complexity_info(model, (3, 8, 8), True, False, ost=out, backend="aten")
    assert found == (CONVOLUTION + 80, PARAMS)
    assert re.sub(r"\s+", " ", out.getvalue()).strip() == (
        "Total: 8.14 KMac Module: Global aten.convolution: 8.06 KMac aten.mm: 80 Mac"
        " Module: body aten.convolution: 8.06 KMac Module: head aten.mm: 80 Mac"
    )
    backend = FLOPS_BACKEND.ATEN
    assert counted(model, (3, 8, 8), backend=backend, ignore_modules=[aten.convolution]) == (80, PARAMS)
    hooks = {aten.mean: lambda inputs, outputs: inputs[0].numel() + outputs[0].numel()}
    found = counted(model, (3, 8, 8), backend=backend, custom_modules_hooks=hooks)
    assert found == (CONVOLUTION + 80 + 288 + 8, PARAMS)


def test_failures_are_printed_and_wrong_use_is_said() -> None:
    model, out = Small(), io.StringIO()
    before = state(model)
    assert get_model_complexity_info(model, (4, 8, 8), ost=out) == (None, None)
    assert out.getvalue().startswith("nothing was counted: module body.0 (Conv2d)")
    assert state(model) == before
    with pytest.raises(UsageError, match="a tuple of sizes without the batch"):
        get_model_complexity_info(model, [3, 8, 8])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing"):
        get_model_complexity_info(model, (3, 8, 8), backend="nothing")


def rows(text: str) -> list[str]:
    return [re.sub(r", (?=\)|$)", "", line) for line in text.splitlines()]


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"as_strings": False},
        {"flops_units": "KMac", "param_units": "K", "output_precision": 4},
        {"custom_modules_hooks": {nn.Linear: count_linear, nn.MultiheadAttention: count_block}},
        {"ignore_modules": [nn.Linear, nn.ReLU]},
        {"backend": "aten", "as_strings": False, "print_per_layer_stat": False},
    ],
)
@pytest.mark.parametrize("name", CASES)
def test_as_ptflops(name: str, options: dict[str, Any]) -> None:
    theirs = pytest.importorskip("ptflops")
    results = []
    for tool in (theirs, ours):
        model, x = made(name)
        out = io.StringIO()
        found = tool.get_model_complexity_info(model, tuple(x.shape[1:]), ost=out, **options)
        results.append((found, rows(out.getvalue())))
    assert results[1] == results[0]
    assert [type(value) for value in results[1][0]] == [type(value) for value in results[0][0]]
