"""The gradient of the selective scan: its rule against its tally, its reference against autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from flopscan.ops.selective_scan import reference
from flopscan.testing import check_rule
from rules.scan_operands import FORMS, GIVEN, make, prove

OP = "flopscan::selective_scan_backward"


@pytest.mark.parametrize("seed", range(30))
def test_the_formula_is_the_tally_of_the_adjoint(seed: int) -> None:
    check_rule(OP, seed)


def check(operands: dict[str, Any], softplus: bool) -> None:
    """Assert that the rule's reference gives what autograd gives through the forward in torch, at the rule's price."""
    given = {name: value.requires_grad_() for name, value in operands.items() if value is not None}
    out: Any = reference.selective_scan(**operands, delta_softplus=softplus)
    grad = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(2))
    gradients = dict(zip(given, torch.autograd.grad(out, list(given.values()), grad), strict=True))
    expected = tuple(gradients.get(name) for name in {**operands, "initial_state": None})
    for recompute in (True, False):
        prove(OP, {"grad": grad, **operands, "delta_softplus": softplus, "recompute": recompute}, expected)


@pytest.mark.parametrize("complex_A", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("softplus", [False, True], ids=["plain", "softplus"])
@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_with_optional_operands(given: tuple[str, ...], softplus: bool, complex_A: bool) -> None:
    check(make("b g n l", "b n l", given, complex_A), softplus)


@pytest.mark.parametrize("complex_A", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("C", FORMS)
@pytest.mark.parametrize("B", FORMS)
def test_of_every_form(B: str, C: str, complex_A: bool) -> None:
    check(make(B, C, complex_A=complex_A), softplus=True)


@pytest.mark.parametrize("complex_A", [False, True], ids=["real", "complex"])
def test_states_that_are_handed_on_cost_nothing(complex_A: bool) -> None:
    operands = make("b g n l", "b n l", ("D", "z"), complex_A)
    operands["initial_state"] = torch.randn(2, 4, 2, dtype=operands["A"].dtype)
    given = {name: value.requires_grad_() for name, value in operands.items() if value is not None}
    out, last = reference.selective_scan(**operands, return_last_state=True)
    grad, grad_last = torch.randn_like(out), torch.randn_like(last)
    gradients = dict(zip(given, torch.autograd.grad((out, last), list(given.values()), (grad, grad_last)), strict=True))
    prove("flopscan::selective_scan", operands, (out.detach(),))
    expected = tuple(gradients.get(name) for name in operands)
    prove(OP, {"grad": grad, **operands, "grad_last_state": grad_last}, expected)


def backward(dtype: str, pairs: int, **more: Any) -> Call:
    """The gradient of a scan with b 2, d 6, l 5, n 4."""
    steps, varying = TensorSpec((2, 6, 5)), TensorSpec((2, 4, 5 * pairs))
    operands = {"grad": steps, "u": steps, "delta": steps, "A": TensorSpec((6, 4), dtype), "B": varying, "C": varying}
    return Call(OP, {**operands, "delta_softplus": False, **more}, (steps, steps))


def test_eighteen_flops_and_an_exponential_a_state() -> None:
    states, steps = 2 * 6 * 5 * 4, 2 * 6 * 5
    cost = price_call(backward("float32", 1)).ideal
    assert cost is not None
    assert cost.arithmetic() == {"fma": 7 * states + steps, "mul": 4 * states + 2 * steps, "exp": states}


@pytest.mark.parametrize(("dtype", "pairs", "flops"), [("float32", 1, 14), ("complex64", 2, 36)])
def test_with_the_states_kept(dtype: str, pairs: int, flops: int) -> None:
    states, steps = 2 * 6 * 5 * 4, 2 * 6 * 5
    cost = price_call(backward(dtype, pairs, recompute=False)).ideal
    assert cost is not None
    assert (cost.exp, cost.trig) == (0, 0)
    assert 2 * cost.fma + cost.mul + cost.add == flops * states + (4 + (pairs == 2)) * steps


def test_fifty_flops_and_three_transcendentals_a_complex_state() -> None:
    states, steps = 2 * 6 * 5 * 4, 2 * 6 * 5
    cost = price_call(backward("complex64", 2)).ideal
    assert cost is not None
    assert cost.arithmetic() == {
        "fma": 16 * states + steps, "mul": 14 * states + 3 * steps, "add": 4 * states, "exp": states,
        "trig": 2 * states,
    }  # fmt: skip


def test_complex_operands_that_do_not_fit_are_not_counted() -> None:
    short = price_call(backward("complex64", 1))
    assert short.ideal is None
    assert "operand 'B' is (2, 4, 5), expected 'd n', 'b n 2l' or 'b g n 2l'" in short.note
    constant = price_call(backward("complex64", 2, B=TensorSpec((6, 4))))
    assert constant.ideal is None
    assert "operand 'B' is constant and real where 'A' is complex; expected complex64" in constant.note
