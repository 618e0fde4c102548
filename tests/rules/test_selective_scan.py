"""The selective scan: its rule against its tally and the torch reference, and the operator that our own model calls."""

from __future__ import annotations

import pytest
import torch

import flopscan
import flopscan.ops  # registers the operators
from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.ops.selective_scan import reference
from flopscan.testing import check_rule
from rules.scan_operands import FORMS, GIVEN, make, prove


@pytest.mark.parametrize("seed", range(30))
def test_the_formula_is_the_tally_of_the_recurrence(seed: int) -> None:
    check_rule("flopscan::selective_scan", seed)


@pytest.mark.parametrize("complex_A", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("softplus", [False, True], ids=["plain", "softplus"])
@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_with_optional_operands(given: tuple[str, ...], softplus: bool, complex_A: bool) -> None:
    operands = {**make("b g n l", "b n l", given, complex_A), "delta_softplus": softplus}
    prove("flopscan::selective_scan", operands, (reference.selective_scan(**operands),))


@pytest.mark.parametrize("complex_A", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("C", FORMS)
@pytest.mark.parametrize("B", FORMS)
def test_of_every_form(B: str, C: str, complex_A: bool) -> None:
    operands = make(B, C, complex_A=complex_A)
    prove("flopscan::selective_scan", operands, (reference.selective_scan(**operands),))


def scan(**more: TensorSpec) -> Call:
    spec = TensorSpec
    operands = {
        "u": spec((2, 6, 5)),
        "delta": spec((2, 6, 5)),
        "A": spec((6, 4)),
        "B": spec((2, 4, 5)),
        "C": spec((2, 4, 5)),
    }
    return Call("flopscan::selective_scan", {**operands, "delta_softplus": False, **more}, (spec((2, 6, 5)),))


def test_six_flops_and_an_exponential_a_state() -> None:
    states, steps = 2 * 6 * 5 * 4, 2 * 6 * 5
    cost = price_call(scan()).ideal
    assert cost is not None
    assert cost.arithmetic() == {"fma": 2 * states, "mul": 2 * states + steps, "exp": states}
    with_skip = price_call(scan(D=TensorSpec((6,)))).ideal
    assert with_skip is not None
    assert with_skip.mul - cost.mul == steps


def test_a_wrong_operand_is_not_counted_and_says_why() -> None:
    priced = price_call(scan(B=TensorSpec((2, 4, 9))))
    assert priced.ideal is None
    assert "operand 'B' is (2, 4, 9), expected 'd n', 'b n l' or 'b g n l'" in priced.note
    assert "axis l is 9 in 'B' and 5 in 'u'" in priced.note


def test_vmamba_is_counted_through_training() -> None:
    report = flopscan.count("vmamba_tiny", backward=True, training=True, strict=True)
    operators = report.by_operator()
    elements = 6_322_176  # the sum of b*d*l*n over the 14 scans; n is 1, so also of b*d*l
    forward, backward = (operators[f"flopscan::selective_scan{kind}"].cost for kind in ("", "_backward"))
    assert isinstance(forward, Cost)
    assert (forward.fma, backward.fma) == (2 * elements, (7 + 1 + 2) * elements)
    assert operators["flopscan::selective_scan_backward"].calls == 14


def test_a_scan_for_real_costs_what_it_costs_on_shapes() -> None:
    def run(u: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return flopscan.ops.selective_scan(u, u, A, B, B, delta_softplus=True)

    u, A, B = torch.rand(1, 3, 4), torch.rand(3, 2), torch.rand(1, 2, 4)
    assert flopscan.count(run, u, A, B).flops == flopscan.count(run, u, A, B, run=True).flops


def complex_scan(**more: TensorSpec) -> Call:
    state = TensorSpec((2, 4, 10))
    return scan(A=TensorSpec((6, 4), "complex64"), **{"B": state, "C": state, **more})


def test_complex_states_take_eighteen_flops_and_three_transcendentals() -> None:
    states, steps = 2 * 6 * 5 * 4, 2 * 6 * 5
    cost = price_call(complex_scan()).ideal
    assert cost is not None
    assert cost.arithmetic() == {"fma": 6 * states, "mul": 6 * states + 2 * steps, "exp": states, "trig": 2 * states}


def test_complex_operands_that_do_not_fit_are_not_counted() -> None:
    short = price_call(complex_scan(B=TensorSpec((2, 4, 5))))
    assert short.ideal is None
    assert "operand 'B' is (2, 4, 5), expected 'd n', 'b n 2l' or 'b g n 2l'" in short.note
    constant = price_call(complex_scan(C=TensorSpec((6, 4))))
    assert constant.ideal is None
    assert "operand 'C' is constant and real where 'A' is complex; expected complex64" in constant.note


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (scan(B=TensorSpec((6, 4), "complex64")), "operand 'B' (6, 4) is complex64 where 'A' is real; expected real"),
        (scan(C=TensorSpec((2, 4, 5), "complex64")), "operand 'C' (2, 4, 5) is complex64 where 'A' is real"),
        (scan(u=TensorSpec((2, 6, 5), "complex64")), "operand 'u' (2, 6, 5) is complex64 where 'A' is real"),
        (
            complex_scan(B=TensorSpec((2, 4, 5), "complex64")),
            "operand 'B' (2, 4, 5) is complex64; expected real numbers, pairs along the length",
        ),
        (complex_scan(z=TensorSpec((2, 6, 5), "complex64")), "operand 'z' (2, 6, 5) is complex64; expected real"),
    ],
)
def test_complex_where_numbers_are_real_is_not_counted(call: Call, said: str) -> None:
    priced = price_call(call)
    assert priced.ideal is None
    assert said in priced.note
