"""Costs, amounts and conventions: exact, and units are not mixed by accident."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import sympy

from flopscan.analysis import price_call
from flopscan.core.amount import Amount
from flopscan.core.convention import Convention
from flopscan.core.cost import FIELDS, KINDS, Cost, total
from flopscan.core.trace import Call, TensorSpec
from samples import make_ledger


def test_costs_add_and_scale_kind_by_kind() -> None:
    cost = 3 * Cost(fma=2, exp=1) + Cost(add=1, read=8)
    assert cost == Cost(fma=6, exp=3, add=1, read=8)
    assert cost.arithmetic() == {"fma": 6, "add": 1, "exp": 3}
    assert total([(cost, 2), (Cost(fma=1), 5)]).fma == 17
    assert set(FIELDS) == {*KINDS, "read", "written"}


def test_costs_are_symbolic_when_sizes_are() -> None:
    n = sympy.Symbol("n")
    assert (n * Cost(fma=2) + Cost(fma=n)).fma == 3 * n


@pytest.mark.parametrize("wrong", [1.5, Cost()])
def test_a_cost_is_not_scaled_by_a_fraction_or_a_cost(wrong: object) -> None:
    with pytest.raises(TypeError):
        Cost(fma=1) * wrong  # type: ignore[operator]


def test_macs_and_flops_cannot_be_added() -> None:
    flops, macs = Amount(10, "FLOP"), Amount(5, "MAC")
    with pytest.raises(TypeError, match="cannot add FLOP and MAC: they are different units"):
        flops + macs
    with pytest.raises(TypeError, match="cannot subtract MAC and FLOP"):
        macs - flops
    assert flops - 2 * macs == 0
    assert (flops + flops).unit == "FLOP"
    assert sum([macs, macs]) == 10


def test_an_amount_is_an_int_everywhere_else() -> None:
    amount = Amount(1234567, "FLOP")
    assert json.dumps({"x": amount}) == '{"x": 1234567}'
    assert f"{amount:,}" == "1,234,567"
    assert pickle.loads(pickle.dumps(amount)).unit == copy.copy(amount).unit == "FLOP"


def test_a_ledger_sums_what_is_known_and_lists_what_is_not() -> None:
    ledger = make_ledger()
    assert ledger.cost() == Cost(fma=120, read=360)
    (missing,) = ledger.uncounted()
    assert (missing.op, missing.count, missing.modules) == ("x::unknown", 2, ("",))
    assert str(missing) == "x::unknown x2 (2x4 -> ) in the top level: no rule for this operator"


def test_a_convention_weighs_kinds_or_takes_functions_as_written() -> None:
    ledger = make_ledger()
    assert Convention("m", "MAC", "", "", weights={"fma": 1}).total(ledger) == 120
    by_function = Convention("f", "F", "", "", handles={"torch::matmul": lambda call: 7, "aten::mm": lambda call: 1000})
    assert by_function.total(ledger) == 35  # the product inside the function is not counted a second time
    by_operator = Convention("o", "F", "", "", handles={"aten::mm": lambda call: 10, "x::unknown": lambda call: 1})
    assert by_operator.total(ledger) == 52
    forward_only = Convention("p", "F", "", "", handles={"x::unknown": lambda call: 1}, phases=("forward",))
    assert forward_only.total(ledger) == 0


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten::div", {"self": TensorSpec((3,)), "other": 0.0}),
        ("aten::pow", {"self": TensorSpec((3,)), "exponent": -5000.0}),
        ("aten::remainder", {"self": TensorSpec((3,)), "other": 0}),
        ("aten::celu", {"self": TensorSpec((3,)), "alpha": 1e-9}),
        ("aten::softplus", {"self": TensorSpec((3,)), "beta": 5000, "threshold": 20}),
    ],
)
def test_scalars_that_overflow_have_a_price_all_the_same(op: str, args: dict[str, object]) -> None:
    priced = price_call(Call(op, args, (TensorSpec((3,)),)))
    assert priced.ideal is not None, priced.note


def test_a_call_that_a_rule_cannot_take_is_uncounted_and_not_a_crash() -> None:
    priced = price_call(Call("aten::mm", {"self": TensorSpec((3, 4))}, (TensorSpec((3,)),)))
    assert priced.ideal is None
    assert "operand 'mat2' is missing" in priced.note
