"""Operands of the selective scan, real and complex, and its references run on numbers that tally themselves."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from flopscan import rules
from flopscan.capture.operators import outputs_of, plain
from flopscan.core.tally import Array, Num, Pair, Tally
from flopscan.core.trace import Call

FORMS = ("d n", "b n l", "b g n l")
OPTIONAL = {"D": "d", "z": "b d l", "delta_bias": "d"}
GIVEN = tuple(given for k in range(4) for given in combinations(OPTIONAL, k))
SIZES = {"b": 2, "d": 4, "l": 3, "n": 2, "g": 2}


def make(B: str, C: str, given: tuple[str, ...] = (), complex_A: bool = False) -> dict[str, Any]:
    """Random operands in float64 and complex128; ``B`` and ``C`` are the forms of B and C."""
    generator = torch.Generator().manual_seed(1)

    def draw(axes: str, dtype: torch.dtype = torch.float64, pairs: int = 1) -> Tensor:
        *first, last = (SIZES[axis] for axis in axes.split())
        return torch.randn(*first, pairs * last, dtype=dtype, generator=generator)

    def coefficient(form: str) -> Tensor:
        if not complex_A:
            return draw(form)
        return draw(form, torch.complex128) if form == "d n" else draw(form, pairs=2)

    A = -draw("d n").exp()
    return {
        "u": draw("b d l"), "delta": draw("b d l"), "A": torch.complex(A, draw("d n")) if complex_A else A,
        "B": coefficient(B), "C": coefficient(C),
        **{name: draw(axes) if name in given else None for name, axes in OPTIONAL.items()},
    }  # fmt: skip


def prove(op: str, operands: dict[str, Any], expected: tuple[Tensor | None, ...]) -> None:
    """Assert that the reference of ``op`` computes ``expected`` to 1e-12, and tallies what the rule says it costs."""
    rule = rules.find(op)
    assert rule is not None and rule.reference is not None
    call = Call(op, {k: plain(v) for k, v in operands.items() if v is not None}, outputs_of(list(expected)))
    price = rule.price(call)
    assert price.ideal is not None, price.note
    tally: Tally[str] = Tally()
    computed = rule.reference(**{name: _numbers(value, tally) for name, value in operands.items()})
    computed = computed if isinstance(computed, tuple) else (computed,)
    for mine, theirs in zip(computed, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            values = [complex(x.re, x.im) if isinstance(x, Pair) else float(x) for x in mine.data]
            got = torch.tensor(values, dtype=theirs.dtype).reshape(theirs.shape)
            torch.testing.assert_close(got, theirs, rtol=1e-12, atol=1e-12)
    assert price.ideal.arithmetic() == {kind: count for kind, count in tally.items() if count}


def _numbers(value: Any, tally: Tally[str]) -> Any:
    if not isinstance(value, Tensor):
        return value
    flat = value.flatten().tolist()
    if value.is_complex():
        return Array(value.shape, [Pair(Num(x.real, tally), Num(x.imag, tally)) for x in flat])
    return Array(value.shape, [Num(x, tally) for x in flat])
