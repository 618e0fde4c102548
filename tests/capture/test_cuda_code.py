"""Code written for a CUDA device runs to the end on shapes, and torch is afterwards what it was."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
from flopscan.errors import FlopscanError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a CUDA device")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = {name: getattr(torch.cuda, name) for name in dir(torch.cuda) if not name.startswith("__")}
    methods = nn.Module.to, nn.Module.cuda
    yield
    assert {name: getattr(torch.cuda, name) for name in before} == before
    assert (nn.Module.to, nn.Module.cuda) == methods


def on_cuda(x: Tensor) -> Tensor:
    assert x.is_cuda
    with torch.cuda.device(x.device.index):
        mask = torch.ones(4, 4, device="cuda")
        index = torch.arange(4, device=torch.device("cuda:0"))
        torch.cuda.synchronize()
    scale = torch.full((4,), 2.0).cuda()
    return (x.to("cuda:0") @ mask)[:, index] * scale.to(device="cuda")


def test_devices_named_in_a_forward_are_shapes() -> None:
    report = flopscan.count(on_cuda, (2, 4), strict=True)
    assert report.flops == 2 * 2 * 4 * 4 + 2 * 4
    assert report.flops == flopscan.count(lambda x: (x @ torch.ones(4, 4)) * torch.full((4,), 2.0), (2, 4)).flops


def test_properties_of_the_device_are_a_gpus() -> None:
    def tuned(x: Tensor) -> Tensor:
        properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
        assert properties.multi_processor_count > 1
        assert torch.cuda.get_device_capability() >= (8, 0)
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
            return x + 1

    assert flopscan.count(tuned, (3,)).flops == 3


def test_values_on_the_device_are_still_known() -> None:
    def known(x: Tensor) -> Tensor:
        length = torch.tensor([2, 1], device="cuda").max().item()
        return x[: int(length)] * 2

    assert flopscan.count(known, (5,)).flops == 2


def test_an_error_in_between_leaves_nothing() -> None:
    def fails(x: Tensor) -> Tensor:
        with torch.cuda.device(0):
            raise ValueError("no")

    with pytest.raises(FlopscanError, match="ValueError"):
        flopscan.count(fails, (5,))


BUILT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, device="cuda"):
        super().__init__()
        self.linear = nn.Linear(4, 5, device=device)
        self.register_buffer("scale", torch.ones(5, device=device).cuda())

    def forward(self, x):
        return self.linear(x.cuda()) * self.scale

def net():
    return Net().cuda().to("cuda")

def tuned():
    with torch.cuda.device(torch.cuda.current_device()):
        assert torch.cuda.get_device_properties(0).multi_processor_count > 1
        torch.cuda.synchronize()
        return net()
"""


@pytest.mark.parametrize("name", ["Net", "net", "tuned"])
def test_a_target_that_is_made_on_the_device(tmp_path: Path, name: str) -> None:
    (tmp_path / "made_on_cuda.py").write_text(BUILT)
    report = flopscan.count(f"{tmp_path / 'made_on_cuda.py'}:{name}", (3, 4), strict=True)
    assert (report.flops, report.params) == (2 * 3 * 4 * 5 + 15, 25)


def test_a_model_that_is_made_on_the_device_before_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_before.py").write_text(BUILT)
    monkeypatch.syspath_prepend(str(tmp_path))
    with flopscan.stand_ins():
        model = importlib.import_module("made_before").tuned()
    monkeypatch.delitem(sys.modules, "made_before")
    assert flopscan.count(model, (3, 4), strict=True).flops == 2 * 3 * 4 * 5 + 15
