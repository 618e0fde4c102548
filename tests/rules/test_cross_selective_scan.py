"""The cross selective scan: its rule against its tally and torch, and against the sum of its parts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

import flopscan
from flopscan import conventions
from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from flopscan.ops import cross_selective_scan
from proving import prove

GIVEN = [(), ("D",), ("delta_bias",), ("D", "delta_bias")]


def operands(given: tuple[str, ...], b: int = 2, d: int = 2, h: int = 2, w: int = 3, n: int = 2) -> dict[str, Any]:
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    found = {
        "x": torch.randn(b, d, h, w, **double),
        "delta": torch.rand(b, 4, d, h * w, **double),
        "A": -torch.rand(4 * d, n, **double),
        "B": torch.randn(b, 4, n, h * w, **double),
        "C": torch.randn(b, 4, n, h * w, **double),
        "D": torch.randn(4 * d, **double),
        "delta_bias": torch.rand(4 * d, **double),
    }
    return {name: x if name in ("x", "delta", "A", "B", "C", *given) else None for name, x in found.items()}


@pytest.mark.parametrize(("given", "softplus"), list(itertools.product(GIVEN, [False, True])))
def test_the_formula_is_the_tally_of_the_definition(given: tuple[str, ...], softplus: bool) -> None:
    own = operands(given)
    leaves = {name: None if x is None else x.requires_grad_() for name, x in own.items()}
    out = cross_selective_scan(**leaves, delta_softplus=softplus)
    prove("flopscan::cross_selective_scan", {**own, "delta_softplus": softplus}, out.detach())
    grad = torch.randn_like(out)
    grads = iter(torch.autograd.grad(out, [x for x in leaves.values() if x is not None], grad))
    expected = [None if x is None else next(grads) for x in leaves.values()]
    prove("flopscan::cross_selective_scan_backward", {"grad": grad, **own, "delta_softplus": softplus}, expected)


def parts(b: int, d: int, h: int, w: int, n: int) -> list[Call]:
    """A cross scan, a scan and a cross merge."""
    image, u, state = TensorSpec((b, d, h, w)), TensorSpec((b, 4 * d, h * w)), TensorSpec((b, 4, n, h * w))
    four = TensorSpec((b, 4, d, h * w))
    scan = {"u": u, "delta": u, "A": TensorSpec((4 * d, n)), "B": state, "C": state, "delta_softplus": True}
    return [
        Call("flopscan::cross_scan", {"x": image}, (four,)),
        Call("flopscan::selective_scan", scan, (u,)),
        Call("flopscan::cross_merge", {"y": TensorSpec((b, 4, d, h, w))}, (TensorSpec((b, d, h * w)),)),
    ]


def whole(b: int, d: int, h: int, w: int, n: int) -> Call:
    image, delta, state = TensorSpec((b, d, h, w)), TensorSpec((b, 4, d, h * w)), TensorSpec((b, 4, n, h * w))
    given = {"x": image, "delta": delta, "A": TensorSpec((4 * d, n)), "B": state, "C": state, "delta_softplus": True}
    return Call("flopscan::cross_selective_scan", given, (image,))


SIZES = (2, 6, 4, 5, 3)


def test_it_costs_what_its_parts_cost_without_the_bytes_between_them() -> None:
    cost, made = price_call(whole(*SIZES)).ideal, [price_call(part).ideal for part in parts(*SIZES)]
    assert cost is not None
    assert replace(cost, read=0, written=0) == replace(sum(made[1:], made[0]), read=0, written=0)
    b, d, h, w, n = SIZES
    assert cost.read == 4 * (5 * b * d * h * w + 4 * d * n + 8 * b * n * h * w)
    assert cost.written == 4 * b * d * h * w


@pytest.mark.parametrize("name", conventions.names())
def test_every_convention_adds_what_it_adds_for_the_parts(name: str) -> None:
    convention = conventions.get(name)
    if convention.whole is None:
        call, made = whole(*SIZES), parts(*SIZES)
        added = [convention.of(part, price_call(part).ideal) for part in made]
        assert convention.of(call, price_call(call).ideal) == sum(added)


def test_an_image_that_does_not_fit_is_not_counted_and_says_why() -> None:
    call = whole(*SIZES)
    wrong = Call(call.op, {**call.args, "x": TensorSpec((2, 6, 4, 4))}, call.outputs)
    priced = price_call(wrong)
    assert priced.ideal is None
    assert "axis l is 20 in 'delta' (2, 4, 6, 20), expected h w, 4 times 4 in 'x'" in priced.note


def test_a_run_for_real_costs_what_it_costs_on_shapes() -> None:
    own = {name: None if x is None else x.float() for name, x in operands(("D",)).items()}

    def run(x: Any, delta: Any, A: Any, B: Any, C: Any) -> Any:
        return cross_selective_scan(x, delta, A, B, C, delta_softplus=True)

    given = [own[name] for name in ("x", "delta", "A", "B", "C")]
    report = flopscan.count(run, *given, strict=True)
    assert report.flops == flopscan.count(run, *given, run=True, strict=True).flops > 0
