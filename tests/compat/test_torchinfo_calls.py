"""Scripts for torchinfo with flopscan's call: by hand without it, and beside it where it is installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compat.nets_of_scripts import CASES, Small, made, state
from flopscan.compat.torchinfo import summary
from flopscan.errors import CaptureError, UsageError

# multiply-adds of weights and biases: of the convolution at each position, else for each of the batch
MACS = 2 * 224 * 36 + 2 * 16 + 2 * 80
ALL = ("input_size", "output_size", "num_params", "params_percent", "kernel_size", "mult_adds", "trainable")


def test_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    model = Small()
    before = state(model)
    found = summary(model, input_size=(2, 3, 8, 8), depth=2)
    assert (found.total_mult_adds, found.total_params, found.trainable_params) == (MACS, 332, 332)
    assert type(found.total_mult_adds) is type(found.total_params) is int
    assert state(model) == before and model.training
    assert capsys.readouterr().out == str(found) + "\n"
    assert str(found).splitlines() == [
        "=" * 90,
        "Layer (type:depth-idx)                   Output Shape              Param #",
        "=" * 90,
        "Small                                    [2, 10]                   12",
        "├─Sequential: 1-1                        [2, 8, 6, 6]              --",
        "│    └─Conv2d: 2-1                       [2, 8, 6, 6]              224",
        "│    └─BatchNorm2d: 2-2                  [2, 8, 6, 6]              16",
        "│    └─ReLU: 2-3                         [2, 8, 6, 6]              --",
        "├─ModuleDict: 1-2                        --                        --",
        "│    └─Sequential: 2-4                   [2, 10]                   80",
        "├─Identity: 1-3                          [2, 10]                   --",
        "├─Dropout: 1-4                           [2, 10]                   --",
        "=" * 90,
        "Total params: 332",
        "Trainable params: 332",
        "Non-trainable params: 0",
        "Total mult-adds (M): 0.02",
        "=" * 90,
        "Input size (MB): 0.00",
        "Forward/backward pass size (MB): 0.01",
        "Params size (MB): 0.00",
        "Estimated Total Size (MB): 0.01",
        "=" * 90,
    ]


def test_columns_and_rows() -> None:
    model, x = made("small")
    model.unused.requires_grad_(False)
    found = summary(
        model, input_data=[x], verbose=0, depth=1, col_width=12, col_names=["mult_adds", "trainable", "params_percent"],
        row_settings=["var_names", "ascii_only"],
    )  # fmt: skip
    assert str(found).splitlines()[1:8] == [
        "Layer (type (var_name))                  Mult-Adds    Trainable    Param %",
        "=" * 76,
        "Small (Small)                            --           Partial        3.61%",
        "+ Sequential (body)                      16,160       True          72.29%",
        "+ ModuleDict (head)                      --           True          24.10%",
        "+ Identity (nothing)                     --           --                --",
        "+ Dropout (drop)                         --           --                --",
    ]
    assert found.trainable_params == 320


def test_without_an_input_there_are_no_shapes() -> None:
    found = summary(Small(), verbose=0)
    assert (found.total_params, found.total_mult_adds) == (332, 0)
    assert "Total mult-adds" not in str(found) and "├─Linear: 1-3                            12" in str(found)


def test_a_batch_axis_and_dtypes() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(8, 4)

        def forward(self, ids: Tensor, scale: float = 1.0) -> Tensor:
            return self.table(ids) * scale

    assert summary(Small(), (3, 8, 8), batch_dim=0, verbose=0).total_mult_adds == MACS // 2
    found = summary(Reader(), (2, 5), dtypes=[torch.long], verbose=0, scale=2.0)
    assert found.summary_list[1].output_size == [2, 5, 4]
    assert summary(Reader(), input_data={"ids": torch.zeros(2, 5).long()}, verbose=0).total_mult_adds == 64


class Choosing(nn.Module):
    """What it does depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.layer(y) if y.isfinite().all() else y


def test_a_model_that_depends_on_values_is_run_and_listed_once() -> None:
    found = summary(Choosing(), input_data=torch.rand(2, 3), verbose=0)
    assert [layer.class_name for layer in found.summary_list] == ["Choosing", "Linear", "Linear"]
    assert (found.total_mult_adds, found.total_params) == (48, 12)


def test_wrong_use_is_said_and_errors_leave_the_model_alone() -> None:
    model, x = made("small")
    before = state(model)
    for options, text in (
        ({"input_size": (2, 3, 8, 8), "input_data": x}, "and not both"),
        ({"col_names": ["mult_adds"]}, "need input_size or input_data"),
        ({"col_names": ["flops"]}, "col_names knows"),
        ({"mode": "same"}, "'eval' or 'train'"),
        ({"input_size": (2, 0)}, "sizes above 0"),
    ):
        with pytest.raises(UsageError, match=text):
            summary(model, **options)  # type: ignore[arg-type]
    with pytest.raises(CaptureError):
        summary(model, (2, 4, 8, 8))
    assert state(model) == before


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"col_names": ALL, "col_width": 16, "row_settings": ("var_names", "depth"), "verbose": 2},
        {"col_names": ALL, "depth": 1, "row_settings": ("ascii_only",)},
        {"row_settings": ("hide_recursive_layers", "depth"), "mode": "train"},
    ],
)
@pytest.mark.parametrize("name", [*CASES, "lstm", "choosing", "without input"])
def test_as_torchinfo(name: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    theirs = pytest.importorskip("torchinfo")
    results = []
    for count in (theirs.summary, summary):
        given: dict[str, Any] = {}
        if name in CASES:
            model, given["input_data"] = made(name)
        elif name == "without input":
            model = Small()
        else:
            model = nn.Sequential(nn.LSTM(3, 4, 2), nn.Identity()) if name == "lstm" else Choosing()
            given["input_data"] = torch.rand(5, 2, 3) if name == "lstm" else torch.rand(2, 3)
        if name == "without input" and "col_names" in options:
            options = {**options, "col_names": ["num_params", "kernel_size"]}
        found = count(model, **given, **options)
        totals = ("total_params", "trainable_params", "total_mult_adds", "total_param_bytes", "total_output_bytes")
        printed = capsys.readouterr().out.replace("Units.MEGABYTES", "M")  # how Python 3.11 writes its enum
        results.append(([getattr(found, total) for total in totals], printed))
    assert results[1] == results[0]
