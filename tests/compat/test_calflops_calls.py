"""Scripts for calflops with flopscan's call: by hand without it, and beside it where it is installed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compat.nets_of_scripts import CASES, Small, made, state
from flopscan.compat import calflops as ours
from flopscan.compat.calflops import calculate_flops, number_to_string
from flopscan.errors import CaptureError, UsageError

# on a batch of two: the convolution with its bias, two an element of the norm, one of the activation, the classifier
MACS = 2 * (27 * 8 * 36 + 80)
FLOPS, PARAMS = 2 * MACS + 576 + 2 * 576 + 576, 224 + 16 + 80 + 12


def test_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    model = Small()
    before = state(model)
    assert calculate_flops(model, input_shape=(2, 3, 8, 8)) == ("33.73 KFLOPS", "15.71 KMACs", "332")
    printed = capsys.readouterr().out
    assert "(0): Linear(80 = 24.1% Params, 160 MACs = 1.02% MACs, 320 FLOPS = 0.95% FLOPs, in_features=8" in printed
    assert numbers(model, input_shape=(2, 3, 8, 8)) == (FLOPS, MACS, PARAMS) == (33728, 15712, 332)
    assert not capsys.readouterr().out
    assert state(model) == before and model.training


def numbers(model: nn.Module, **options: Any) -> tuple[Any, ...]:
    return calculate_flops(model, print_results=False, output_as_string=False, **options)


def test_units_and_the_gradient() -> None:
    model, x = made("small")
    options = {"print_results": False, "output_unit": "K", "output_precision": 3}
    assert calculate_flops(model, args=[x], **options) == ("33.728 KFLOPS", "15.712 KMACs", "0.332 K")  # type: ignore[arg-type]
    with_gradient = numbers(model, args=[x], include_backPropagation=True, compute_bp_factor=1.5)
    assert with_gradient == (2.5 * FLOPS, 2.5 * MACS, PARAMS)
    assert type(with_gradient[0]) is float
    assert [number_to_string(n) for n in (0, 0.5, 999, 1500, 2e12)] == ["0 ", "500 m", "999 ", "1.5 K", "2 T"]


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x)


def test_ignored_classes() -> None:
    """What is inside of one counts for the module around it; a recurrent layer is counted by a hook, and is gone."""
    model = nn.Sequential(nn.Linear(3, 4), Gate(), nn.LSTM(4, 4))
    whole = numbers(model, args=[torch.rand(2, 3)])
    assert numbers(model, args=[torch.rand(2, 3)], ignore_modules=[Gate]) == whole
    assert numbers(model, args=[torch.rand(2, 3)], ignore_modules=[nn.LSTM])[0] == 2 * 2 * 12 + 8 < whole[0]
    assert numbers(Gate(), kwargs={"x": torch.rand(5)}) == (5, 0, 0)
    assert numbers(Gate(), kwargs={"x": torch.rand(5)}, ignore_modules=[Gate]) == (0, 0, 0)


class Generator(nn.Module):
    """Two steps, each of one product."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def generate(self, x: Tensor) -> Tensor:
        return self(self(x))


def test_generate(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = Generator(), torch.rand(1, 4)
    assert numbers(model, args=[x]) == (32, 16, 20)
    assert numbers(model, args=[x], forward_mode="generate") == (64, 32, 20)
    calculate_flops(model, args=[x], forward_mode="generate")
    assert "(model): Linear(20 = 100% Params, 32 MACs = 100% MACs, 64 FLOPS = 100% FLOPs" in capsys.readouterr().out


def test_a_tokenizer() -> None:
    class Tokenizer:
        pad_token_id = 7

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, 2], "attention_mask": [1, 1]}

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(8, 4), nn.Linear(4, 3, bias=False)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            assert input_ids[0].tolist() == [1, 2, 7, 7, 7] and attention_mask[0].tolist() == [1, 1, 0, 0, 0]
            return self.head(self.table(input_ids))

    found = numbers(Reader(), input_shape=(2, 5), transformer_tokenizer=Tokenizer())
    assert found == (2 * 10 * 12, 10 * 12, 32 + 12)


def test_wrong_use_is_said_and_errors_leave_the_model_alone() -> None:
    model, x = made("small")
    before = state(model)
    with pytest.raises(UsageError, match="there is no input"):
        calculate_flops(model)
    with pytest.raises(UsageError, match="and not both"):
        calculate_flops(model, input_shape=(2, 3, 8, 8), args=[x])
    with pytest.raises(UsageError, match="'forward' or 'generate'"):
        calculate_flops(model, args=[x], forward_mode="backward")
    with pytest.raises(CaptureError):
        calculate_flops(model, input_shape=(2, 4, 8, 8))
    assert state(model) == before


def figures(printed: str) -> list[str]:
    """The lines of modules: numbers, as they are in brackets after a class."""
    return [re.sub(r", (?=\)|$)", "", line) for line in printed.splitlines() if re.search("% (Params|FLOPs)", line)]


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output_as_string": False},
        {"output_unit": "K", "output_precision": 4},
        {"include_backPropagation": True, "output_as_string": False},
        {"ignore_modules": [nn.GELU, nn.LSTM], "output_as_string": False},
    ],
)
@pytest.mark.parametrize("name", [*(case for case in CASES if case != "functions"), "lstm"])  # it wants parameters
def test_as_calflops(name: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    theirs = pytest.importorskip("calflops")
    results = []
    for tool in (theirs, ours):
        torch.manual_seed(0)
        model, x = made(name) if name in CASES else (nn.Sequential(nn.LSTM(3, 4, 2)), torch.rand(5, 2, 3))
        capsys.readouterr()
        found = tool.calculate_flops(model, args=[x], **options)
        results.append((found, figures(capsys.readouterr().out)))
    assert results[1] == results[0]
    assert [type(value) for value in results[1][0]] == [type(value) for value in results[0][0]]
