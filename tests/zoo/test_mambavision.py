"""MambaVision as PyPI has it, with mamba_ssm's Python and no compiled kernel: counted on shapes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import flopscan
from flopscan.capture.build import without_weights

pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module")
def tiny() -> Any:
    with flopscan.stand_ins():
        package = importlib.import_module("mambavision")
        with without_weights():
            return package.create_model("mamba_vision_T", pretrained=False)


def test_forward(tiny: Any) -> None:
    report = flopscan.count(tiny, (1, 3, 224, 224), convention="macs", strict=True)
    assert round(report.params / 1e6, 1) == 31.8  # as the model card says
    assert report.scan is not None
    assert report.scan.shapes == ("4 x b=1 d=160 l=196 n=8", "2 x b=1 d=320 l=49 n=8")
    states = 4 * 160 * 196 * 8 + 2 * 320 * 49 * 8
    assert report.scan.states == states
    assert report.by_operator()["flopscan::selective_scan"].cost.fma == 2 * states
    without_scan = int(report.value) - 2 * states
    assert 4.4e9 < without_scan < 4.6e9  # the card says 4.4 G, by a tool that counts the scan as zero


def test_backward(tiny: Any) -> None:
    report = flopscan.count(tiny, (1, 3, 224, 224), backward=True, strict=True)
    operators = report.by_operator()
    assert operators["flopscan::selective_scan_backward"].calls == operators["flopscan::selective_scan"].calls == 6
