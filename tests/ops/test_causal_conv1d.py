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


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"x": torch.rand(B, D, 0)}, ValueError, "axis l is 0 in 'x' (2, 6, 0), expected at least 1"),
        ({"x": torch.rand(D, L)}, ValueError, "operand 'x' is (6, 11), expected 'b d l'"),
        ({"weight": torch.rand(D, 0)}, ValueError, "axis w is 0 in 'weight' (6, 0), expected at least 1"),
        ({"weight": torch.rand(D, W, device="meta")}, ValueError, "operand 'weight' is on meta and 'x' on cpu"),
        ({"bias": torch.rand(D, 1)}, ValueError, "operand 'bias' is (6, 1), expected 'd'"),
        ({"bias": torch.ones(D, dtype=torch.int32)}, TypeError, "operand 'bias' is int32, expected float16"),
        ({"x": torch.rand(B, D, L, dtype=torch.complex64)}, TypeError, "operand 'x' is complex64"),
        (
            {"final_states_out": torch.rand(B, D, 2), "return_final_states": True}, ValueError,
            "operand 'final_states_out' is (2, 6, 2), expected 'b d 3'",
        ),
    ],
)  # fmt: skip
def test_more_operands_that_do_not_fit(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        causal_conv1d(**{**make(torch.float32), **wrong})


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"x": torch.rand(D)}, ValueError, "causal_conv1d_update: operand 'x' is (6,), expected 'b d' or 'b d l'"),
        ({"x": None}, TypeError, "causal_conv1d_update: operand 'x' is NoneType, expected a tensor"),
        ({"x": torch.ones(B, D, dtype=torch.int64)}, TypeError, "operand 'x' is int64"),
        ({"x": torch.rand(B, D, 0)}, ValueError, "axis l is 0"),
        ({"conv_state": torch.rand(B, 5, 3)}, ValueError, "axis d is 5 in 'conv_state', and 6 there"),
        ({"conv_state": torch.rand(3, D, 3)}, ValueError, "axis b is 3 in 'conv_state', and 2 there"),
        ({"conv_state": torch.ones(B, D, 3, dtype=torch.int8)}, TypeError, "operand 'conv_state' is int8"),
        ({"conv_state_indices": torch.rand(B)}, TypeError, "'conv_state_indices' is float32, expected int32 or int64"),
        ({"conv_state_indices": torch.tensor([0])}, ValueError, "operand 'conv_state_indices' is (1,), expected 'b'"),
        ({"weight": torch.rand(5, W)}, ValueError, "operand 'weight' is (5, 4), expected 'd w'"),
    ],
)  # fmt: skip
def test_steps_that_do_not_fit(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    state = torch.rand(B, D, 3)
    given, before = {"x": torch.rand(B, D), "conv_state": state, "weight": torch.rand(D, W)}, state.clone()
    with pytest.raises(error, match=re.escape(text)):
        causal_conv1d_update(**{**given, **wrong})
    assert torch.equal(state, before)


def test_sizes_at_the_edge() -> None:
    weight = torch.rand(D, W)
    assert causal_conv1d(torch.rand(0, D, L), weight).shape == (0, D, L)
    x = torch.rand(B, D, 2)  # shorter than the filter
    whole = causal_conv1d(torch.cat((torch.zeros(B, D, 5), x), -1), weight)[..., 5:]
    torch.testing.assert_close(causal_conv1d(x, weight), whole)
    torch.testing.assert_close(causal_conv1d(x, weight[:, :1]), x * weight[:, :1])
    nothing_kept = torch.rand(B, D, 0)
    torch.testing.assert_close(causal_conv1d_update(x, nothing_kept, weight[:, :1]), x * weight[:, :1])


def test_a_nan_goes_where_the_filter_takes_it() -> None:
    x = torch.rand(B, D, L)
    x[1, 2, 5] = float("nan")
    seen = causal_conv1d(x, torch.rand(D, W), activation="silu").isnan().nonzero().tolist()
    assert seen == [[1, 2, i] for i in range(5, 5 + W)]


def test_compiled_and_exported_whole() -> None:
    weight, bias = torch.rand(D, W), torch.rand(D)

    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return causal_conv1d(x, weight, bias, activation="silu")

    x, longer = torch.rand(B, D, L), torch.rand(B, D, 3 * L)
    torch._dynamo.reset()
    compiled = torch.compile(Model(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), Model()(x))
    assert torch.equal(compiled(longer), Model()(longer))
    length = torch.export.Dim("length", min=2, max=4096)
    program = torch.export.export(Model(), (x,), dynamic_shapes=({2: length},))
    nodes = [node for node in program.graph.nodes if node.target is torch.ops.flopscan.causal_conv1d.default]
    assert len(nodes) == 1
    assert torch.equal(program.module()(longer), Model()(longer))
    step = torch.compile(causal_conv1d_update, backend="aot_eager", fullgraph=True)
    state, own = torch.zeros(B, D, W - 1), torch.zeros(B, D, W - 1)
    assert torch.equal(step(x[..., 0], state, weight), causal_conv1d_update(x[..., 0], own, weight))
    assert torch.equal(state, own)


def test_under_torch_func() -> None:
    operands = make(states=True)

    def loss(own: dict[str, Any]) -> Tensor:
        return causal_conv1d(**own, activation="silu").square().sum()

    found = torch.func.grad(loss)(operands)
    for name, x in found.items():
        own = {k: v.clone().requires_grad_(k == name) for k, v in operands.items()}
        assert torch.equal(x, *torch.autograd.grad(loss(own), own[name]))
    dims = {"x": 0, "weight": None, "bias": None, "initial_states": 0}
    samples = {name: x if dims[name] is None else x.unsqueeze(1) for name, x in operands.items()}
    many = torch.vmap(torch.func.grad(loss), in_dims=(dims,))(samples)
    for i in range(B):
        alone = torch.func.grad(loss)({k: x if dims[k] is None else x[i] for k, x in samples.items()})
        for name, x in alone.items():
            torch.testing.assert_close(many[name][i], x)
    with pytest.raises(NotImplementedError, match="causal_conv1d has no forward-mode derivative"):
        torch.func.jvp(lambda x: loss({**operands, "x": x}), (operands["x"],), (operands["x"],))
    with pytest.raises(NotImplementedError, match="causal_conv1d can be differentiated once"):
        torch.func.grad(lambda own: torch.func.grad(loss)(own)["x"].sum())(operands)


def test_differentiated_once_and_no_more() -> None:
    operands = make()
    x = operands["x"].requires_grad_()
    (grad,) = torch.autograd.grad(causal_conv1d(**operands).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="causal_conv1d can be differentiated once: its gradient has no gradient"):
        grad.sum().backward()
