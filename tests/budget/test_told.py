"""What a check found as text, Markdown, workflow commands and SARIF: whole, escaped, at the right line."""

from __future__ import annotations

import importlib.metadata
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from budget.nets import Block, Net, counted, locked
from budget.test_check import line
from flopscan.budget import check, check_text, findings, github, lockfile, sarif
from flopscan.budget.check import Outcome
from flopscan.budget.findings import Finding
from flopscan.budget.lock import Entry, Lock
from flopscan.errors import FlopscanError, UsageError

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / ".node" / "node_modules" / "@microsoft" / "jest-sarif" / "lib" / "schemas" / "sarif-2.1.0-rtm.5.json"


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """One of each kind: grew and over a limit, shrank, same, failed, newly uncounted."""

    def one(name: str, model: nn.Module, **limits: str) -> Outcome:
        return check.check(name, locked(Net(), limits=limits), Fraction(0), counted(model), {"torch": "3"})

    grew = one("grew | <b>", Net((20, 20), nn.GELU), params="<= 700")
    blind = replace(one("blind", Net()), newly_uncounted={"my::op": (0, 2), "my::other": (1, 3)})
    failed = Outcome("gone", Entry("gone.py:Net"), "there is no file gone.py; 100%, or\r\nso")
    return [grew, one("shrank", Net((12, 16))), one("same", Net()), failed, blind]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[Outcome]) -> str:
    """The lock of `outcomes`, in the repository that this file is in."""
    monkeypatch.chdir(ROOT)
    lockfile.save(Lock({outcome.name: outcome.entry for outcome in outcomes}), str(tmp_path / "flops.lock"))
    return str(tmp_path / "flops.lock")


def test_findings_and_their_lines(outcomes: list[Outcome], path: str) -> None:
    found = findings.of(outcomes, path)
    told = [(finding.rule, finding.level, finding.name, finding.file, finding.line) for finding in found]
    nets = "tests/budget/nets.py"
    assert told == [
        ("cost-grew", "error", "grew | <b>", nets, line(Block, "self.act(self.up(x))")),
        ("cost-grew", "error", "grew | <b>", nets, line(Block, "return self.down(y)")),
        ("over-limit", "error", "grew | <b>", "flops.lock", lockfile.line_of(path, "grew | <b>", "limits")),
        ("cost-shrank", "note", "shrank", "flops.lock", lockfile.line_of(path, "shrank")),
        ("not-counted", "error", "gone", "flops.lock", lockfile.line_of(path, "gone")),
        ("newly-uncounted", "error", "blind", "flops.lock", lockfile.line_of(path, "blind")),
        ("newly-uncounted", "error", "blind", "flops.lock", lockfile.line_of(path, "blind")),
    ]
    texts = [finding.text for finding in found]
    assert texts[0].startswith("grew | <b> grew: FLOPs 1,216 -> 1,600 (+31.6%); exp/log/trig 0 -> 40 (+40); parameters")
    assert texts[0].endswith("This line: 800 FLOP in aten::mm, aten::gelu of blocks.0.up and 3 more")
    assert texts[2] == "grew | <b>: parameters 720 breaks the limit '<= 700': 20 too many"
    assert texts[3].endswith("(-10.9%); parameters 592 -> 528 (-10.8%); flopscan lock --update keeps it so")
    assert texts[5:] == [
        "blind: my::op x2 is not counted, not called when it was locked",
        "blind: my::other x3 is not counted, x1 when it was locked",
    ]


def test_the_text(outcomes: list[Outcome], path: str) -> None:
    text = check_text.render(outcomes, "budgets/flops.lock", width=100)
    rows = {" ".join(row.split()) for row in text.splitlines()}
    assert {
        "budgets/flops.lock: 3 of 5 targets not within budget",
        "grew | <b> 1,600 FLOP is not within its budget",
        "same 1,216 FLOP as locked",
        "gone - could not be counted",
        "FLOPs 1,216 1,600 +384 +31.6%",
        "exp/log/trig 0 40 +40",
        "blocks.0-1 2x Block 1.056 k 1.440 k +384 +40 +128",
        "act 2x ReLU -> GELU 32 160 +128 +40 =",
        "aten::gelu - 160 +160 +40 =",
        "parameters 720 breaks the limit '<= 700': 20 too many",
        "my::op x2 is not counted, not called when it was locked",
        "there is no file gone.py; 100%, or so",
        "other versions than when it was locked: flopscan 1 -> not there, torch 2 -> 3",
        "if this is meant: flopscan lock --update 'grew | <b>' --lock budgets/flops.lock",
        "shrank costs less than its lock says, on 1x8",
        "to keep it so: flopscan lock --update shrank --lock budgets/flops.lock",
    } <= rows


