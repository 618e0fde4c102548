"""What the known mistakes of a counter are of its number: in a report, on the command line, and taken out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

import flopscan
from flopscan import conventions
from flopscan.cli.main import main

FILE = "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8))\n"
RELU = "an activation or pool counts as a module and again as the function in it"


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8))


def test_each_is_told_with_its_amount_and_they_sum() -> None:
    report = flopscan.count(net(), (1, 8), convention="ptflops")
    assert [(m.bug.key, m.amount) for m in report.mistakes] == [("twice", 8), ("layer-norm", -8)]
    assert report.under("ptflops~all") == int(report.value) - sum(m.amount for m in report.mistakes)
    assert report.under("ptflops~twice") == int(report.value) - 8
    told = report.to_dict()["mistakes"]
    assert told[0] == {
        "key": "twice", "name": RELU, "source": "sovrasov/flops-counter.pytorch issue 139", "amount": 8,
    }  # fmt: skip
    assert not report.using("ptflops~all").mistakes and not report.using("flops").mistakes
    assert f"of it a mistake: +8 MAC, {RELU}" in " ".join(str(report).split())
    assert "without: ptflops~twice" in " ".join(str(report).split())


def test_the_groups_of_a_gradient() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2))
    report = flopscan.count(model, (1, 4, 6, 6), backward=True, convention="torch")
    to_weight = 2 * 16 * 8 * 2 * 9  # what is right: 16 positions, each output of 2 inputs by 9
    assert [(m.bug.key, m.amount) for m in report.mistakes] == [("groups", to_weight)]


@pytest.mark.parametrize("name", [n for n in conventions.names() if conventions.get(n).bugs])
def test_each_can_be_named_on_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conventions", name]) == 0
    out = capsys.readouterr().out
    for bug in conventions.get(name).bugs:
        assert f"\n  {name}~{bug.key}\n" in out
        assert conventions.get(f"{name}~{bug.key}").mended == (bug.key,)


def test_a_count_without_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nets.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    line = ["count", "nets.py:net", "--input", "1x8", "--format", "json", "-o", "report.json", "-c"]
    assert main([*line, "ptflops~twice"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["convention"] == "ptflops~twice" and data["value"] == 72 + 8 + 8
    assert [m["key"] for m in data["mistakes"]] == ["layer-norm"]
    assert data["again"].endswith("--convention ptflops~twice")
    assert main(["compare", "report.json", "nets.py:net", "--input", "1x8", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"]
    assert main([*line, "ptflops~thrice"]) == 2
    assert "ptflops has no mistake 'thrice'; did you mean twice" in capsys.readouterr().err
