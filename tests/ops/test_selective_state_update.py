"""A decoding step of a scan: step by step it is the scan, with heads it is each head by itself."""

from __future__ import annotations

import re

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