@pytest.mark.parametrize("width", range(44, 161, 4))
def test_no_line_is_too_long_and_no_digit_is_cut(outcomes: list[Outcome], width: int) -> None:
    text = check_text.render(outcomes, "flops.lock", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"{value:,}" in text for value in (1216, 1600, 592, 720, 528))
    assert text == re.sub(r"\x1b\[[\d;]*m", "", check_text.render(outcomes, "flops.lock", width=width, color=True))


def test_within_budget_is_two_lines(outcomes: list[Outcome]) -> None:
    assert check_text.render([outcomes[2]], "flops.lock", width=80).splitlines() == [
        "flops.lock: within budget", "", "target         now", "same    1,216 FLOP  as locked",
    ]  # fmt: skip


def test_commands_are_escaped(outcomes: list[Outcome], path: str) -> None:
    lines = github.commands([*findings.of(outcomes, path), Finding("r", "note", "n", "a:b, 5%\nc", "x,y:z.py", 3)])
    assert all(re.fullmatch(r"::(error|notice) file=[^,:]*,line=\d+,title=[^,:]*::[^\r\n]*", text) for text in lines)
    assert lines[0].startswith("::error file=tests/budget/nets.py,line=")
    assert "::there" not in lines[4] and lines[4].endswith("there is no file gone.py; 100%25, or%0D%0Aso")
    assert lines[-1] == "::notice file=x%2Cy%3Az.py,line=3,title=flopscan%3A r::a:b, 5%25%0Ac"


def test_the_summary(outcomes: list[Outcome], path: str) -> None:
    text = github.summary(outcomes, "flops.lock")
    assert text.startswith("## flopscan: 3 of 5 targets not within budget\n\nAgainst `flops.lock`.\n")
    assert "| `grew \\| <b>` | ❌ | FLOPs | 1,216 | 1,600 | **+31.6%** |" in text
    assert "| `same` | ✅ | FLOPs | 1,216 | 1,216 | = |" in text
    assert "| &emsp;`blocks.0-1` 2x Block | 1,056 | 1,440 | +36.4% |" in text
    assert "there is no file gone.py; 100%, or so" in text and f"nets.py:{line(Block, 'self.act(')} forward" in text
    assert "If this is meant: `flopscan lock --update 'grew | <b>'`" in text
    tables = [row for row in text.splitlines() if row.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in tables} == {7, 5}, "no cell breaks its table"


def test_a_summary_is_added_to_those_of_other_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(github.VARIABLE, raising=False)
    with pytest.raises(UsageError, match=r"\$GITHUB_STEP_SUMMARY names, and it is not set"):
        github.summary_path()
    monkeypatch.setenv(github.VARIABLE, str(tmp_path / "summary.md"))
    for text in ("one\n", "two ✅\n"):
        github.append(text, github.summary_path())
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == "one\ntwo ✅\n"
    with pytest.raises(FlopscanError, match=r"cannot write .*: No such file or directory; it is what \$GITHUB_STEP"):
        github.append("three", str(tmp_path / "none" / "summary.md"))


def log(outcomes: list[Outcome], path: str) -> dict[str, Any]:
    found = findings.of(outcomes, path)
    odd = Finding("over-limit", "error", "n", "text", "a folder/é%.py", 1)
    return dict(json.loads(sarif.render([*found, odd], importlib.metadata.version("flopscan"))))


def test_sarif(outcomes: list[Outcome], path: str) -> None:
    (run,) = log(outcomes, path)["runs"]
    results = run["results"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in results)
    first = results[0]["locations"][0]["physicalLocation"]
    assert first["artifactLocation"]["uri"] == "tests/budget/nets.py"
    assert first["region"]["startLine"] == line(Block, "self.act(self.up(x))")
    uris = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results]
    assert all(not re.match(r"/|[a-z]+:|\.\.", uri) for uri in uris), "relative to the root of the repository"
    assert uris[-1] == "a%20folder/%C3%A9%25.py"


def test_sarif_is_of_the_model_that_was_generated_from_the_schema(outcomes: list[Outcome], path: str) -> None:
    model = pytest.importorskip("pydantic_sarif.model", reason="pip install pydantic-sarif: make test has it")
    kind = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema
    data = log(outcomes, path)
    kind.model_validate(data)
    data["runs"][0]["results"][0]["levle"] = "error"
    with pytest.raises(ValueError, match="levle"):
        kind.model_validate(data)


@pytest.mark.skipif(not SCHEMA.exists(), reason="the official schema comes from npm: make test-sarif")
def test_sarif_validates_against_the_official_schema(outcomes: list[Outcome], path: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
    assert list(validator.iter_errors(log(outcomes, path))) == []
    assert list(validator.iter_errors(log([], path))) == []
    broken = log(outcomes, path)
    broken["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    assert len(list(validator.iter_errors(broken))) == 1
