"""docs/one-scan.md says what the rules and conventions say today; what tools said is as old as its date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import one_scan

TEXT = (Path(__file__).parents[2] / "docs" / "one-scan.md").read_text()


@pytest.mark.parametrize("shape", one_scan.SHAPES, ids=lambda shape: shape.name)
def test_the_page_is_current(shape: one_scan.Shape) -> None:
    title = f"## {shape.name[0].upper()}{shape.name[1:]}\n"
    section = TEXT[TEXT.index(title) + len(title) :].split("\n## ")[0]
    table = section[: section.index("| tool |")]
    shown = re.findall(r"^\| (?!flopscan convention)([^|]+) \| ([^|]+) \| ([\d,]+) \| ([^|]+) \|$", table, re.MULTILINE)
    now = [(name, unit, f"{value:,}", formula) for name, unit, value, formula in one_scan.conventional(shape)]
    assert shown == now, "run python benchmarks/one_scan.py --write"
    for size in ("b", "d", "l", "n"):
        assert f"{size}={getattr(shape, size)}" in section


def test_who_counts_so_is_current() -> None:
    table = TEXT[TEXT.index("## Who counts so") :]
    shown = re.findall(r"^\| (?!flopscan convention)([^|-][^|]*) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    assert shown == one_scan.users(), "run python benchmarks/one_scan.py --write"
    of_the_field = {"dispatcher", "gu", "localvim", "megatron", "nemo", "vmamba", "vmamba-v0"}
    assert {name for name, *_ in shown} == of_the_field
