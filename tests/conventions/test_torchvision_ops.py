"""The `_ops` of torchvision's weights, GMACs with three decimals, and the `torchvision` convention; detection aside."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import flopscan
import torchvision_operators
from flopscan.capture.build import without_weights

pytestmark = pytest.mark.peers
FRAMES = 16  # as test/common_extended_utils.py takes a video to be


def _counted(models: Any, name: str, weights: Any, kind: str) -> float:
    """The model of ``weights`` on an image of 512 x 512 after their transforms, in GMACs with three decimals."""
    image = weights.transforms()(torch.empty((1, FRAMES, 3, 512, 512) if kind == "video" else (1, 3, 512, 512)))
    options: dict[str, Any] = {}
    if kind == "segmentation":  # loading weights brings the second head along
        options = {"weights_backbone": None, "aux_loss": "lraspp" not in name or None}
    if name.startswith("vit_"):
        options["image_size"] = image.shape[-1]
    with without_weights():
        model = models.get_model(name, weights=None, **{k: v for k, v in options.items() if v or k != "aux_loss"})
    return round(int(flopscan.count(model.eval(), tuple(image.shape)).under("torchvision")) / 1e9, 3)


@pytest.mark.parametrize("kind", ["classification", "segmentation", "video"])
def test_every_weight(kind: str) -> None:
    torchvision_operators.defined()
    models = pytest.importorskip("torchvision").models
    module = models if kind == "classification" else getattr(models, kind)
    said, found = {}, {}
    for name in models.list_models(module=module):
        for weights in models.get_model_weights(name):
            said[str(weights)] = weights.meta["_ops"]
            found[str(weights)] = _counted(models, name, weights, kind)
    assert said
    assert found == said
