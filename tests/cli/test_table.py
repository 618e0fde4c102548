"""``flopscan table`` as a person types it, and the exports of ``flopscan count``."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flopscan import rules
from flopscan.cli.main import main

NETS = """
    import torch
    from torch import nn


    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.layer = nn.Linear(3, width)

        def forward(self, x):
            print("the model prints")
            return self.layer(x)


    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(10, 3)

        def forward(self, ids):
            return self.embedding(ids) * 2


    class ShapesOnly(nn.Module):
        def forward(self, x):
            if x.device.type != "meta":
                raise RuntimeError("no kernel\\nfor this machine")
            return x + 1
"""
Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command line in a folder with nets.py: exit code, stdout, stderr without what the model prints."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    path, modules = list(sys.path), set(sys.modules)

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(shlex.split(line))
        out, err = capsys.readouterr()
        assert "the model prints" not in out
        return code, out, err.replace("the model prints\n", "")

    yield run
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "nets":
            del sys.modules[name]


TWO = "table A=nets.py:Net B=nets.py:Net --input 2x3 --arg width=5@A --arg width=9@B"


def test_models_stand_side_by_side(run: Run) -> None:
    code, out, _ = run(f"{TWO} --columns params,macs")
    assert code == 0
    assert out.startswith(
        "Models compared\n\nmodel  params  MACs\nA          20    30\nB          36    54\n\nparams: parameters, each"
    )
    assert "\nInput: 2x3 float32.\nNot counted: nothing.\nCounted with flopscan " in out
    assert (
        "again: flopscan table A=nets.py:Net B=nets.py:Net --input 2x3 --arg width=5@A --arg width=9@B --columns" in out
    )


def test_every_form_says_the_same(run: Run, tmp_path: Path) -> None:
    line = f"{TWO} --columns params,macs,flops,bytes --sort -macs"
    data = json.loads(run(f"{line} --format json")[1])
    assert data["schema"] == "flopscan.models/1" and [row["name"] for row in data["models"]] == ["B", "A"]
    assert data["models"][1]["columns"]["macs"] == 30 and data["models"][1]["target"] == "nets.py:Net"
    rows = list(csv.DictReader(io.StringIO(run(f"{line} --format csv")[1])))
    for row, model in zip(rows, data["models"], strict=True):
        assert {name: int(row[name]) for name in model["columns"]} == model["columns"]
        assert row["versions"] == model["versions"] and row["model"] == model["name"]
    for form, suffix in (("markdown", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json"), ("text", "txt")):
        code, out, _ = run(f"{line} --format {form} -o t.{suffix}")
        assert code == 0 and (tmp_path / f"t.{suffix}").read_text() == out, form


def test_a_size_is_varied(run: Run) -> None:
    code, out, _ = run("table N=nets.py:Net M=nets.py:Net --input {b}x3 --over b=2,4 --arg width={b}@M --columns macs")
    rows = [line.split() for line in out.splitlines()[2:7]]
    assert code == 0
    assert rows == [["model", "b", "MACs"], ["N", "2", "24"], ["N", "4", "48"], ["M", "2", "12"], ["M", "4", "48"]]
    assert "Input: 2x3 float32 (b 2); 4x3 float32 (b 4)." in out


def test_an_input_is_for_one_model(run: Run) -> None:
    out = run("table N=nets.py:Net M=nets.py:Net --input 2x3 --input 7x3@M --columns macs,input")[1]
    assert [line.split() for line in out.splitlines()[3:5]] == [
        ["N", "24", "2x3", "float32"],
        ["M", "84", "7x3", "float32"],
    ]


def test_a_model_that_fails_is_a_row_with_a_reason(run: Run) -> None:
    code, out, err = run("table nets.py:Net nets.py:Nothing nowhere --input 2x3 --columns macs")
    assert code == 1 and "error" not in err
    rows = [line.split() for line in out.splitlines()[3:6]]
    assert rows == [["nets.py:Net", "24"], ["nets.py:Nothing", "-"], ["nowhere", "-"]]
    assert "No number of nets.py:Nothing: " in out and "No number of nowhere: there is no target 'nowhere'; " in out
    data = json.loads(run("table nets.py:Net nowhere --input 2x3 --columns macs --format json")[1])
    assert data["models"][1]["columns"] == {"macs": None} and "no target" in data["models"][1]["missing"]


def test_what_is_not_counted_is_at_least_and_strict_ends_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find = rules.find
    monkeypatch.setattr(rules, "find", lambda op: None if op == "aten::addmm" else find(op))
    code, out, err = run(f"{TWO} --columns macs --strict")
    assert code == 3 and "≥" in out
    assert err.startswith("flopscan: error: not everything was counted: A: aten::addmm x1 (no rule for this operator)")
    assert run(f"{TWO} --columns macs")[0] == 0


def test_what_was_saved_is_compared(run: Run) -> None:
    run("count nets.py:Net --input 2x3 -o a.json -c fvcore")
    run("trace nets.py:Net --input 2x3 -o a.trace.json")
    run("price a.trace.json -o a.ledger.json.gz")
    code, out, _ = run("table R=a.json T=a.trace.json L=a.ledger.json.gz --columns macs,flops,fvcore,bytes")
    assert code == 0
    assert len({tuple(line.split()[1:]) for line in out.splitlines()[3:6]}) == 1
    code, out, _ = run("table a.json --columns macs,torch")
    assert code == 1 and "torch: a.json is a report that was saved under fvcore and has no total under torch" in out
    assert run("table a.json nowhere.json --columns macs")[0] == 1


def test_throughput_is_measured_when_it_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flopscan.capture import speed

    code, out, _ = run("table nets.py:Net --input 2x3 --batch 6 --passes 3 --columns macs,throughput --format json")
    (row,) = json.loads(out)["models"]
    assert code == 0
    assert (row["measured"]["items"], row["measured"]["unit"], len(row["measured"]["seconds"])) == (6, "samples", 3)
    assert row["columns"]["macs"] == 24, "the batch is that of the measurement alone"
    assert row["columns"]["throughput"] == pytest.approx(row["measured"]["per_second"])
    out = run("table nets.py:Tokens --input 2x5:int64 --passes 1 --columns throughput --format json")[1]
    assert json.loads(out)["models"][0]["measured"]["items"] == 10
    code, out, _ = run("table nets.py:ShapesOnly --input 2x3 --columns flops,throughput")
    assert code == 1 and "throughput: it does not run on cpu: RuntimeError: no kernel for this machine" in out
    assert [line.split() for line in out.splitlines()[3:4]] == [["nets.py:ShapesOnly", "6", "-"]]
    code, out, err = run("table nets.py:Net --input 2x3 --columns throughput --on nowhere")
    assert (code, out) == (2, "") and err.startswith(
        "flopscan: error: torch has no device 'nowhere' here; expected one such as"
    )
    monkeypatch.setattr(speed, "measure", lambda *_, **__: pytest.fail("it was measured"))
    assert run("table nets.py:Net --input 2x3 --columns macs")[0] == 0


def test_the_first_axis_of_four_is_of_images() -> None:
    from flopscan.capture import speed
    from flopscan.core.trace import TensorSpec

    assert speed._items(TensorSpec((8, 3, 4, 4))) == (8, "images")
    assert speed._items(TensorSpec((2, 16), "int64")) == (32, "tokens")
    assert speed._items(TensorSpec((5, 16))) == (5, "samples") and speed._items(TensorSpec(())) == (1, "samples")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("table", "missing argument '[NAME=]TARGET...' (see flopscan table --help)"),
        ("table nets.py:Net --columns flop", "there is no column 'flop'; did you mean flops"),
        ("table nets.py:Net --sort bytes", "--sort 'bytes' is no column of this table; expected params,macs,flops, "),
        ("table nets.py:Net -o a.pdf", "cannot tell the format of 'a.pdf'; expected a name that ends in "),
        ("table A=nets.py:Net A=x", "two models are called 'A'; name them apart, as in A="),
        ("table =x", "'=x' is no NAME=TARGET; write it as in VMamba-T=vmamba_tiny"),
        ("table x --over r", "--over 'r' is not NAME=N,N,...; write it as in --over r=224,288,384"),
        ("table x --over r=1,a", "--over 'r=1,a' is not NAME=N,N,...; "),
        ("table x --input 2 --over r=1", "--over varies r, and no --input or --arg of x has {r} in it"),
        ("table A=x --input 2@B", "--input '2@B': no model is called 'B'; expected A"),
        ("table a.json --input 2@a.json", "a.json was counted already; --input and --arg are for a model"),
        (
            "table a.json --input {r} --over r=1",
            "a.json was counted already; --over needs a model, to count it at each r",
        ),
    ],
)
def test_errors_are_one_sentence_before_any_work(run: Run, line: str, text: str) -> None:
    code, out, err = run(line)
    assert (code, out) == (2, "") and err.startswith(f"flopscan: error: {text}")


def test_a_report_is_saved_in_every_format(run: Run, tmp_path: Path) -> None:
    flops = json.loads(run("count nets.py:Net --input 2x3 --format json")[1])["flops"]
    code, out, _ = run("count nets.py:Net --input 2x3 -o a.md -o a.csv -o a.tex --format markdown")
    assert code == 0 and out == (tmp_path / "a.md").read_text()
    assert "| **(model)** Net |" in out and f"Exact totals: FLOPs {flops}; MACs 24; " in out
    assert r"\begin{tabular}" in (tmp_path / "a.tex").read_text()
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith(f"total,nets.py:Net,,{flops},{flops},24,0,")
    assert run("count nets.py:Net --input 2x3 --format latex --by operator")[1].count(" & ") > 10


def test_help_has_examples(run: Run) -> None:
    assert "flopscan table vmamba_tiny vmamba_small vmamba_base" in run("table --help")[1]
    assert "flopscan plot cost vmamba_tiny" in run("plot --help")[1]
