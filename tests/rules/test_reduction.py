"""Reductions and softmax: what is reduced, and counts by hand."""

from __future__ import annotations

from typing import Any

import pytest

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.testing import check_rule

WITH_OPTIONS = (
    "sum",
    "mean",
    "max",
    "var",
    "std_mean",
    "amax",
    "linalg_vector_norm",
    "norm",
    "dist",
    "renorm",
    "cumsum",
)


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option(name: str) -> None:
    """The examples choose axes, orders and corrections at random: enough draws to meet them all."""
    for seed in range(6, 30):
        check_rule(f"aten::{name}", seed)


def _cost(op: str, shape: tuple[int, ...], out: tuple[int, ...], dtype: str = "float32", **options: Any) -> Cost:
    found = price_call(Call(f"aten::{op}", {"self": TensorSpec(shape, dtype), **options}, (TensorSpec(out, dtype),)))
    assert found.ideal is not None, found.note
    return found.ideal


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("sum", {"add": 28}),  # 4 sums of 8 numbers, 7 additions each
        ("mean", {"add": 28, "div": 4}),
        ("prod", {"mul": 28}),
        ("amax", {"cmp": 28}),
        ("argmax", {"cmp": 28}),
        ("any", {"cmp": 32}),  # each number against 0
        ("var", {"add": 28 + 32 + 28, "mul": 32, "div": 8}),  # mean, centring, squares
        ("std", {"add": 28 + 32 + 28, "mul": 32, "div": 8, "sqrt": 4}),
        ("linalg_vector_norm", {"mul": 32, "add": 28, "sqrt": 4}),
        ("logsumexp", {"cmp": 28, "add": 32 + 28 + 4, "exp": 32 + 4}),
    ],
)
def test_four_results_of_eight_numbers(op: str, expected: dict[str, int]) -> None:
    assert _cost(op, (4, 8), (4,), dim=(1,)).arithmetic() == expected


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("_softmax", {"cmp": 28, "add": 32 + 28, "exp": 32, "div": 32}),  # max; x - max; sum; quotients
        ("_safe_softmax", {"cmp": 28 + 4, "add": 32 + 28, "exp": 32, "div": 32}),
        ("_masked_softmax", {"cmp": 28 + 32, "add": 32 + 28, "exp": 32, "div": 32}),
        ("_log_softmax", {"cmp": 28, "add": 32 + 28 + 32, "exp": 32 + 4}),
        ("cumsum", {"add": 28}),
        ("cummax", {"cmp": 28}),
        ("logcumsumexp", {"cmp": 28, "add": 56, "exp": 56}),
    ],
)
def test_four_lines_of_eight_numbers(op: str, expected: dict[str, int]) -> None:
    assert _cost(op, (4, 8), (4, 8), dim=1).arithmetic() == expected
    assert _cost(op, (8, 4), (8, 4), dim=0).arithmetic() == expected


def test_the_edges() -> None:
    assert _cost("sum", (), ()).arithmetic() == {}
    assert _cost("sum", (0, 3), (3,), dim=(0,)).arithmetic() == {}  # an empty sum is 0, not -1 additions
    assert _cost("cumsum", (0, 3), (0, 3), dim=0).arithmetic() == {}
    assert _cost("_softmax", (), (), dim=0).arithmetic() == {"exp": 1, "div": 1, "add": 1}
    assert _cost("sum", (4, 8), (), "int64").arithmetic() == {}
    assert _cost("sum", (4, 8), (), "complex64").arithmetic() == {"add": 62}
    assert _cost("mean", (4, 8), (), "complex64").arithmetic() == {"add": 62, "div": 2}


def test_an_expanded_operand_is_read_once() -> None:
    spec = TensorSpec((4, 8), "float32", (1, 0))
    found = price_call(Call("aten::sum", {"self": spec}, (TensorSpec(()),))).ideal
    assert found is not None and (found.add, found.read, found.written) == (31, 16, 4)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (1, {"add": 7}),
        (0, {"cmp": 8, "add": 7}),
        (float("inf"), {"cmp": 7}),
        (3, {"mul": 16 + 1, "add": 7, "exp": 2}),  # |x|**3 is two products, the cube root exp(log / 3)
    ],
)
def test_orders_of_a_norm(order: float, expected: dict[str, int]) -> None:
    assert _cost("linalg_vector_norm", (8,), (), ord=order).arithmetic() == expected


def test_trace_reads_its_diagonal() -> None:
    found = _cost("trace", (4, 8), ())
    assert (found.add, found.read, found.written) == (3, 16, 4)
