"""What the emulator cannot see of the CUDA sources."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

OPS = Path(str(files("flopscan.ops")))
SOURCES = sorted(p.relative_to(OPS) for p in OPS.rglob("*.cu*"))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_what_touches_memory_in_assembly_is_volatile(source: Path) -> None:
    """The compiler may move other assembly ahead of the condition under which it stands: decisions/0012."""
    text = (OPS / source).read_text(encoding="utf-8")
    assert not re.findall(r'asm\s*\(\s*"\s*(?:ld|st|red|atom|bar)\b[^"]*"', text)


def test_there_are_sources() -> None:
    assert {p.parts[0] for p in SOURCES} == {
        "gpu", "selective_scan", "cross_selective_scan", "selective_state_update", "causal_conv1d",
    }  # fmt: skip
