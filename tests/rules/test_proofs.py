"""Every rule with a reference and an example is proven at random sizes: values against torch, counts exactly."""

from __future__ import annotations

import pytest

from flopscan import rules
from flopscan.core.composite import Composite
from flopscan.core.pointwise import Pointwise
from flopscan.testing import check_rule


def _provable() -> list[str]:
    found = []
    for rule in {id(r): r for r in rules.load().values()}.values():
        if rule.reference is None or isinstance(rule, Composite):  # made of others, and no operator of torch
            continue
        if isinstance(rule, Pointwise) or rule.example is not None or rule.contract is not None:
            found += [op for op in rule.ops if op.startswith("aten::")]
    return sorted(found)


@pytest.mark.parametrize("op", _provable())
def test_rule_costs_what_its_reference_does(op: str) -> None:
    for seed in range(6):
        check_rule(op, seed)
