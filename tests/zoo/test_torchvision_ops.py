"""The `_ops` of torchvision's weights, GMACs with three decimals, and the `torchvision` convention: no weights needed.

Classification, segmentation, video and optical flow on shapes. A detector chooses boxes by their values and has to run:
how many there were when torchvision wrote its number down is stated here, all else follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import flopscan
import torchvision_operators
from flopscan.capture.build import without_weights

pytestmark = pytest.mark.zoo
FRAMES = 16  # as test/common_extended_utils.py takes a video to be
# what the R-CNNs chose in torchvision's run on noise: proposals (rpn.post_nms_top_n is 1000), and objects of these
# (roi_heads.detections_per_img is 100), which the heads of masks and keypoints look at
CHOSEN = {
    "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1": (0, 0),
    "FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1": (0, 0),
    "FasterRCNN_ResNet50_FPN_Weights.COCO_V1": (1000, 0),
    "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1": (1000, 0),
    "KeypointRCNN_ResNet50_FPN_Weights.COCO_LEGACY": (1000, 0),
    "KeypointRCNN_ResNet50_FPN_Weights.COCO_V1": (1000, 1),
    "MaskRCNN_ResNet50_FPN_Weights.COCO_V1": (1000, 0),
    "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1": (1000, 100),
}
AT_LEAST = {"classification": 115, "segmentation": 6, "video": 10, "optical_flow": 8, "detection": 13}


def _given(weights: Any, kind: str) -> tuple[Tensor, ...]:
    """What the model of ``weights`` is given: noise of 512 x 512 after their transforms."""
    image = torch.zeros((1, FRAMES, 3, 512, 512) if kind == "video" else (1, 3, 512, 512))
    made = weights.transforms()(image, image) if kind == "optical_flow" else (weights.transforms()(image),)
    return tuple(made)


def _on_shapes(models: Any, name: str, weights: Any, kind: str) -> int:
    """The MACs of a model of ``weights`` that has none."""
    given = _given(weights, kind)
    options: dict[str, Any] = {}
    if kind == "segmentation":  # loading weights brings the second head along
        options = {"weights_backbone": None, "aux_loss": "lraspp" not in name or None}
    if name.startswith("vit_"):
        options["image_size"] = given[0].shape[-1]
    with without_weights():
        model = models.get_model(name, weights=None, **{k: v for k, v in options.items() if v or k != "aux_loss"})
    return int(flopscan.count(model.eval(), *(tuple(x.shape) for x in given)).under("torchvision"))


def _boxes(count: int) -> Tensor:
    corners = torch.rand(count, 2) * 100
    return torch.cat([corners, corners + 10], 1)


def _choosing(model: Any, proposals: int, objects: int) -> None:
    """Make an R-CNN choose so many boxes, whatever its random weights say of them."""
    propose = model.rpn.forward

    def forward(*given: Any) -> Any:
        return [_boxes(proposals)], propose(*given)[1]

    def chosen(*given: Any) -> Any:
        return [_boxes(objects)], [torch.ones(objects)], [torch.ones(objects, dtype=torch.int64)]

    model.rpn.forward, model.roi_heads.postprocess_detections = forward, chosen


def _as_it_runs(models: Any, name: str, weights: Any, kind: str) -> int:
    """The MACs of a detector with random weights on noise."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, weights_backbone=None).eval()
    if str(weights) in CHOSEN:
        _choosing(model, *CHOSEN[str(weights)])
    image = weights.transforms()(torch.rand(3, 512, 512))
    return int(flopscan.count(model, [image], run=True).under("torchvision"))


@pytest.mark.parametrize("kind", AT_LEAST)
def test_every_weight(kind: str) -> None:
    torchvision_operators.defined()
    models = pytest.importorskip("torchvision").models
    count: Callable[..., int] = _as_it_runs if kind == "detection" else _on_shapes
    said, found = {}, {}
    for name in models.list_models(module=models if kind == "classification" else getattr(models, kind)):
        for weights in models.get_model_weights(name):
            said[str(weights)] = weights.meta["_ops"]
            found[str(weights)] = round(count(models, name, weights, kind) / 1e9, 3)
    assert len(said) >= AT_LEAST[kind]
    assert found == said


def test_the_numbers_of_boxes_are_of_weights_that_there_are() -> None:
    torchvision_operators.defined()
    models = pytest.importorskip("torchvision").models
    names = models.list_models(module=models.detection)
    assert set(CHOSEN) <= {str(weights) for name in names for weights in models.get_model_weights(name)}
