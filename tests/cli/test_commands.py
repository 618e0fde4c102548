"""The commands as a person types them: what comes out where, what is saved, how they end."""

from __future__ import annotations

import gzip
import json
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flopscan
from flopscan.cli.main import main

NETS = """
    from torch import nn


    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.layer = nn.Linear(3, width)

        def forward(self, x, scale=None):
            print("the model prints")
            return self.layer(x)


    class Raises(nn.Module):
        def forward(self, x):
            raise RuntimeError("two\\nlines")


    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command line in a folder with nets.py: exit code, stdout, stderr."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("flopscan.cli.progress.PATIENCE", 600)  # on a busy machine, too, no word of what takes long
    path, modules = list(sys.path), set(sys.modules)

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(shlex.split(line))
        return code, *capsys.readouterr()

    yield run
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("nets",):
            del sys.modules[name]


NET = "nets.py:Net --input 2x3 --arg width=5"


def test_count_prints_the_report_and_how_to_get_it_again(run: Run) -> None:
    code, out, err = run(f"count {NET}")
    assert code == 0
    assert err == "the model prints\n", "what a model prints is no part of the report"
    assert out.startswith("nets.py:Net\n2x3 float32\n\nFLOPs           ")
    assert "MACs            " in out and "not counted: nothing\n" in out
    assert out.endswith("\nagain: flopscan count nets.py:Net --input 2x3 --arg width=5\n")


def test_the_command_to_get_it_again_gives_the_same(run: Run) -> None:
    line = "count 'nets.py:Net' --input x=7x3:float16 --arg width=5 --backward --train -c macs"
    first = run(line)[1]
    again = json.loads(run(f"{line} --format json")[1])["again"]
    assert (
        again == "flopscan count nets.py:Net --input x=7x3:float16 --arg width=5 --backward --train --convention macs"
    )
    assert run(again.removeprefix("flopscan "))[1] == first


def test_json_has_one_object_with_every_number_whole(run: Run) -> None:
    code, out, _ = run(f"count {NET} --format json")
    data = json.loads(out)
    assert code == 0
    assert {
        "schema", "target", "convention", "value", "unit", "flops", "macs", "transcendentals", "bytes_read",
        "bytes_written", "params", "by_module", "by_operator", "uncounted", "versions",
    } <= set(data)  # fmt: skip
    assert (data["macs"], data["params"]) == (2 * 3 * 5, 20)
    assert (data["value"], data["unit"], data["uncounted"]) == (data["flops"], "FLOP", [])


def test_several_outputs_are_saved(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(f"count {NET} -o a.json -o a.json.gz -o a.txt --width 60")
    assert code == 0
    assert (tmp_path / "a.txt").read_text() == out
    data = json.loads((tmp_path / "a.json").read_text())
    assert json.loads(gzip.decompress((tmp_path / "a.json.gz").read_bytes())) == data and data["macs"] == 30


def test_the_steps_apart_give_the_same_report(run: Run) -> None:
    whole = run(f"count {NET}")[1]
    code, out, err = run(f"trace {NET} -o net.trace.json.gz")
    assert (code, out) == (0, "") and err.endswith("flopscan: wrote net.trace.json.gz: 2 calls, 2 distinct\n")
    assert run("price net.trace.json.gz -o net.ledger.json") == (
        0, "", "flopscan: wrote net.ledger.json: 2 prices\n",
    )  # fmt: skip
    assert run("report net.ledger.json") == (0, whole, "")
    assert "as macs counts: 30 = 30 MAC" in run("report net.ledger.json -c macs")[1]


def test_lines_are_recorded_when_they_are_asked_for(run: Run) -> None:
    assert "nets.py:12" in run(f"count {NET} --by line")[1]
    run(f"trace {NET} -o net.trace.json --lines")
    run("price net.trace.json -o net.ledger.json")
    assert "nets.py:12" in run("report net.ledger.json --by line")[1]


def test_strict_prints_the_report_and_ends_with_3(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flopscan import rules

    assert run(f"count {NET} --strict")[0] == 0
    find = rules.find
    monkeypatch.setattr(rules, "find", lambda op: None if op == "aten::addmm" else find(op))
    code, out, err = run(f"count {NET} --strict -o net.json")
    assert code == 3
    assert "aten::addmm x1: no rule for this operator" in out
    assert err.replace("the model prints\n", "").startswith(
        "flopscan: error: not everything was counted: aten::addmm x1 (5, 2x3, 3x5 -> 2x5) in layer: no rule"
    )
    assert json.loads((tmp_path / "net.json").read_text())["uncounted"][0]["count"] == 1
    assert run(f"count {NET}")[0] == 0


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("frob", 2, "no such command 'frob' (see flopscan --help)"),
        ("count", 2, "missing argument 'TARGET' (see flopscan count --help)"),
        ("count x --frob", 2, "no such option"),
        (
            "count x --width 43",
            2,
            "invalid value for '--width': 43 is not in the range x>=44 (see flopscan count --help)",
        ),
        ("count x -c flop", 2, "there is no convention 'flop'; did you mean flops"),
        (
            "count x -o x.pdf",
            2,
            "cannot tell the format of 'x.pdf'; expected a name that ends in .txt, ",
        ),
        ("count x --input 1,3", 2, "--input '1,3': '1,3' is not a shape; "),
        ("count x --arg a", 2, "--arg 'a' is not KEY=VALUE; write it as in --arg num_classes=10"),
        ("count x", 2, "there is no target 'x'; "),
        ("count nets.py:Net", 2, "nets.py:Net has no default input; give one, as in --input 1x3x224x224"),
        ("count nets.py:Net --input 2x3 --input y=4", 2, "Net does not take these inputs: "),
        ("count nets.py:Net --input 2x4", 1, "module layer (Linear), "),
        (
            "count nets.py:Raises --input 4",
            1,
            "module (the model) (Raises), nets.py:17: Raises raised RuntimeError: two",
        ),
        (
            "trace nets.py:Net --input 2x3 -o a.txt",
            2,
            "cannot tell the format of 'a.txt'; expected a name that ends in",
        ),
        (
            "price none.json -o a.json",
            1,
            "cannot read none.json: No such file or directory; expected a flopscan.trace/2",
        ),
        ("report nets.py", 1, "nets.py is not whole JSON ("),
        (
            "report other.json",
            1,
            "other.json has schema 'flopscan.ledger/9', expected 'flopscan.ledger/1'; make it again",
        ),
    ],
)
def test_errors_are_one_sentence_on_stderr(run: Run, tmp_path: Path, line: str, code: int, text: str) -> None:
    (tmp_path / "other.json").write_text('{"schema": "flopscan.ledger/9"}')
    before = sorted(p.name for p in tmp_path.iterdir() if p.is_file())
    ended, out, err = run(line)
    assert (ended, out) == (code, "")
    assert err.replace("the model prints\n", "").startswith(f"flopscan: error: {text}")
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == before


def test_wrong_options_are_refused_before_the_model_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flopscan import api

    monkeypatch.setattr(api, "trace_of", lambda *_, **__: pytest.fail("the model was made"))
    for wrong in ("-o x.pdf", "-o nowhere/x.json", "-c nothing", "--input 1y2", "--arg a-b=1"):
        assert run(f"count nets.py:Net {wrong}")[0] == 2


def test_debug_shows_the_traceback(run: Run) -> None:
    code, _, err = run("count nets.py:Raises --input 4 --debug")
    assert code == 1
    assert "Traceback (most recent call last)" in err and "RuntimeError: two" in err
    assert err.splitlines()[-1].startswith("flopscan: error: module (the model) (Raises)")


def test_what_nobody_expected_is_one_sentence_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flopscan import analysis

    def fails(_: object) -> None:
        raise ZeroDivisionError("a bug\nof ours")

    monkeypatch.setattr(analysis, "price", fails)
    line = f"count {NET}"
    text = "flopscan: error: ZeroDivisionError: a bug of ours; run again with --debug for the traceback\n"
    assert run(line) == (1, "", f"the model prints\n{text}")
    assert "Traceback" in run(f"{line} --debug")[2]


def test_an_interruption(run: Run) -> None:
    code, out, err = run("count nets.py:Interrupted --input 4")
    assert (code, out) == (130, "") and err.endswith("flopscan: interrupted\n") and "Traceback" not in err


def test_our_warnings_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flopscan import analysis
    from flopscan.errors import warn

    price = analysis.price

    def warns(trace: object) -> object:
        warn("FS999", "mind the gap")
        return price(trace)  # type: ignore[arg-type]

    monkeypatch.setattr(analysis, "price", warns)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(f"count {NET}")[2] == "the model prints\nflopscan: warning: mind the gap [FS999]\n"


def test_colour_only_when_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run(f"count {NET}")[1]
    assert "\x1b[" in run(f"count {NET} --color always")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    from flopscan.cli import presenting

    monkeypatch.setenv("TERM", "xterm")
    assert presenting.coloured("auto") and not presenting.coloured("never")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not presenting.coloured("auto") and presenting.coloured("always")


def test_progress_is_a_line_on_stderr_after_a_while(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from flopscan.cli import progress

    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.progress("counting a net"):
        time.sleep(0.1)
    with progress.progress("loading torch", plain=False):
        time.sleep(0.05)
    assert capsys.readouterr() == ("", "flopscan: counting a net ...\n")
    monkeypatch.setattr(progress, "PATIENCE", 60)
    with progress.progress("counting a net"):
        pass
    assert capsys.readouterr() == ("", "")


def test_letters_that_the_terminal_lacks_are_replaced() -> None:
    import io

    from flopscan.cli import presenting

    raw = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        terminal = io.TextIOWrapper(raw, encoding="ascii")
        patch.setattr(sys, "stdout", terminal)
        presenting.show("blo…cks  ██▌  ≥12")
    assert raw.getvalue() == b"blo~cks  ##-  >12\n"


def test_help_has_examples_in_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0 and "Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 incomplete under --strict." in out
    assert run("")[1] == out
    for command in ("count", "trace", "price", "report", "conventions", "targets"):
        shown = run(f"{command} --help")[1]
        assert f"  flopscan {command if command in ('trace', 'price', 'report') else 'count'} " in shown, command
        assert f"\n  {command} " in out


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"flopscan {flopscan.__version__}\n", "")


def test_conventions_are_listed_with_unit_and_source(run: Run) -> None:
    from flopscan import conventions

    code, out, _ = run("conventions")
    assert code == 0 and out.startswith("flops  (FLOP)\n  multiply-add 2, other arithmetic 1, ")
    assert "\n\nmacs  (MAC)\n" in out and out.count("\n  source: ") == len(conventions.names())


def test_targets_are_listed(run: Run) -> None:
    code, out, _ = run("targets")
    assert code == 0 and out.startswith("vmamba_tiny\n") and "\n  path/to/file.py:factory  " in out
