"""Whole networks, each total derived in a comment; nothing uncounted."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flopscan
from flopscan.capture.build import without_weights
from flopscan.testing.nets import ResNet50, ViT


def test_resnet50() -> None:
    # 4,089,184,256 is the sum over its 53 convolutions and the classifier, as torchvision's weights say (4.089 G)
    with without_weights():
        model = ResNet50().eval()
    report = flopscan.count(model, (1, 3, 224, 224), strict=True)
    assert report.macs == 4_089_184_256
    assert report.params == 25_557_032
    with FlopCounterMode(display=False) as theirs:
        model(torch.empty(1, 3, 224, 224, device="meta")) if all(b.is_meta for b in model.buffers()) else model.to(
            "meta"
        )(torch.empty(1, 3, 224, 224, device="meta"))
    assert theirs.get_total_flops() == 2 * report.macs


def test_vit_b() -> None:
    # patch embedding 196 * 768 * 768; 12 blocks of 197 tokens: 12 * 768^2 a token in the four linears, and attention
    # 12 heads * 197^2 pairs * (64 + 64); the head sees one token
    with without_weights():
        model = ViT().eval()
    report = flopscan.count(model, (1, 3, 224, 224), strict=True)
    blocks = 12 * (197 * 12 * 768**2 + 12 * 197**2 * 128)
    assert report.macs == 196 * 768 * 768 + blocks + 768 * 1000
    assert report.params == 86_567_656


def test_a_training_step_of_resnet50() -> None:
    # backward: for each product the gradient of the input and of the weight, each as much as forward; the first
    # convolution needs no gradient of the image. conv1: 112^2 * 64 * 3 * 49 = 118,013,952 multiply-adds
    with without_weights():
        model = ResNet50()
    report = flopscan.count(model, (1, 3, 224, 224), backward=True, strict=True)
    assert report.macs == 3 * 4_089_184_256 - 112**2 * 64 * 3 * 49


def test_grouped_convolution_backward() -> None:
    # depthwise Conv1d(64, 64, 4, groups=64, padding=3) at l=128: 131 * 64 * 4 = 33,536 multiply-adds forward, and the
    # same for each gradient. FlopCounterMode takes the gradient of the weight 64 times: 4,359,680 FLOPs for backward
    model = nn.Conv1d(64, 64, 4, groups=64, padding=3)
    x = torch.randn(1, 64, 128, requires_grad=True)
    with flopscan.counting() as c:
        model(x).sum().backward()
    phases = c.report.by_phase()
    assert phases["forward"].macs == 131 * 64 * 4
    assert phases["backward"].macs == 2 * 131 * 64 * 4


def test_an_lstm_is_the_same_on_shapes_and_on_a_cpu() -> None:
    # a step of a layer: 4 gates of 16 rows over 8 inputs and 16 states, 2 sequences of 9 steps, two directions
    model = nn.LSTM(8, 16, batch_first=True, bidirectional=True)
    on_shapes = flopscan.count(model, (2, 9, 8), strict=True)
    for_real = flopscan.count(model, torch.randn(2, 9, 8), run=True, strict=True)
    assert on_shapes.macs == for_real.macs == 2 * 2 * 9 * 4 * 16 * (8 + 16)


def test_attention_on_a_cpu_is_not_zero() -> None:
    # FlopCounterMode counts 0 on a CPU: 4 heads * 32^2 pairs * (8 + 8) multiply-adds
    q = torch.randn(1, 4, 32, 8)
    with flopscan.counting() as c:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert c.report.macs == 4 * 32**2 * 16


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_a_grouped_product_is_not_zero() -> None:
    # rows 3 and 5 of two groups, 4 x 8 each: (3 + 5) * 4 * 8
    offsets = torch.tensor([3, 8], dtype=torch.int32)
    report = flopscan.count(
        lambda a, b: torch._grouped_mm(a, b, offs=offsets),
        flopscan.shape(8, 4, dtype="bfloat16"), flopscan.shape(2, 4, 8, dtype="bfloat16"), strict=True,
    )  # fmt: skip
    assert report.macs == 8 * 4 * 8
