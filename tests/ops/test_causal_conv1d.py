"""The causal convolution against torch's own, its gradient against autograd, decoding step by step."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
from flopscan.ops import causal_conv1d, causal_conv1d_update

B, D, L, W = 2, 6, 11, 4


def make(dtype: torch.dtype = torch.float64, *, bias: bool = True, states: bool = False) -> dict[str, Any]:
    torch.manual_seed(0)
    found = {"x": torch.randn(B, D, L), "weight": torch.randn(D, W), "bias": torch.randn(D) if bias else None}
    found["initial_states"] = torch.randn(B, D, W - 1) if states else None
    return {name: None if x is None else x.to(dtype) for name, x in found.items()}


def torchs(x: Tensor, weight: Tensor, bias: Any = None, initial_states: Any = None, activation: Any = None) -> Tensor:
    before = x.new_zeros(B, D, W - 1) if initial_states is None else initial_states
    out = F.conv1d(torch.cat((before, x), -1), weight[:, None], bias, groups=D)
    return F.silu(out) if activation else out


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_against_torch(bias: bool, states: bool, activation: str | None) -> None:
    operands = make(bias=bias, states=states)
    own = {name: None if x is None else x.requires_grad_() for name, x in operands.items()}
    given = [x for x in own.values() if x is not None]
    out, right = causal_conv1d(**own, activation=activation), torchs(**own, activation=activation)
    torch.testing.assert_close(out, right)
    grad = torch.randn_like(out)
    for one, other in zip(torch.autograd.grad(out, given, grad), torch.autograd.grad(right, given, grad), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(dtype: torch.dtype) -> None:
    operands = make(dtype, states=True)
    exact = causal_conv1d(**{name: x.double() for name, x in operands.items()}, activation="silu")
    torch.testing.assert_close(causal_conv1d(**operands, activation="silu"), exact.to(dtype), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("kept", [W - 1, W + 2])
def test_decoding_continues_a_sequence(kept: int, indexed: bool) -> None:
    operands = make()
    whole, final = causal_conv1d(**operands, return_final_states=True, activation="silu")
    state = torch.zeros(B + 1 if indexed else B, D, kept, dtype=torch.float64)
    slots = torch.tensor([2, 0]) if indexed else None
    weight, bias, x = operands["weight"], operands["bias"], operands["x"]
    outputs = [causal_conv1d_update(x[..., 0], state, weight, bias, "silu", conv_state_indices=slots)[..., None]]
    outputs.append(causal_conv1d_update(x[..., 1:5], state, weight, bias, "silu", conv_state_indices=slots))
    outputs.append(causal_conv1d_update(x[..., 5:], state, weight, bias, "silu", conv_state_indices=slots))
    torch.testing.assert_close(torch.cat(outputs, -1), whole)
    torch.testing.assert_close((state if slots is None else state[slots])[..., 1 - W :], final)


def test_the_rules_of_torch_library() -> None:
    operands = tuple(make(torch.float32, states=True).values())
    operands[1].requires_grad_()
    torch.library.opcheck(torch.ops.flopscan.causal_conv1d.default, (*operands, "silu"))
    detached = tuple(x.detach() for x in operands)
    torch.library.opcheck(torch.ops.flopscan.causal_conv1d_backward.default, (detached[0], *detached, "silu"))


def test_it_is_counted() -> None:
    operands = make(torch.float32)
    report = flopscan.count(lambda x, weight: causal_conv1d(x, weight), operands["x"], operands["weight"])
    assert int(report.macs) == B * D * L * W


def test_operands_that_do_not_fit() -> None:
    operands = make()
    for wrong, text in (
        ({"weight": torch.rand(5, W)}, "operand 'weight' is (5, 4), expected 'd w'\n  where d=6 (from 'x' (2, 6, 11))"),
        ({"initial_states": torch.rand(B, D, W)}, "operand 'initial_states' has 4 steps, expected w - 1, 3"),
        ({"activation": "relu"}, "the activation is 'relu', expected None, 'silu' or 'swish'"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            causal_conv1d(**{**operands, **wrong})
    with pytest.raises(TypeError, match="operand 'x' is int64"):
        causal_conv1d(torch.ones(B, D, L, dtype=torch.int64), operands["weight"])
    with pytest.raises(NotImplementedError, match="seq_idx"):
        causal_conv1d(operands["x"], operands["weight"], seq_idx=torch.zeros(B, L))
    with pytest.raises(NotImplementedError, match="cache_seqlens"):
        causal_conv1d_update(operands["x"], torch.zeros(B, D, 3), operands["weight"], cache_seqlens=torch.zeros(B))
    with pytest.raises(ValueError, match="keeps 2 steps, expected w - 1, 3"):
        causal_conv1d_update(operands["x"], torch.zeros(B, D, 2), operands["weight"])
