"""The bound of an amount of work: by hand on a device of round numbers."""

from __future__ import annotations

import dataclasses

import pytest

from flopscan.core.cost import Cost
from flopscan.devices.bound import Work, arithmetic_dtype, bound, rates
from flopscan.devices.device import Device, Figure, Source
from flopscan.errors import UsageError

SOURCE = Source("a test", "2026-01-01")


def figures(**values: float | None) -> dict[str, Figure]:
    return {dtype: Figure(value, SOURCE, "why") for dtype, value in values.items()}


ROUND = Device(
    "round", "Round numbers", "gpu", Figure(1e9, SOURCE), Figure(100.0, SOURCE),
    figures(bf16=1000.0, fp16=900.0, tf32=500.0), figures(fp32=50.0, bf16=80.0, fp64=None), Figure(10.0, SOURCE),
)  # fmt: skip


def test_each_unit_has_its_own_work_and_the_busiest_binds() -> None:
    cost = Cost(fma=100, add=3, mul=4, div=5, cmp=6, sqrt=1, exp=2, trig=3, read=30, written=20)
    work = Work.of(cost, 80, "fp32")
    assert work == Work("fp32", memory=50, matrix=160, vector=2 * 20 + 3 + 4 + 5 + 6, special=6)
    found = bound(ROUND, Work.of(cost, 80, "bf16"))
    assert found.busy == {"memory": 0.5, "matrix": 0.16, "vector": 58 / 80, "special": 0.6}
    assert (found.by, found.seconds, found.unknown) == ("vector", 58 / 80, ())


def test_products_run_on_vector_units_where_no_matrix_unit_has_the_format() -> None:
    assert bound(ROUND, Work("fp32", matrix=100, vector=50)).busy == {"vector": 3.0}
    assert bound(ROUND, Work("tf32", matrix=100)).busy == {"matrix": 0.2}
    assert rates(ROUND, "fp8").matrix == 900.0  # by way of 16 bits
    assert rates(ROUND, "int8").matrix == 900.0


def test_without_a_unit_for_them_special_functions_are_the_least_that_they_can_be() -> None:
    plain = dataclasses.replace(ROUND, special=None)
    assert bound(plain, Work("fp32", special=25, vector=25)).busy == {"vector": 1.0}


def test_a_rate_that_nobody_gives_is_left_out_and_named() -> None:
    found = bound(ROUND, Work("fp64", memory=10, matrix=5, vector=5, special=5))
    assert found.busy == {"memory": 0.1, "special": 0.5}
    assert found.unknown == ("vector fp64",)
    assert bound(ROUND, Work("fp64", memory=10)).unknown == ()  # nobody asked


def test_several_dtypes_share_the_units() -> None:
    found = bound(ROUND, Work("bf16", matrix=1000, memory=100), Work("tf32", matrix=1000))
    assert found.busy == {"memory": 1.0, "matrix": 3.0}
    assert bound(ROUND).seconds == 0.0 and bound(ROUND).by == ""


def test_a_call_computes_in_the_narrowest_floating_dtype() -> None:
    assert arithmetic_dtype(("float32", "bfloat16", "int64")) == "bf16"
    assert arithmetic_dtype(("float8_e5m2", "bfloat16")) == "fp8"
    assert arithmetic_dtype(("complex64", "float64")) == "fp32"
    assert arithmetic_dtype(("int8", "int32")) == "int8"
    with pytest.raises(UsageError, match="no dtype 'fp4' for a roofline; expected fp64, fp32"):
        rates(ROUND, "fp4")
