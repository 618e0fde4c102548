"""Run the reference of a rule on real operands: values against an expectation, tally against the rule's price."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flopscan import rules
from flopscan.capture.operators import outputs_of, plain
from flopscan.core.rule import parameters
from flopscan.core.tally import Array, Num, Pair, Tally
from flopscan.core.trace import Call


def call_on(op: str, operands: dict[str, Any], result: Any) -> Call:
    """The call of ``op`` on real operands."""
    return Call(op, {k: plain(v) for k, v in operands.items() if v is not None}, outputs_of(result))


def numbers(value: Any, tally: Tally[str]) -> Any:
    """Tensors as arrays of tallying numbers (masks and indices as they are), lists of tensors likewise."""
    if isinstance(value, Tensor):
        flat = value.flatten().tolist()
        if value.is_complex():
            return Array(value.shape, [Pair(Num(x.real, tally), Num(x.imag, tally)) for x in flat])
        return Array(value.shape, [Num(x, tally) for x in flat] if value.is_floating_point() else flat)
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        return [numbers(v, tally) for v in value]
    return value


def prove(op: str, operands: dict[str, Any], expected: Any, tolerance: float = 1e-9) -> None:
    """Raise AssertionError unless the reference of ``op`` gives ``expected`` and tallies the rule's ideal cost."""
    rule = rules.find(op)
    assert rule is not None and rule.reference is not None
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    price = rule.price(call_on(op, operands, [t for t in expected if t is not None]))
    assert price.ideal is not None, price.note
    tally: Tally[str] = Tally()
    wanted = dict(parameters(rule.reference))
    given = {k: numbers(v, tally) for k, v in operands.items() if k in wanted and v is not None}
    computed = rule.reference(**given)
    computed = computed if isinstance(computed, tuple) else (computed,)
    for mine, theirs in zip(computed, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            wide = torch.complex128 if theirs.is_complex() else torch.float64
            values = [complex(x.re, x.im) if isinstance(x, Pair) else float(x) for x in mine.data]
            got = torch.tensor(values, dtype=wide).reshape(theirs.shape)
            torch.testing.assert_close(got, theirs.to(wide), rtol=tolerance, atol=tolerance)
    assert price.ideal.arithmetic() == {k: v for k, v in tally.items() if v}
