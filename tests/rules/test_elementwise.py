"""Elementwise operators: options that change the count, complex numbers, integers, and counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from flopscan.testing import check_rule
from proving import prove

WITH_OPTIONS = (
    "add", "sub", "rsub", "mul", "div", "pow", "addcmul", "addcdiv", "clamp", "round", "logit", "logit_backward", "log",
    "angle", "eq", "ne", "sgn", "elu", "elu_backward", "softplus", "softplus_backward", "gelu", "gelu_backward",
    "rrelu_with_noise_backward",
)  # fmt: skip


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option(name: str) -> None:
    """The examples choose among options at random: enough draws to meet them all."""
    for seed in range(6, 40):
        check_rule(f"aten::{name}", seed)


def _arithmetic(op: str, dtype: str = "float32", out: str = "", **scalars: Any) -> dict[str, int] | str:
    operands = scalars.pop("operands", ("self",))
    args = {name: TensorSpec((2, 5), dtype) for name in operands}
    found = price_call(Call(f"aten::{op}", {**args, **scalars}, (TensorSpec((2, 5), out or dtype),)))
    return found.note if found.ideal is None else found.ideal.arithmetic()


@pytest.mark.parametrize(
    ("exponent", "each"),
    [
        (0, {}),  # the constant 1
        (1, {}),
        (2, {"mul": 1}),
        (3, {"mul": 2}),  # x * x * x
        (4, {"mul": 2}),  # the square of the square
        (10, {"mul": 4}),  # x2, x4, x5 = x4 * x, x10
        (-1, {"div": 1}),
        (-2, {"mul": 1, "div": 1}),
        (0.5, {"sqrt": 1}),
        (-0.5, {"sqrt": 1}),
        (1.5, {"sqrt": 1, "mul": 1}),
        (0.3, {"exp": 2, "mul": 1}),  # exp(p * log(x))
    ],
)
def test_power(exponent: float, each: dict[str, int]) -> None:
    assert _arithmetic("pow", exponent=exponent) == {kind: 10 * count for kind, count in each.items()}


def test_complex_arithmetic() -> None:
    two = ("self", "other")
    # (a + bi)(c + di) = (ac - bd) + (ad + bc)i; the quotient multiplies by the conjugate and divides by c*c + d*d
    assert _arithmetic("mul", "complex64", operands=two) == {"mul": 40, "add": 20}
    assert _arithmetic("div", "complex64", operands=two) == {"mul": 60, "add": 30, "div": 20}
    assert _arithmetic("add", "complex64", operands=two) == {"add": 20}
    assert _arithmetic("abs", "complex64", out="float32") == {"mul": 20, "add": 10, "sqrt": 10}
    assert _arithmetic("exp", "complex64") == {"exp": 10, "trig": 20, "mul": 20}
    assert _arithmetic("eq", "complex64", out="bool", operands=two) == {"cmp": 20}
    assert _arithmetic("mul", "complex64", other=2.0) == {"mul": 20}
    assert _arithmetic("add", "complex64", other=2.0) == {"add": 10}


def test_real_and_complex_together() -> None:
    """``a * (c + di)`` is two multiplications, ``a - (c + di)`` a subtraction: whichever comes first."""
    real, both = TensorSpec((10,)), TensorSpec((10,), "complex64")
    for op, expected in (("mul", {"mul": 20}), ("add", {"add": 10}), ("sub", {"add": 10})):
        for left, right in ((real, both), (both, real)):
            found = price_call(Call(f"aten::{op}", {"self": left, "other": right}, (both,)))
            assert found.ideal is not None and found.ideal.arithmetic() == expected
    assert _arithmetic("mul", "float32", out="complex64", other=2j) == {"mul": 20}


def test_a_function_that_is_not_defined_here_for_complex_numbers_says_so() -> None:
    assert "no formula" in str(_arithmetic("erf", "complex64"))
    assert "no formula" in str(_arithmetic("lt", "complex64", out="bool", operands=("self", "other")))


def test_integers_cost_bytes_alone() -> None:
    for op in ("add", "mul", "floor_divide", "bitwise_and", "eq", "maximum"):
        assert _arithmetic(op, "int64", operands=("self", "other")) == {}
    assert _arithmetic("div", "int64", out="float32", operands=("self", "other")) == {"div": 10}


@pytest.mark.parametrize(
    ("op", "options", "each"),
    [
        ("add", {"other": 1.0}, {"add": 1}),
        ("add", {"operands": ("self", "other"), "alpha": 2}, {"add": 1, "mul": 1}),
        ("add", {"other": 1.0, "alpha": 2}, {"add": 1}),  # two constants are one
        ("div", {"other": 3.0, "rounding_mode": "floor"}, {"div": 1, "cmp": 1}),
        ("remainder", {"other": 3.0}, {"div": 1, "cmp": 1, "mul": 1, "add": 1}),
        ("clamp", {"min": 0.0}, {"cmp": 1}),
        ("clamp", {"min": 0.0, "max": 1.0}, {"cmp": 2}),
        ("sigmoid", {}, {"exp": 1, "add": 1, "div": 1}),
        ("silu", {}, {"exp": 1, "add": 1, "div": 1}),  # x / (1 + exp(-x)): no product more
        ("tanh", {}, {"trig": 1}),
        ("neg", {}, {}),
        ("relu", {}, {"cmp": 1}),
        ("leaky_relu", {}, {"cmp": 1, "mul": 1}),  # both branches
        ("gelu", {}, {"mul": 3, "trig": 1, "add": 1}),  # x * c; erf; 1 +; x / 2; the product
        ("gelu", {"approximate": "tanh"}, {"mul": 5, "trig": 1, "add": 2}),  # x*x, *k, c +, *x; tanh; 1 +; x / 2; *
        ("hardswish", {}, {"mul": 2, "add": 1, "cmp": 2}),
        ("softplus", {}, {"exp": 2, "cmp": 1}),
        ("masked_fill", {"mask": TensorSpec((2, 5), "bool"), "value": float("-inf")}, {"cmp": 1}),
    ],
)
def test_counts_by_hand(op: str, options: dict[str, Any], each: dict[str, int]) -> None:
    assert _arithmetic(op, **options) == {kind: 10 * count for kind, count in each.items()}


def test_bytes_of_a_mask_and_of_a_broadcast_operand() -> None:
    args = {"self": TensorSpec((4, 8), "float16"), "mask": TensorSpec((8,), "bool"), "value": 0.0}
    found = price_call(Call("aten::masked_fill", args, (TensorSpec((4, 8), "float16"),))).ideal
    assert found is not None and (found.read, found.written) == (64 + 8, 64)


def test_special_functions_are_one_operation_each() -> None:
    assert _arithmetic("special_bessel_j0") == _arithmetic("digamma") == _arithmetic("polygamma", n=1) == {"trig": 10}


def test_log_sigmoid_backward_needs_no_buffer() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    g = torch.rand_like(x)
    _, buffer = torch.ops.aten.log_sigmoid_forward(x)
    expected = torch.ops.aten.log_sigmoid_backward(g, x, buffer)
    prove("aten::log_sigmoid_backward", {"grad_output": g, "self": x, "buffer": buffer}, expected)


def test_dropout() -> None:
    x = TensorSpec((4, 5))
    mask = TensorSpec((4, 5), "bool")

    def cost(**options: Any) -> dict[str, int]:
        found = price_call(Call("aten::native_dropout", {"input": x, **options}, (x, mask))).ideal
        assert found is not None
        return found.arithmetic()

    assert cost(p=0.1, train=True) == {"mul": 20, "cmp": 20}
    assert cost(p=0.1) == {"mul": 20, "cmp": 20}  # train not given means training
    assert cost(p=0.1, train=False) == cost(p=0.0, train=True) == {}
