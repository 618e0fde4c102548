"""The Python of mamba_ssm as PyPI has it, no kernel compiled: counted on shapes, forward and backward."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import flopscan

pytestmark = pytest.mark.packages

B, L, M = 2, 512, 256  # batch, length, d_model
D, W = 2 * M, 4  # channels, width of the convolution


def built(module: str, name: str, **options: Any) -> Any:
    with flopscan.stand_ins():
        made = importlib.import_module(f"mamba_ssm.modules.{module}")
    return getattr(made, name)(d_model=M, **options)


@pytest.mark.parametrize("fast", [True, False])
def test_mamba(fast: bool) -> None:
    report = flopscan.count(built("mamba_simple", "Mamba", use_fast_path=fast), (B, L, M), strict=True)
    n, r = 16, M // 16
    token = M * 2 * D + W * D + D * (r + 2 * n) + r * D + 2 * D * n + D * M
    assert report.macs == B * L * token
    assert report.scan is not None
    assert report.scan.states == B * L * D * n


@pytest.mark.parametrize("fast", [True, False])
def test_mamba2(fast: bool) -> None:
    report = flopscan.count(built("mamba2", "Mamba2", use_mem_eff_path=fast), (B, L, M), strict=True)
    n, heads = 128, D // 64
    token = M * (2 * D + 2 * n + heads) + W * (D + 2 * n) + 2 * D * n + D * M
    rest = int(report.macs) - B * L * token  # the gated norm's mean of squares
    assert 0 <= rest <= B * L * D
    assert report.by_operator()["flopscan::ssd"].calls == 1


@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        ("mamba_simple", "Mamba", {"use_fast_path": True}),
        ("mamba_simple", "Mamba", {"use_fast_path": False}),
        ("mamba2", "Mamba2", {"use_mem_eff_path": True}),
        ("mamba2", "Mamba2", {"use_mem_eff_path": False}),
    ],
)
def test_backward_leaves_nothing_out(module: str, name: str, options: dict[str, bool]) -> None:
    model = built(module, name, **options)
    forward = flopscan.count(model, (B, L, M), strict=True)
    trained = flopscan.count(model, (B, L, M), backward=True, strict=True)
    assert trained.macs > 2.2 * int(forward.macs)  # of the first projection only the weight has one
    operators = trained.by_operator()
    scan = "flopscan::ssd" if name == "Mamba2" else "flopscan::selective_scan"
    assert operators[f"{scan}_backward"].calls == operators[scan].calls == 1
    recomputed = next(iter(options.values()))
    assert operators["flopscan::causal_conv1d"].calls == 1 + recomputed
