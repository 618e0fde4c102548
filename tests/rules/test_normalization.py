"""Normalization: statistics, gradients by mask, running statistics, fused forms that no CPU runs; counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.testing import check_rule
from proving import prove

WITH_OPTIONS = (
    "native_layer_norm", "native_layer_norm_backward", "native_batch_norm", "native_batch_norm_backward",
    "native_group_norm", "native_group_norm_backward", "_native_batch_norm_legit", "_weight_norm_interface",
)  # fmt: skip


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option(name: str) -> None:
    """The examples choose parameters, masks and modes at random: enough draws to meet them all."""
    for seed in range(6, 30):
        check_rule(f"aten::{name}", seed)


@pytest.mark.parametrize(
    ("weighted", "mask"), [(True, (True, True)), (True, (True, False)), (True, (False, True)), (False, (True, False))]
)
def test_rms_norm_and_its_gradient(weighted: bool, mask: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    x, g = (torch.rand(3, 4, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    eps, shape = 1e-5, [4]
    operands = {"input": x, "normalized_shape": shape, "weight": weight}
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    prove("aten::_fused_rms_norm", {**operands, "eps": eps}, (F.rms_norm(x, shape, weight, eps), rstd))

    leaves = [None if t is None else t.clone().requires_grad_() for t in (x, weight)]
    wanted = [t for t, want in zip(leaves, mask, strict=True) if want]
    found = iter(torch.autograd.grad(F.rms_norm(leaves[0], shape, leaves[1], eps), wanted, g))
    expected = tuple(next(found) if want else None for want in mask)
    prove("aten::_fused_rms_norm_backward", {**operands, "grad_out": g, "rstd": rstd, "output_mask": mask}, expected)


def _cost(op: str, outputs: int, x: TensorSpec, **operands: Any) -> Cost:
    found = price_call(Call(f"aten::{op}", {"input": x, **operands}, (x,) * outputs))
    assert found.ideal is not None, found.note
    return found.ideal


def test_layer_norm_by_hand() -> None:
    x, k = TensorSpec((4, 8)), TensorSpec((8,))
    # a row of 8: mean 7 add, 1 div; centring 8 add; variance 8 mul, 7 add, 1 div; eps 1 add; rsqrt; 8 mul;
    # weight 8 mul, bias 8 add
    found = _cost("native_layer_norm", 1, x, normalized_shape=(8,), weight=k, bias=k)
    assert found.arithmetic() == {"add": 4 * 31, "mul": 4 * 24, "div": 8, "sqrt": 4}
    assert (found.read, found.written) == (128 + 32 + 32, 128)
    bare = _cost("native_layer_norm", 1, x, normalized_shape=(8,))
    assert bare.arithmetic() == {"add": 4 * 23, "mul": 4 * 16, "div": 8, "sqrt": 4}


def test_layer_norm_gradients_by_hand() -> None:
    x, k = TensorSpec((4, 8)), TensorSpec((8,))
    row = TensorSpec((4, 1))
    operands = {"grad_out": x, "normalized_shape": (8,), "mean": row, "rstd": row, "weight": k, "bias": k}
    # centring 32 add; z 32 mul; weight 32 mul, 3 * 8 add; bias 3 * 8 add; g 32 mul; g * z 32 mul; two sums of
    # 28 add, 4 div; g - mean 32 add; z * slope 32 mul; difference 32 add; rstd 32 mul
    found = _cost("native_layer_norm_backward", 1, x, **operands, output_mask=(True, True, True))
    assert found.arithmetic() == {"add": 32 + 24 + 24 + 56 + 64, "mul": 6 * 32, "div": 8}
    assert found.read == 128 + 128 + 16 + 16 + 32  # the bias is not read
    frozen = _cost("native_layer_norm_backward", 1, x, **operands, output_mask=(True, False, False))
    assert frozen.arithmetic() == {"add": 32 + 56 + 64, "mul": 4 * 32 + 2 * 4, "div": 8}
    assert _cost("native_layer_norm_backward", 1, x, **operands, output_mask=(False, False, True)).arithmetic() == {
        "add": 24
    }


def test_batch_norm_by_hand() -> None:
    x, c = TensorSpec((2, 3, 4)), TensorSpec((3,))
    operands = {"weight": c, "bias": c, "running_mean": c, "running_var": c}
    # a channel of 8: mean 7 add, 1 div; centring 8 add; variance 8 mul, 7 add, 1 div; eps 1 add; rsqrt; scale 1 mul;
    # 8 mul; bias 8 add; two running statistics of 2 mul and 1 add
    training = _cost("native_batch_norm", 1, x, **operands, training=True)
    assert training.arithmetic() == {"add": 3 * 33, "mul": 3 * 21, "div": 6, "sqrt": 3}
    assert (training.read, training.written) == (96 + 4 * 12, 96 + 2 * 12)  # the running statistics are written too
    # eps 1 add; rsqrt; scale and shift 2 mul, 1 add; 8 mul, 8 add
    evaluation = {"add": 3 * 10, "mul": 3 * 10, "sqrt": 3}
    assert _cost("native_batch_norm", 1, x, **operands, training=False).arithmetic() == evaluation
    for op in ("_native_batch_norm_legit_no_training", "_batch_norm_no_update"):
        assert _cost(op, 1, x, **operands).arithmetic() == evaluation
    assert _cost("native_batch_norm", 1, x, **operands, training=False).written == 96
    for op in ("cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit"):
        assert _cost(op, 1, x, **operands, training=True) == training
    assert _cost("_batch_norm_with_update", 1, x, **operands) == training
    without = {"add": 3 * 31, "mul": 3 * 17, "div": 6, "sqrt": 3}
    no_statistics = _cost("_native_batch_norm_legit", 1, x, weight=c, bias=c, training=True)
    assert no_statistics.arithmetic() == without


def test_batch_norm_gradients_by_hand() -> None:
    x, c = TensorSpec((2, 3, 4)), TensorSpec((3,))
    operands = {"weight": c, "running_mean": c, "running_var": c, "save_mean": c}
    # a channel of 8: centring 8 add; g * x 8 mul, 7 add; sum of g 7 add; weight 1 mul; slope 1 div, 2 mul; mean 1 div;
    # scale 1 mul; (g - mean - x * slope) * scale: 16 add, 16 mul
    training = {"add": 3 * 38, "mul": 3 * 28, "div": 6}
    native = {**operands, "grad_out": x, "save_invstd": c, "output_mask": (True, True, True)}
    found = _cost("native_batch_norm_backward", 1, x, **native, train=True)
    assert found.arithmetic() == training
    assert found.read == 96 + 96 + 3 * 12  # weight, saved mean and deviation; not the running statistics
    for op in ("cudnn_batch_norm_backward", "miopen_batch_norm_backward"):
        assert _cost(op, 1, x, **operands, grad_output=x, save_var=c).arithmetic() == training
    # eps 1 add, rsqrt; centring 8 add; g * x 8 mul, 7 add; sum 7 add; weight 1 mul; scale 1 mul; g * scale 8 mul
    found = _cost("native_batch_norm_backward", 1, x, **native, train=False)
    assert found.arithmetic() == {"add": 3 * 23, "mul": 3 * 18, "sqrt": 3}


def test_group_norm_by_hand() -> None:
    x, c = TensorSpec((2, 4, 3)), TensorSpec((4,))
    # a group of 2 channels by 3: mean 5 add, 1 div; centring 6 add; variance 6 mul, 5 add, 1 div; eps 1 add; rsqrt;
    # scale of a channel 2 mul; 6 mul; bias 6 add
    found = _cost("native_group_norm", 1, x, weight=c, bias=c, N=2, C=4, HxW=3, group=2)
    assert found.arithmetic() == {"add": 4 * 23, "mul": 4 * 14, "div": 8, "sqrt": 4}
