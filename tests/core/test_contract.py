"""Contracts: binding, and the words of every error."""

from __future__ import annotations

import pytest

from flopscan.core.contract import Contract
from flopscan.core.trace import TensorSpec
from flopscan.errors import ContractError, RuleError

SCAN = Contract.parse("u: b d l, delta: b d l, A: d n, B: d n | b n l | b g n l, D?: d, z?: b d l")


def bind(contract: Contract, **shapes: tuple[int, ...]) -> dict[str, int]:
    return dict(contract.bind("op", {k: TensorSpec(v) for k, v in shapes.items()}).sizes)


def refuse(contract: Contract, **shapes: tuple[int, ...]) -> str:
    with pytest.raises(ContractError) as caught:
        bind(contract, **shapes)
    return str(caught.value)


def test_letters_are_bound_and_forms_are_told() -> None:
    shapes = {"u": (2, 96, 196), "delta": (2, 96, 196), "A": (96, 16), "B": (2, 4, 16, 196), "D": (96,)}
    binding = SCAN.bind("scan", {k: TensorSpec(v) for k, v in shapes.items()})
    assert dict(binding.sizes) == {"b": 2, "d": 96, "l": 196, "n": 16, "g": 4}
    assert binding.forms["B"] == "b g n l"
    assert binding.given == {"u", "delta", "A", "B", "D"}


def test_a_clash_says_what_was_expected_what_came_and_where_each_axis_is_from() -> None:
    text = refuse(SCAN, u=(2, 96, 196), delta=(2, 96, 196), A=(96, 16), B=(2, 16, 100))
    assert text == (
        "op: operand 'B' is (2, 16, 100), expected 'd n', 'b n l' or 'b g n l'\n"
        "  where b=2, d=96, l=196 (from 'u' (2, 96, 196)) and n=16 (from 'A' (96, 16)):"
        " axis l is 100 in 'B' and 196 in 'u'"
    )


def test_a_missing_operand_is_named() -> None:
    assert refuse(SCAN, u=(1, 2, 3), delta=(1, 2, 3), B=(2, 2)) == "op: operand 'A' is missing, expected 'd n'"


def test_a_wrong_rank_is_said_in_axes() -> None:
    assert refuse(SCAN, u=(2, 3), delta=(2, 3), A=(1, 1), B=(1, 1)) == (
        "op: operand 'u' is (2, 3), expected 'b d l': it has 2 axes"
    )
    assert refuse(SCAN, u=(2,), delta=(2, 3), A=(1, 1), B=(1, 1)).endswith("it has 1 axis")


def test_two_roles_are_reported_and_not_guessed() -> None:
    contract = Contract.parse("x: a b, y: a | b")
    assert "it fits 'a' and 'b' alike; flopscan does not guess" in refuse(contract, x=(3, 3), y=(3,))
    assert bind(contract, x=(3, 4), y=(4,)) == {"a": 3, "b": 4}


def test_stars_take_what_is_left_and_factors_divide() -> None:
    contract = Contract.parse("x: *s k, w: n k, y: b 2l")
    assert bind(contract, x=(2, 3, 5, 7), w=(4, 7), y=(1, 6)) == {"s": 30, "k": 7, "n": 4, "b": 1, "l": 3}
    assert bind(contract, x=(7,), w=(4, 7), y=(1, 6))["s"] == 1
    assert "expected 'b 2l'" in refuse(contract, x=(7,), w=(4, 7), y=(1, 5))


def test_numbers_and_wildcards() -> None:
    contract = Contract.parse("w: d 1 k, x: _ d")
    assert bind(contract, w=(8, 1, 4), x=(5, 8)) == {"d": 8, "k": 4}
    assert "an axis of 'w' is 2, not 1" in refuse(contract, w=(8, 2, 4), x=(5, 8))


@pytest.mark.parametrize("text", ["u b d", "u: b-d", ": b", "u: b!"])
def test_a_contract_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        Contract.parse(text)


def test_groups_divide_channels() -> None:
    contract = Contract.parse("u: b d l, B: b n l | b g n l, d % g")
    assert bind(contract, u=(2, 6, 9), B=(2, 3, 4, 9)) == {"b": 2, "d": 6, "l": 9, "g": 3, "n": 4}
    assert bind(contract, u=(2, 6, 9), B=(2, 4, 9)) == {"b": 2, "d": 6, "l": 9, "n": 4}
    assert "which does not divide d" in refuse(contract, u=(2, 6, 9), B=(2, 0, 5, 9))
    assert refuse(contract, u=(2, 6, 9), B=(2, 4, 5, 9)) == (
        "op: operand 'B' is (2, 4, 5, 9), expected 'b g n l': axis g is 4, which does not divide d, 6 in 'u' (2, 6, 9)"
    )
