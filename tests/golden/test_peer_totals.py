"""What the real tools printed on ten whole models, and our conventions to the unit, on shapes.

`data/peer_totals.json` holds model -> definition and tool -> number; a tool that failed has no number there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flopscan
import whole_models
from golden.columns import TOTALS

pytestmark = pytest.mark.peers

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "peer_totals.json").read_text())["models"]
MODELS = {  # the model's name in the file: in whole_models.py
    "mamba130m": "mamba", "mamba2_130m": "mamba2", "gpt2": "gpt2", "bert": "bert", "qwen2moe": "qwen2_moe",
    "llama1b": "llama", "vit_b": "vit_b", "swin_t": "swin_t", "convnext_t": "convnext_t", "resnet50": "resnet50",
}  # fmt: skip


def counted(name: str) -> flopscan.Report:
    """The model as the file defines it, 1x128 tokens or 1x3x224x224; skips where its library is not there."""
    try:
        report: flopscan.Report = whole_models.counted(MODELS[name])
    except ImportError as error:
        pytest.skip(str(error))
    return report


CASES = [
    (name, tool, number)
    for name, model in GOLDEN.items()
    for tool, said in model["tools"].items()
    for number in ("value", "macs")
    if said.get(number) is not None
]


@pytest.mark.parametrize(("name", "tool", "number"), CASES)
def test_the_total_is_the_tools(name: str, tool: str, number: str) -> None:
    convention = TOTALS[tool][number]
    more, _ = whole_models.DECLARED.get((MODELS[name], convention), (0, ""))
    assert counted(name).under(convention) == int(GOLDEN[name]["tools"][tool][number]) - more


@pytest.mark.parametrize("name", GOLDEN)
def test_the_model_is_the_same(name: str) -> None:
    assert counted(name).params == GOLDEN[name]["params"]
