"""Checks of operands that are remembered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from flopscan.ops import selective_scan
from flopscan.ops.checks import remembered


def counted() -> tuple[Any, list[Any]]:
    """A check that lets by what has one axis, and what it was asked."""
    asked: list[Any] = []

    @remembered
    def check(x: Any, y: Any = None) -> None:
        asked.append(x)
        if x.dim() != 1:
            raise ValueError("one axis")

    return check, asked


def test_each_kind_of_operands_is_looked_at_once() -> None:
    check, asked = counted()
    for x in (torch.ones(3), torch.zeros(3), torch.nn.Parameter(torch.ones(3))):
        check(x)
    assert len(asked) == 1
    check(torch.ones(4))
    check(torch.ones(3).half())
    check(torch.ones(3, device="meta"))
    check(torch.ones(3), torch.ones(3))
    check(torch.ones(3), y=torch.ones(3))
    assert len(asked) == 6


def test_what_is_refused_is_refused_again() -> None:
    check, asked = counted()
    for _ in range(2):
        with pytest.raises(ValueError, match="one axis"):
            check(torch.ones(2, 2))
    assert len(asked) == 2


def test_tensors_of_other_kinds_are_always_looked_at() -> None:
    check, asked = counted()
    with FakeTensorMode():
        x = torch.ones(3)
    for _ in range(2):
        check(x)
        check(torch.ones(3), object())
    assert len(asked) == 4


def test_an_operator_still_refuses_what_does_not_fit() -> None:
    u, A, B = torch.ones(1, 2, 3), -torch.ones(2, 4), torch.ones(1, 4, 3)
    selective_scan(u, u, A, B, B)
    with pytest.raises(ValueError, match="'delta' is"):
        selective_scan(u, u[..., :2], A, B, B)
