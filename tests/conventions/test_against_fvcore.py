"""The `fvcore` convention beside fvcore itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

import flopscan
from flopscan.testing.nets import ResNet50, ViT

fvcore = pytest.importorskip("fvcore.nn")
pytestmark = pytest.mark.peers

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50": (ResNet50, (1, 3, 224, 224)),
    "vit_b": (ViT, (1, 3, 224, 224)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(32, 4, batch_first=True), (2, 9, 32)),
    "lstm": (lambda: nn.LSTM(8, 16, batch_first=True), (2, 9, 8)),
    "u-net piece": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.ConvTranspose2d(8, 8, 2, 2, groups=2),
            nn.InstanceNorm2d(8), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(2),
        ),
        (2, 3, 16, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_totals_agree(name: str) -> None:
    make, shape = MODELS[name]
    model = make().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = fvcore.FlopCountAnalysis(model, torch.zeros(shape)).unsupported_ops_warnings(False)
        theirs = analysis.uncalled_modules_warnings(False).total()
    assert flopscan.count(model, shape).under("fvcore") == theirs


def test_by_module_agrees_on_a_vit() -> None:
    model = ViT(depth=2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = (
            fvcore.FlopCountAnalysis(model, torch.zeros(1, 3, 224, 224)).unsupported_ops_warnings(False).by_module()
        )
    ours = flopscan.count(model, (1, 3, 224, 224), convention="fvcore").by_module()
    assert {k: row.value for k, row in ours.items() if row.value} == {k: v for k, v in theirs.items() if v}
