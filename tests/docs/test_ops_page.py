"""docs/ops.md: its code runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_there_is_code() -> None:
    assert len(CODE) == 3


@pytest.mark.parametrize("code", CODE, ids=["a scan", "an image", "install"])
def test_the_code_runs(code: str) -> None:
    if "mamba_ssm" in code and importlib.util.find_spec("mamba_ssm") is not None:
        pytest.skip("mamba_ssm is installed: it would be imported itself")
    names: dict[str, object] = {}
    exec(code, names)
    if "image" in names:
        assert names["image"].shape == (2, 64, 14, 14)  # type: ignore[attr-defined]
    elif "y" in names:
        assert names["y"].shape == (2, 64, 196)  # type: ignore[attr-defined]
    else:
        assert names["selective_scan_fn"].__module__ == "flopscan.ops.installing"  # type: ignore[attr-defined]
