"""One scan under every convention of the field, by hand."""

from __future__ import annotations

import pytest

import flopscan
from flopscan import conventions
from flopscan.core.trace import Call, TensorSpec
from flopscan.report.scan import OPERATORS

B, D, L, N = 2, 6, 5, 16
STATES, STEPS = B * D * L * N, B * D * L


def scan(*given: str, op: str = OPERATORS[0]) -> Call:
    steps, state = TensorSpec((B, D, L)), TensorSpec((B, N, L))
    operands = {"u": steps, "delta": steps, "A": TensorSpec((D, N)), "B": state, "C": state, "delta_softplus": True}
    optional = {"D": TensorSpec((D,)), "z": steps, "delta_bias": TensorSpec((D,))}
    return Call(op, {**operands, **{k: optional[k] for k in given}}, (steps,))


@pytest.mark.parametrize(
    ("name", "bare", "with_skip_and_gate"),
    [
        ("gu", 9 * STATES, 9 * STATES),
        ("vmamba", 9 * STATES, 9 * STATES + 2 * STEPS),
        ("vmamba-v0", 7 * STATES // 2, 7 * STATES // 2 + STEPS),
        ("localvim", 5 * STATES + 2 * STEPS, 5 * STATES + 2 * STEPS),
        ("megatron", 7 * STATES, 7 * STATES),
        ("nemo", 2 * STATES, 2 * STATES),
        ("dispatcher", 2 * STATES, 2 * STATES),
        ("fvcore", 0, 0),
    ],
)
def test_forward(name: str, bare: int, with_skip_and_gate: int) -> None:
    convention = conventions.get(name)
    assert convention.of(scan(), None) == bare
    assert convention.of(scan("D", "z", "delta_bias"), None) == with_skip_and_gate


def test_backward_is_twice_where_a_convention_has_one() -> None:
    for name, factor in (("gu", 18), ("megatron", 14), ("nemo", 4)):
        assert conventions.get(name).of(scan(op=OPERATORS[1]), None) == factor * STATES


@pytest.mark.parametrize(
    ("name", "published"), [("vmamba_tiny_v0", 4.461), ("vmamba_small_v0", 9.112), ("vmamba_base_v0", 15.194)]
)
def test_the_papers_first_totals(name: str, published: float) -> None:
    """VMamba's README of January 2024 said 4.5, 9.1 and 15.2 G; a month later 5.6, 11.2 and 18.0."""
    assert round(flopscan.count(name).under("vmamba_v0") / 1e9, 3) == published


def test_the_dispatcher_sees_what_torchs_counter_reported() -> None:
    # FlopCounterMode on VMamba-T with its scan in plain PyTorch: 9.625 G, nothing of the scan, since n is 1
    assert flopscan.count("vmamba_tiny").under("dispatcher") == 2 * 4_812_621_312


def test_a_report_shows_its_scans_side_by_side() -> None:
    scan = flopscan.count("vmamba_tiny_v0").scan
    assert scan is not None
    assert (scan.calls, scan.states, scan.steps) == (15, 211_943_424, 13_246_464)
    rows = {row.convention: row for row in scan.rows}
    assert rows["vmamba"].value == 9 * scan.states + scan.steps
    assert rows["vmamba"].total == 5_626_902_528
    assert rows["gu"].value.unit == "FLOP"
    assert "fvcore" not in rows
    assert flopscan.count(lambda x: x * 2, (3,)).scan is None
