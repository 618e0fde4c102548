"""A model in any of the wrappings that torch has for one costs what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import flopscan

MODEL = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
FLOPS = 2 * 3 * (4 * 8 + 8 * 2) + 3 * 8  # two products and a comparison per element of the middle

WRAPPINGS: dict[str, Callable[[], Any]] = {
    "compiled": lambda: torch.compile(MODEL),
    "a function that calls a compiled one": lambda: lambda x: torch.compile(MODEL)(x),
    "scripted": lambda: torch.jit.script(MODEL),
    "traced": lambda: torch.jit.trace(MODEL, torch.randn(3, 4)),
    "symbolically traced": lambda: torch.fx.symbolic_trace(MODEL),
    "exported": lambda: torch.export.export(MODEL, (torch.randn(3, 4),)),
    "data-parallel": lambda: nn.DataParallel(MODEL),
    "under autocast": lambda: torch.autocast("cpu", enabled=False)(MODEL),
    "in inference mode": lambda: torch.inference_mode()(MODEL),
    "called functionally": lambda: lambda x: torch.func.functional_call(MODEL, dict(MODEL.named_parameters()), (x,)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_wrapping_does_not_matter(wrapping: str) -> None:
    report = flopscan.count(WRAPPINGS[wrapping](), (3, 4))
    assert report.flops == FLOPS
    assert report.uncounted == ()
    assert report.params == 4 * 8 + 8 + 8 * 2 + 2


def test_under_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        with flopscan.counting() as c:
            model(torch.randn(3, 4))
    assert c.report.flops == FLOPS
    assert c.report.uncounted == ()
