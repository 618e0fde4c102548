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
    for seed in range(6, 60):
        check_rule(f"aten::{name}", seed)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("mask", [(True, True), (True, False), (False, True)])
def test_rms_norm_and_its_gradient(weighted: bool, mask: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    x, g = (torch.rand(3, 4, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    if mask[1] and not weighted:
        return
    eps, shape = 1e-5, [4]
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    result = F.rms_norm(x, shape, weight, eps)
    given = {"input": x, "normalized_shape": shape, "weight": weight}
    prove("aten::_fused_rms_norm", {**given, "weight": weight, "eps": eps}, (result, rstd)) if weighted else None

    wanted = [t.requires_grad_() for t, want in zip((x, weight), mask, strict=True) if want and t is not None]
    found = iter(torch.autograd.grad(F.rms_norm(x, shape, weight, eps), wanted, g))
    expected = tuple(next(found) if want else None for want in mask)
    operands = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    prove("aten::_fused_rms_norm_backward", {**operands, "grad_out": g, "rstd": rstd, "output_mask": mask}, expected)
