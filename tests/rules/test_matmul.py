"""Products that are not provable one by one: whole layers, broadcasting, groups, scales, packed weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flopscan import rules
from flopscan.analysis import price
from flopscan.capture import shape_only
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec


def _cost(function: Any, *shapes: tuple[int, ...], backward: bool = False) -> Cost:
    inputs = tuple(torch.empty(s, requires_grad=backward) for s in shapes)
    ledger = price(shape_only.trace(function, inputs, {}, backward=backward))
    return ledger.cost()


def _price(op: str, outputs: tuple[TensorSpec, ...], **operands: Any) -> Cost:
    rule = rules.find(op)
    assert rule is not None
    found = rule.price(Call(op, operands, outputs))
    assert found.ideal is not None, found.note
    return found.ideal


@pytest.mark.parametrize(
    ("left", "right", "fma"),
    [
        ((20, 10), (7, 10, 100), 7 * 20 * 10 * 100),  # 2-D by 3-D: the 2-D one is used 7 times
        ((7, 20, 10), (10, 100), 7 * 20 * 10 * 100),
        ((2, 1, 4, 5), (3, 5, 6), 2 * 3 * 4 * 5 * 6),
        ((5,), (5,), 5),
        ((4, 5), (5,), 20),
        ((5,), (3, 5, 6), 3 * 5 * 6),
    ],
)
def test_broadcast_products(left: tuple[int, ...], right: tuple[int, ...], fma: int) -> None:
    assert _cost(torch.matmul, left, right).fma == fma
    # each operand's gradient takes the products of the forward; a vector's partner gets an outer product, 1 mul each
    trained = _cost(torch.matmul, left, right, backward=True)
    assert trained.fma + trained.mul == 3 * fma


def test_linear_and_its_gradient() -> None:
    assert _cost(nn.Linear(64, 128), (8, 64)).arithmetic() == {"fma": 8 * 64 * 128}
    assert _cost(nn.Linear(64, 128), (2, 4, 64), backward=True).fma == 3 * 8 * 64 * 128


def test_bilinear() -> None:
    # 3 rows, 4 by 5 inputs, 6 outputs: the outer product 3 * 20 mul, then 6 * 20 fma a row; the bias 1 add an output.
    cost = _cost(nn.Bilinear(4, 5, 6), (3, 4), (3, 5))
    assert cost.arithmetic() == {"fma": 3 * 6 * 20, "mul": 3 * 20, "add": 3 * 6}


@pytest.mark.parametrize(
    ("left", "right", "fma"),
    [
        ((12, 16), (3, 16, 8), 12 * 16 * 8),  # rows in groups
        ((3, 4, 16), (16, 24), 4 * 16 * 24),  # columns in groups
        ((3, 4, 16), (3, 16, 8), 3 * 4 * 16 * 8),
        ((4, 48), (48, 8), 4 * 48 * 8),  # the contracted axis in groups
    ],
)
def test_grouped_products(left: tuple[int, ...], right: tuple[int, ...], fma: int) -> None:
    operands = {"self": TensorSpec(left, "bfloat16"), "mat2": TensorSpec(right, "bfloat16")}
    out = TensorSpec((1,), "bfloat16")
    assert _price("aten::_grouped_mm", (out,), **operands).arithmetic() == {"fma": fma}


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_grouped_products_run_as_they_are_counted() -> None:
    # the groups' own sizes do not matter: 2, 0 and 10 rows
    offsets = torch.tensor([2, 2, 12], dtype=torch.int32)
    left, right = torch.rand(12, 16), torch.rand(3, 16, 8)
    done = (
        F.grouped_mm(left, right, offs=offsets) if hasattr(F, "grouped_mm") else torch._grouped_mm(left, right, offsets)
    )
    apart = torch.cat([left[:2] @ right[0], left[2:] @ right[2]])
    torch.testing.assert_close(done, apart)


def test_scaled_products() -> None:
    # 4 by 8, 256 long. A scale per tensor: 1 mul an output; per row: 2; per block of 32: 8 mul and 8 fma an output.
    def cost(scale: TensorSpec, other: TensorSpec) -> dict[str, Any]:
        operands = {"self": TensorSpec((4, 256), "float8_e4m3fn"), "mat2": TensorSpec((256, 8), "float8_e4m3fn")}
        out = TensorSpec((4, 8), "bfloat16")
        return _price("aten::_scaled_mm", (out,), **operands, scale_a=scale, scale_b=other).arithmetic()

    whole, block = TensorSpec(()), "float8_e8m0fnu"
    assert cost(whole, whole) == {"fma": 32 * 256, "mul": 32}
    assert cost(TensorSpec((4, 1)), TensorSpec((1, 8))) == {"fma": 32 * 256, "mul": 64}
    assert cost(TensorSpec((4, 8), block), TensorSpec((8, 8), block)) == {"fma": 32 * (256 + 8), "mul": 32 * 8}


def test_packed_weights() -> None:
    half = "bfloat16"
    operands = {"self": TensorSpec((4, 64), half), "mat2": TensorSpec((8, 32), "uint8")}
    cost = _price("aten::_weight_int4pack_mm_for_cpu", (TensorSpec((4, 8), half),), **operands, qGroupSize=32)
    assert cost.arithmetic() == {"fma": 4 * 64 * 8, "mul": 8 * 64, "add": 8 * 64}
    cost = _price("aten::_weight_int8pack_mm", (TensorSpec((4, 8), half),), **operands)
    assert cost.arithmetic() == {"fma": 4 * 64 * 8, "mul": 4 * 8}


def test_integer_products_are_counted() -> None:
    operands = {"self": TensorSpec((32, 16), "int8"), "mat2": TensorSpec((16, 8), "int8")}
    assert _price("aten::_int_mm", (TensorSpec((32, 8), "int32"),), **operands).fma == 32 * 16 * 8


def test_complex_products_are_four_real_ones() -> None:
    spec = TensorSpec((2, 3), "complex64")
    assert _price("aten::mm", (spec,), self=spec, mat2=TensorSpec((3, 5), "complex64")).fma == 4 * 2 * 3 * 5
