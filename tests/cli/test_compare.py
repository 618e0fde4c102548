"""``flopscan compare`` as a person types it: two models or reports, and the real tools on one."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flopscan import rules
from flopscan.cli.main import main
from flopscan.peers import asking, tools
from flopscan.peers.asking import Reply
from flopscan.peers.tools import Tool

NETS = """
    from torch import nn


    class Net(nn.Module):
        def __init__(self, width=4, norm=False):
            super().__init__()
            self.layer = nn.Linear(3, width)
            self.norm = nn.LayerNorm(width) if norm else nn.Identity()

        def forward(self, x):
            print("the model prints")
            return self.norm(self.layer(x))


    def normed():
        return Net(norm=True)
"""
Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command line in a folder with nets.py: exit code, stdout, stderr without what the model prints."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
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


A, B = "nets.py:Net", "nets.py:normed"


def test_two_models(run: Run) -> None:
    code, out, err = run(f"compare {A} {B} --input 2x3")
    assert (code, err) == (0, "")
    assert out.startswith("A  nets.py:Net, on 2x3 float32\nB  nets.py:normed, on 2x3 float32\n")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert any(row.startswith("FLOPs 48 ") for row in rows)  # 2 * 2*3*4
    assert any(row.startswith("norm Identity -> LayerNorm 0 ") for row in rows)
    assert any(row.startswith("aten::native_layer_norm - ") and " added +1 " in row for row in rows)


def test_json_and_the_convention(run: Run) -> None:
    code, out, _ = run(f"compare {A} {B} --input 2x3 --convention thop --format json")
    data = json.loads(out)
    assert (code, data["convention"], data["unit"]) == (0, "thop", "MAC")
    assert data["total"]["first"]["value"] == 2 * 3 * 4
    both = {json.loads(run(f"count {t} --input 2x3 -c thop --format json")[1])["value"] for t in (A, B)}
    assert {data["total"]["first"]["value"], data["total"]["second"]["value"]} == both


def test_what_was_saved_and_a_model(run: Run) -> None:
    run(f"count {A} --input 2x3 -o a.json -c macs")
    run(f"trace {B} --input 2x3 -o b.trace.json.gz")
    run("price b.trace.json.gz -o b.ledger.json")
    models = json.loads(run(f"compare {A} {B} --input 2x3 -c macs --format json")[1])
    for second in ("b.trace.json.gz", "b.ledger.json", f"{B} --input 2x3"):
        code, out, _ = run(f"compare a.json {second} --format json")
        data = json.loads(out)
        assert (code, data["convention"]) == (0, "macs"), "as the saved report was counted"
        assert [data[key] for key in ("total", "modules", "operators")] == [
            models[key] for key in ("total", "modules", "operators")
        ]
    code, out, _ = run("compare a.json a.json")
    assert code == 0 and "no difference: every number" in out


def test_width_depth_and_colour(run: Run) -> None:
    narrow = run(f"compare {A} {B} --input 2x3 --width 60")[1]
    assert max(map(len, narrow.splitlines())) <= 60 and "no room in 60 columns for" in narrow
    assert "\n  norm" not in run(f"compare {A} {B} --input 2x3 --depth 0")[1]
    assert "\x1b[" in run(f"compare {A} {B} --input 2x3 --color always")[1]


def test_strict_prints_and_ends_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"compare {A} {B} --input 2x3 --strict")[0] == 0
    find = rules.find
    monkeypatch.setattr(rules, "find", lambda op: None if op == "aten::native_layer_norm" else find(op))
    code, out, err = run(f"compare {A} {B} --input 2x3 --strict")
    assert code == 3 and "not counted in B: aten::native_layer_norm x1" in out
    assert err == "flopscan: error: not everything was counted: aten::native_layer_norm x1 in nets.py:normed\n"
    assert run(f"compare {A} {B} --input 2x3")[0] == 0


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("a.json", 2, "expected a second model or saved report, or --tools: flopscan compare A B, or A --tools all"),
        ("a.json m.json --tools all", 2, "expected a second model or saved report, or --tools"),
        ("a.json m.json", 2, "cannot compare FLOP with MAC: a.json is in FLOP (flops) and m.json is in MAC (macs)"),
        ("a.json m.json -c macs", 2, "a.json was saved under flops, in FLOP, and has no numbers under macs, in MAC"),
        ("a.json a.json -c fvcor", 2, "there is no convention 'fvcor'; did you mean fvcore"),
        ("a.json no.json", 1, "cannot read no.json: No such file or directory; expected a flopscan.report/1 or"),
        ("a.json old.json", 1, "old.json has schema 'flopscan.report/0', expected 'flopscan.report/1' or"),
        ("a.json bad.json", 1, "bad.json is damaged: it says 'flopscan.report/1' but lacks or garbles 'target'"),
        (f"a.json {A}", 2, "nets.py:Net has no default input; give one, as in --input 1x3x224x224"),
        (f"{A} --tools fvcor", 2, "there is no tool 'fvcor'; did you mean fvcore?"),
        (f"{A} --tools torch", 2, "nets.py:Net has no default input; give one, as in --input 1x3x224x224"),
        ("a.json --tools torch", 2, "--tools run a model, and a.json is what was saved of one; give a target"),
        (f"{A} --tools torch -c macs --train", 2, "--convention and --train cannot go with --tools: a tool counts in"),
        (f"{A} --tools torch --timeout 0", 2, "invalid value for '--timeout': 0.0 is not in the range x>0"),
    ],
)
def test_bad_input_is_one_sentence(run: Run, tmp_path: Path, line: str, code: int, text: str) -> None:
    run(f"count {A} --input 2x3 -o a.json")
    run(f"count {A} --input 2x3 -c macs -o m.json")
    (tmp_path / "old.json").write_text('{"schema": "flopscan.report/0"}')
    (tmp_path / "bad.json").write_text('{"schema": "flopscan.report/1", "convention": "flops"}')
    found, out, err = run(f"compare {line}")
    assert (found, out) == (code, "") and err.count("\n") == 1
    assert err.startswith(f"flopscan: error: {text}"), err


REPLIES = {
    "exact": Reply((24,)),
    "more": Reply((31,)),
    "slow": Reply(status="stopped after 9 s", reason="--timeout gives it longer"),
    "crash": Reply(status="died", reason="it ended its process (signal SIGSEGV)"),
}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The registry holds tools that reply as REPLIES says, and one that is not there; what they were asked."""

    def make(name: str, distribution: str = "pytest") -> Tool:
        return Tool(name, distribution, ("macs",), lambda *given: [0], tools.by_place)

    asked: list[tuple[Any, ...]] = []

    def ask(tool: Tool, *order: Any) -> Reply:
        asked.append((tool.name, *order))
        return REPLIES[tool.name]

    monkeypatch.setattr(tools, "TOOLS", (*map(make, REPLIES), make("gone", "no-such-distribution")))
    monkeypatch.setattr(asking, "ask", ask)
    return asked


