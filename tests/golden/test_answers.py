"""What every counter said of twelve whole models, kept in benchmarks/answers.json, and our conventions to the unit.

docs/models.md is the page of both; a difference that is declared there stands with the counter's own line.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

import answers
import whole_models
from flopscan.peers import tools

pytestmark = pytest.mark.peers

DOCS = Path(__file__).parents[2] / "docs"
KEPT: dict[str, Any] = answers.kept()["models"]
CASES = [
    (model, name, number)
    for model, said in KEPT.items()
    for one in said.values()
    for name, number in one.get("numbers", {}).items()
]


def counted(model: str) -> Any:
    """flopscan's report; skips where the model's library is not there."""
    try:
        return whole_models.counted(model)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("model", "convention", "number"), CASES)
def test_the_number_is_the_counters(model: str, convention: str, number: int) -> None:
    more, _ = whole_models.DECLARED.get((model, convention), (0, ""))
    assert counted(model).under(convention) == number - more


def test_every_counter_was_asked_about_every_model() -> None:
    assert {model: {*said} for model, said in KEPT.items()} == {
        model: {tool.name for tool in tools.TOOLS} for model in whole_models.INPUTS
    }


def test_a_counter_without_a_number_says_why() -> None:
    mute = [one for said in KEPT.values() for one in said.values() if not one.get("numbers")]
    assert all(one["status"] and one["reason"] for one in mute)


def test_what_is_declared_is_a_difference_of_a_counter_that_answered() -> None:
    answered = {(model, name) for model, name, _ in CASES}
    assert {*whole_models.DECLARED} <= answered


def test_the_page_is_the_one_in_the_documents() -> None:
    counted("mambavision_t")
    made = runpy.run_path(str(DOCS / "models.py"))
    assert made["page"]() == (DOCS / "models.md").read_text(), "run `make docs`"
