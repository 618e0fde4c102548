"""A decoding step of a scan: step by step it is the scan, with heads it is each head by itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import flopscan
from flopscan.ops import selective_scan, selective_state_update
from ops.scans import Case


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [("D", "z", "delta_bias", "initial_state"), ("initial_state",)])
@pytest.mark.parametrize("softplus", [False, True])
def test_steps_are_the_scan(softplus: bool, given: tuple[str, ...], dtype: torch.dtype) -> None:
    operands = Case(7, 5, b=2, d=6, B="b n l", C="b n l", given=given, softplus=softplus, dtype=dtype).operands()
    whole, last = selective_scan(**operands, delta_softplus=softplus, return_last_state=True)
    state, outputs = operands["initial_state"].clone(), []
    for i in range(7):
        at = {
            name: None if operands[name] is None else operands[name][..., i] for name in ("u", "delta", "B", "C", "z")
        }
        outputs.append(
            selective_state_update(
                state, at["u"], at["delta"], operands["A"], at["B"], at["C"], operands["D"], at["z"],
                operands["delta_bias"], softplus,
            )
        )  # fmt: skip
    torch.testing.assert_close(torch.stack(outputs, -1), whole)
    torch.testing.assert_close(state, last)


def test_heads_and_groups() -> None:
    torch.manual_seed(0)
    b, h, p, n, g = 2, 4, 3, 5, 2
    state, x, dt, z = torch.randn(b, h, p, n), *torch.randn(3, b, h, p)
    A, D, bias = -torch.rand(h, p, n), torch.randn(h, p), torch.randn(h, p)
    B, C = torch.randn(2, b, g, n)
    moved = state.clone()
    out = selective_state_update(moved, x, dt, A, B, C, D, z, bias, True)
    for i in range(h):
        own, k = state[:, i].clone(), i * g // h
        one = selective_state_update(own, x[:, i], dt[:, i], A[i], B[:, k], C[:, k], D[i], z[:, i], bias[i], True)
        torch.testing.assert_close(out[:, i], one)
        torch.testing.assert_close(moved[:, i], own)


def test_states_of_more_sequences() -> None:
    torch.manual_seed(0)
    cache, slots = torch.randn(5, 6, 3), torch.tensor([4, 1])
    x, dt, A, (B, C) = torch.randn(2, 6), torch.rand(2, 6), -torch.rand(6, 3), torch.randn(2, 2, 3)
    before, own = cache.clone(), cache[slots]
    out = selective_state_update(cache, x, dt, A, B, C, state_batch_indices=slots)
    assert torch.equal(out, selective_state_update(own, x, dt, A, B, C))
    assert torch.equal(cache[slots], own)
    assert torch.equal(cache[[0, 2, 3]], before[[0, 2, 3]])


def test_the_rules_of_torch_library() -> None:
    operands = (torch.randn(2, 6, 3), *torch.randn(2, 2, 6), -torch.rand(6, 3), *torch.randn(2, 2, 3))
    torch.library.opcheck(torch.ops.flopscan.selective_state_update.default, operands)


def test_it_is_counted() -> None:
    operands = (torch.randn(2, 6, 3), *torch.randn(2, 2, 6), -torch.rand(6, 3), *torch.randn(2, 2, 3))
    report = flopscan.count(selective_state_update, *operands)
    assert report.by_operator().keys() == {"flopscan::selective_state_update"}
    assert int(report.macs) == 2 * 2 * 6 * 3


def test_operands_that_do_not_fit() -> None:
    state, x, dt, A, B, C = (torch.randn(2, 6, 3), *torch.randn(2, 2, 6), -torch.rand(6, 3), *torch.randn(2, 2, 3))
    before = state.clone()
    with pytest.raises(ValueError, match=re.escape("operand 'A' is (6, 4), expected 'd n'")):
        selective_state_update(state, x, dt, torch.rand(6, 4), B, C)
    with pytest.raises(ValueError, match=re.escape("operand 'state' is (2, 6, 3), expected 'b d n'")):
        selective_state_update(state, torch.rand(1, 6), dt[:1], A, B, C)
    with pytest.raises(TypeError, match="operand 'x' is int64"):
        selective_state_update(state, x.long(), dt, A, B, C)
    assert torch.equal(state, before)


def operands(b: int = 2, d: int = 6, n: int = 3) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "state": torch.randn(b, d, n), "x": torch.randn(b, d), "dt": torch.rand(b, d), "A": -torch.rand(d, n),
        "B": torch.randn(b, n), "C": torch.randn(b, n),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"state": torch.rand(2, 6)}, ValueError, "operand 'state' is (2, 6), expected 'b d n'"),
        ({"state": None}, TypeError, "operand 'state' is NoneType, expected a tensor"),
        ({"state": torch.ones(2, 6, 3, dtype=torch.int64)}, TypeError, "operand 'state' is int64, expected float16"),
        ({"A": torch.rand(6, 3, dtype=torch.complex64)}, TypeError, "operand 'A' is complex64"),
        ({"dt": torch.rand(2, 5)}, ValueError, "axis d is 5 in 'dt', and 6 there"),
        ({"B": torch.rand(2, 2, 3)}, ValueError, "operand 'B' is (2, 2, 3), expected 'b n' or 'b 1 n'"),
        ({"C": torch.rand(3, 3)}, ValueError, "axis b is 3 in 'C', and 2 there"),
        ({"D": torch.ones(6, dtype=torch.int32)}, TypeError, "operand 'D' is int32"),
        ({"z": torch.rand(2, 6, device="meta")}, ValueError, "operand 'z' is on meta and 'x' on cpu"),
        (
            {"state_batch_indices": torch.rand(2)},
            TypeError,
            "'state_batch_indices' is float32, expected int32 or int64",
        ),
        ({"state_batch_indices": torch.tensor([0])}, ValueError, "'state_batch_indices' is (1,), expected 'b'"),
    ],
)
def test_more_operands_that_do_not_fit(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    given = operands()
    before = given["state"].clone()
    with pytest.raises(error, match=re.escape(text)):
        selective_state_update(**{**given, **wrong})
    assert torch.equal(given["state"], before)


def test_groups_that_do_not_divide_the_heads() -> None:
    x, B = torch.rand(2, 4, 3), torch.rand(2, 3, 5)
    with pytest.raises(ValueError, match=re.escape("axis g is 3 in 'B' (2, 3, 5), and does not divide h, 4 in 'x'")):
        selective_state_update(torch.rand(2, 4, 3, 5), x, x, -torch.rand(4, 3, 5), B, B)


def test_sizes_at_the_edge() -> None:
    many = operands(n=300)  # more than a scan takes: a step has no limit
    own = many["state"].clone()
    out = selective_state_update(**many)
    decay = torch.exp(many["dt"][..., None] * many["A"])
    moved = own * decay + (many["dt"] * many["x"])[..., None] * many["B"][:, None]
    torch.testing.assert_close(many["state"], moved)
    torch.testing.assert_close(out, (moved * many["C"][:, None]).sum(-1))
    assert selective_state_update(**operands(b=0)).shape == (0, 6)


def test_a_nan_stays_in_its_channel() -> None:
    given = operands()
    given["x"][1, 2] = float("nan")
    assert selective_state_update(**given).isnan().nonzero().tolist() == [[1, 2]]
    assert given["state"].isnan().any(-1).nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_stay_in_their_own_dtype(dtype: torch.dtype) -> None:
    given = operands()
    low = {name: x if name in ("state", "A") else x.to(dtype) for name, x in given.items()}
    wide = {name: x.double() for name, x in low.items()}
    low["state"] = low["state"].clone()
    out, exact = selective_state_update(**low), selective_state_update(**wide)
    assert (out.dtype, low["state"].dtype) == (dtype, torch.float32)
    torch.testing.assert_close(low["state"].double(), wide["state"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out, exact.to(dtype), rtol=1e-2, atol=1e-2)


def test_compiled_and_exported_whole() -> None:
    class Model(torch.nn.Module):
        def forward(self, state: torch.Tensor, x: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
            A = -torch.ones(state.shape[1], state.shape[2])
            return selective_state_update(state, x, x, A, B, B, dt_softplus=True)

    given, alike = ([operands()[name] for name in ("state", "x", "B")] for _ in range(2))
    torch._dynamo.reset()
    compiled = torch.compile(Model(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*given), Model()(*alike))
    assert torch.equal(given[0], alike[0])
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(Model(), tuple(given), dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    targets = [node.target for graph in graphs for node in graph.nodes]  # one is that of what runs without gradients
    assert targets.count(torch.ops.flopscan.selective_state_update.default) == 1
    more, like = ([operands(b=5)[name] for name in ("state", "x", "B")] for _ in range(2))
    assert torch.equal(program.module()(*more), Model()(*like))
    assert torch.equal(more[0], like[0])


def test_it_is_not_differentiable() -> None:
    given = operands()
    given["x"].requires_grad_()
    assert not selective_state_update(**given).requires_grad