def test_a_residual_is_a_finding_and_the_rest_rows(run: Run, fakes: list[tuple[Any, ...]]) -> None:
    code, out, err = run(f"compare {A} --input 2x3 --arg width=4 --tools all --timeout 9")
    assert (code, err) == (1, "")
    assert fakes == [(name, A, ("2x3",), ("width=4",), 9.0) for name in REPLIES], "each as the command line says"
    rows = [" ".join(line.split()) for line in out.splitlines()]
    version = pytest.__version__
    assert {
        f"exact {version} 24 24 MAC 0",
        f"more {version} 31 24 MAC +7",
        f"slow {version} stopped after 9 s 24 MAC -",
        f"crash {version} died 24 MAC -",
        "gone not installed 24 MAC -",
        f"finding: more {version} says 7 MAC more than the convention macs gives",
        "slow: stopped after 9 s: --timeout gives it longer",
        "crash: died: it ended its process (signal SIGSEGV)",
        "not installed: pip install no-such-distribution",
        "1 number agrees to the unit, 1 number differs, 3 numbers missing",
    } <= set(rows)


def test_without_a_finding_it_ends_with_0(run: Run, fakes: list[tuple[Any, ...]]) -> None:
    code, out, _ = run(f"compare {A} --input 2x3 --tools exact,crash,gone --format json")
    data = json.loads(out)
    assert (code, data["target"], data["inputs"]) == (0, A, ["2x3 float32"])
    assert [(row["tool"], row["theirs"], row["residual"]) for row in data["answers"]] == [
        ("exact", 24, 0), ("crash", None, None), ("gone", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "target",
    [
        "flopscan.testing.nets:ResNet50 --input 1x3x64x64",
        "hf:gpt2 --arg n_layer=2 --arg n_embd=64 --arg n_head=4 --arg vocab_size=100 --input input_ids=1x16:int64",
    ],
)
@pytest.mark.peers
def test_the_real_tools(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each that is installed agrees to the unit with our reproduction of it."""
    code = main(["compare", *shlex.split(target), "--tools", "all", "--timeout", "300", "--format", "json"])
    rows = json.loads(capsys.readouterr().out)["answers"]
    said = {row["tool"] for row in rows if row["theirs"] is not None}
    assert code == 0 and not [row for row in rows if row["residual"]]
    least = {"torch", "fvcore", "ptflops", "calflops", "torchprofile"}
    assert said >= least & {tool.name for tool in tools.TOOLS if tools.version(tool)}, rows
    assert all(row["theirs"] is None or row["residual"] == 0 for row in rows)
