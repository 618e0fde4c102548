"""The conformance suite: flopscan passes it, and a counter that is wrong does not."""

from __future__ import annotations

import importlib.util
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import flopscan
from flopscan.errors import UsageError
from flopscan.testing.conformance import Case, Result, cases, check


def verdicts(counter: Any, unit: str, *groups: str) -> dict[str, str]:
    chosen = [case for case in cases() if case.group in groups]
    return {result.case.name: result.verdict for result in check(counter, unit, chosen)}


def test_flopscan_is_exact() -> None:
    def counted(model: Any, inputs: Any) -> int:
        return int(flopscan.count(model, *inputs, strict=True).macs)

    wrong = [str(result) for result in check(counted) if not result.exact]
    assert not wrong


def test_names_are_unique_and_derivations_given() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 40
    assert all(case.derivation for case in cases())


def test_torchs_own_counter_misses_what_is_known_of_it() -> None:
    def counted(model: Any, inputs: Any) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*inputs)
        return counter.get_total_flops()

    found = verdicts(counted, "FLOP", "layers", "scans")
    assert found["linear"] == found["conv2d, 4 groups"] == "exact"
    assert found["selective scan, an operator"] == "zero"


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        ((100,), 100.0, "exact"), ((100, 200), 200.0, "exact"), ((100, 200), 190.0, "-5.0%"), ((100,), 0.0, "zero"),
        ((100,), 101.0, "+1.0%"), ((0,), 0.0, "exact"), ((0,), 7.0, "7 too many"), ((100,), math.nan, "not a number"),
    ],
)  # fmt: skip
def test_verdicts(expected: tuple[int, ...], got: float, verdict: str) -> None:
    assert Result(cases()[0], expected, got).verdict == verdict


def test_a_counter_that_fails_is_a_result() -> None:
    def failing(model: Any, inputs: Any) -> int:
        raise ValueError("no such\nlayer")

    result = next(check(failing))
    assert (result.verdict, result.reason) == ("fails", "ValueError: no such layer")
    assert "expected 65,536 (b k n = 8*64*128), got ValueError" in str(result)


def test_the_unit_is_one_of_two() -> None:
    with pytest.raises(UsageError, match="unit is MAC or FLOP, got 'GFLOP'"):
        next(check(lambda model, inputs: 0, unit="GFLOP"))


def test_inputs_are_what_the_case_says() -> None:
    case: Case = next(c for c in cases() if c.words)
    (words,) = case.inputs()
    assert words.dtype == torch.int64 and int(words.max()) < case.words


def page() -> Any:
    """The module that writes docs/conformance.md."""
    place = Path(__file__).parents[2] / "docs" / "conformance.py"
    spec = importlib.util.spec_from_file_location("conformance_page", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_case_of_every_counter() -> None:
    from flopscan.peers import tools

    module = page()
    columns = module.kept()
    assert {title.split()[0] for title in columns} == {"flopscan", *(tool.name for tool in tools.TOOLS)}
    assert all(list(cells) == [case.name for case in cases()] for cells in columns.values())
    assert set(columns[f"flopscan {flopscan.__version__}"].values()) == {"="}
    text = module.PAGE.read_text()
    assert text == module.page(columns, text)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["torch", "fvcore", "ultralytics-thop", "torchinfo"])
def test_the_page_says_what_the_counter_says(name: str) -> None:
    from flopscan.peers import tools

    module, (tool,) = page(), tools.find(name)
    if tools.version(tool) is None:
        pytest.skip(f"{name} is not installed")
    cells = module.kept()[module.title(tool)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {case.name: module.ask(tool, case) for case in cases() if case.group == "layers"} == {
            case.name: cells[case.name] for case in cases() if case.group == "layers"
        }
