"""Bytes of operators that only move numbers, and windows of every rank in pooling and resampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flopscan.analysis import price, price_call
from flopscan.capture import shape_only
from flopscan.core.cost import Cost
from proving import call_on, prove


def _bytes(op: str, operands: dict[str, Any], result: Any) -> tuple[int, int]:
    cost = price_call(call_on(op, operands, result)).ideal
    assert cost is not None and not cost.arithmetic()
    return cost.read, cost.written


def _cost(function: Any, *shape: int, backward: bool = False) -> Cost:
    ledger = price(shape_only.trace(function, (torch.empty(shape, requires_grad=backward),), {}, backward=backward))
    assert not ledger.uncounted()
    return ledger.cost()


TABLE = torch.empty(1000, 64)
INDEX = torch.zeros(2, 8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("op", "operands", "result", "expected"),
    [
        # 16 rows of 256 bytes are read, not the table of 256,000, and 16 indices of 8 bytes
        ("aten::embedding", {"weight": TABLE, "indices": INDEX}, torch.empty(2, 8, 64), (4096 + 128, 4096)),
        ("aten::index_select", {"self": TABLE, "dim": 0, "index": INDEX[0]}, TABLE[:8], (2048 + 64, 2048)),
        ("aten::fill_", {"self": TABLE, "value": 0}, TABLE, (0, 256_000)),
        ("aten::zeros_like", {"self": TABLE}, TABLE, (0, 256_000)),
        ("aten::normal_", {"self": TABLE}, TABLE, (0, 256_000)),
        # copied from half to full precision, in place: the old values are not read
        ("aten::copy_", {"self": TABLE, "src": TABLE.half()}, TABLE, (128_000, 256_000)),
        ("aten::_foreach_copy_", {"self": [TABLE] * 2, "src": [TABLE] * 2}, None, (512_000, 512_000)),
        ("aten::index_put_", {"self": TABLE, "indices": [INDEX[0]], "values": TABLE[:8]}, TABLE, (2048 + 64, 2048)),
        ("aten::slice_copy", {"self": TABLE}, TABLE[:8], (2048, 2048)),
        ("aten::view", {"self": TABLE}, TABLE.view(-1), (0, 0)),
    ],
)
def test_bytes(op: str, operands: dict[str, Any], result: Any, expected: tuple[int, int]) -> None:
    assert _bytes(op, operands, result) == expected


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_bags(mode: int) -> None:
    torch.manual_seed(0)
    weight, indices = torch.rand(5, 3, dtype=torch.float64), torch.randint(5, (7,))
    offsets = torch.tensor([0, 2, 3])
    expected = F.embedding_bag(indices, weight, offsets, mode=("sum", "mean", "max")[mode])
    operands = {"weight": weight, "indices": indices, "offsets": offsets, "mode": mode}
    prove("aten::_embedding_bag_forward_only", operands, (expected,))


@pytest.mark.parametrize(
    ("module", "shape", "cost"),
    [
        # 16 x 16 windows of 4 on 16 planes
        (nn.MaxPool2d(2), (1, 16, 32, 32), {"cmp": 4096 * 3}),
        (nn.AvgPool2d(2), (1, 16, 32, 32), {"add": 4096 * 3, "div": 4096}),
        # rows of 8, windows of 3 every 2, padding 1: 2, 3, 3, 3 elements; in 3-D the product of three axes
        (nn.MaxPool1d(3, 2, 1), (1, 1, 8), {"cmp": 11 - 4}),
        (nn.AvgPool1d(3, 2, 1), (1, 1, 8), {"add": 11 - 4, "div": 4}),
        (nn.MaxPool3d(3, 2, 1), (1, 1, 8, 8, 8), {"cmp": 11**3 - 4**3}),
        (nn.AvgPool3d(3, 2, 1), (1, 1, 8, 8, 8), {"add": 11**3 - 4**3, "div": 4**3}),
        # with the last window cut off by the end: 7 elements, windows 3, 3, 1
        (nn.MaxPool1d(3, 3, ceil_mode=True), (1, 1, 7), {"cmp": 4}),
        # 7 elements in 3 windows that overlap: 3, 3, 3
        (nn.AdaptiveAvgPool1d(3), (1, 1, 7), {"add": 6, "div": 3}),
        (nn.AdaptiveAvgPool3d(3), (1, 1, 7, 7, 7), {"add": 9**3 - 27, "div": 27}),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 3, 4, 4), {"fma": 6 * 3 * 64}),
        (nn.Upsample(scale_factor=2, mode="bicubic"), (1, 3, 4, 4), {"fma": 20 * 3 * 64}),
        (nn.Upsample(scale_factor=2), (1, 3, 4, 4), {}),
        (nn.PixelShuffle(2), (1, 4, 4, 4), {}),
        (nn.ReflectionPad2d(1), (1, 4, 4, 4), {}),
    ],
    ids=str,
)
def test_windows(module: nn.Module, shape: tuple[int, ...], cost: dict[str, int]) -> None:
    assert _cost(module, *shape).arithmetic() == cost


def test_padding_and_repeating_backward_are_sums() -> None:
    # 6 x 6 gradients arrive at 4 x 4 places, on 4 planes; 8 x 8 at 4 x 4, on 3. What is not the first is added.
    assert _cost(nn.ReflectionPad2d(1), 1, 4, 4, 4, backward=True).add == 4 * (36 - 16)
    assert _cost(nn.Upsample(scale_factor=2), 1, 3, 4, 4, backward=True).add == 3 * (64 - 16)


def test_antialiased_taps() -> None:
    # 8 to 4, both ways: support 2 at centres 1, 3, 5, 7 gives 3, 4, 4, 3 taps, for 8 rows and then for 4 columns.
    cost = _cost(lambda x: F.interpolate(x, (4, 4), mode="bilinear", antialias=True), 1, 1, 8, 8)
    assert cost.arithmetic() == {"fma": 8 * 14 + 4 * 14}
