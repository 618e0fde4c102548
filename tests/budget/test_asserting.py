"""`flops_budget`, as a function and as pytest's fixture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import flopscan
from budget.nets import Net
from flopscan import rules
from flopscan.budget.asserting import BudgetError, flops_budget
from flopscan.errors import UsageError

pytest_plugins = ["pytester"]
PLUGIN = "flopscan.budget.pytest_plugin"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("inputs", [(1, 8), flopscan.shape(1, 8), torch.zeros(1, 8), [(1, 8)], {"x": (1, 8)}])
def test_within_budget_gives_the_report(inputs: Any) -> None:
    report = flops_budget(
        Net(), inputs, macs="==592", flops="<=1_216", params="590 +-1%", transcendentals="<1", bytes=">1k", fvcore="<1k"
    )
    assert (report.convention.name, int(report.value), report.params) == ("macs", 592, 592)


def test_a_target_on_its_own_input() -> None:
    assert flopscan.flops_budget("vmamba_tiny", vmamba="==4_905_609_984", params="<31M").unit == "mixed"


def test_backward_and_options_are_those_of_count() -> None:
    counted = flopscan.count("vmamba_tiny", options={"num_classes": 10}, backward=True)
    flops_budget("vmamba_tiny", options={"num_classes": 10}, backward=True, flops=f"=={int(counted.flops)}")


def test_what_is_over_is_told_with_the_heaviest_modules() -> None:
    with pytest.raises(BudgetError) as error:
        flops_budget(Net(), (1, 8), macs="<=500", flops="<=2k", params="==600")
    rows = [" ".join(row.split()) for row in str(error.value).splitlines()]
    assert rows == [
        "Net is not within its budget, on 1x8 float32",
        "MACs 592 MAC breaks the limit '<=500': 92 too many",
        "FLOPs 1,216 FLOP is within the limit '<=2k'",
        "parameters 592 parameters breaks the limit '==600': 8 too few",
        "",
        "heaviest modules share MACs",
        "blocks.*.up 2x Linear 43.2% 256",
        "blocks.*.down 2x Linear 43.2% 256",
        "head Linear 13.5% 80",
    ]
    assert error.value.report.params == 592


def test_the_table_is_of_what_is_over() -> None:
    with pytest.raises(BudgetError, match=r"heaviest modules +share +exp/log/trig\n.*act +2x GELU +100\.0% +32"):
        flops_budget(Net(act=torch.nn.GELU), (1, 8), flops="<=2k", transcendentals="==0")


def test_what_is_not_counted_breaks_any_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    find = rules.find
    monkeypatch.setattr(rules, "find", lambda op: None if op == "aten::relu" else find(op))
    with pytest.raises(BudgetError, match=r"is within the limit '<=1G'\nnot counted: aten::relu x2 "):
        flops_budget(Net(), (1, 8), flops="<=1G")
    assert flops_budget(Net(), (1, 8), flops="<=1G", allow_uncounted=True).uncounted


@pytest.mark.parametrize(
    ("inputs", "budgets", "text"),
    [
        ((1, 8), {}, "expected a budget, as in flops_budget(model, inputs, macs='<=5G')"),
        ((1, 8), {"macs": "5G"}, "'5G' does not say what of it"),
        ((1, 8), {"mac": "<=5G"}, "there is no convention 'mac'; did you mean macs"),
        (224, {"macs": "<=5G"}, "expected inputs as a shape (1, 3, 224, 224), a tensor, a list or a mapping of such;"),
    ],
)
def test_what_is_no_budget(inputs: Any, budgets: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError) as error:
        flops_budget(Net(), inputs, **budgets)
    assert str(error.value).startswith(text)


def test_the_fixture(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PYPROJECT.parent / "src"), str(PYPROJECT.parent / "tests")]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # where flopscan is installed, pytest loads it by itself
    pytester.makepyfile(
        """
        from budget.nets import Net

        def test_fine(flops_budget):
            assert flops_budget(Net(), (1, 8), macs="<=592").params == 592

        def test_over(flops_budget):
            flops_budget(Net(), (1, 8), macs="<=591")

        def test_wrong(flops_budget):
            flops_budget(Net(), (1, 8), macs="591")
        """
    )
    done = pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(
        [
            '>       flops_budget(Net(), (1, 8), macs="<=591")',
            "E       flopscan.budget.asserting.BudgetError: Net is not within its budget, on 1x8 float32",
            "E       MACs  592  MAC  breaks the limit '<=591': 1 too many",
            "E       blocks.[*].up    2x Linear  43.2%  256",
            "E       flopscan.errors.UsageError: '591' does not say what of it: *",
        ]
    )
    assert "asserting.py" not in done.stdout.str(), "a failure shows the test and not flopscan"


def test_pytest_finds_the_plugin_and_it_loads_nothing_heavy() -> None:
    entry = re.search(r'\[project\.entry-points\.pytest11\]\nflopscan = "([\w.]+)"\n', PYPROJECT.read_text())
    assert entry is not None and entry[1] == PLUGIN
    code = (
        f"import sys, pytest; before = set(sys.modules); import {PLUGIN};"
        "print(*sorted(name for name in set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PYPROJECT.parent / "src")}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert out.stdout.split() == ["flopscan", "flopscan.budget", PLUGIN, "flopscan.version"]
