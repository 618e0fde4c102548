"""``flopscan lock`` and ``flopscan check`` as a person types them."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flopscan import rules
from flopscan.cli.main import main

NETS = """
    from torch import nn


    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.layer = nn.Linear(3, width)

        def forward(self, x):
            print("the model prints")
            return self.layer(x).relu()


    class Other(nn.Module):
        def forward(self, x):
            return x.exp()


    class Raises(nn.Module):
        def forward(self, x):
            raise RuntimeError("two\\nlines")
"""
Run = Callable[[str], tuple[int, str, str]]
NET, OTHER = "nets.py:Net", "nets.py:Other"
LIMITED = '[targets."nets.py:Net".total]'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command line in a repository with nets.py: exit code, stdout, stderr without progress and prints."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS).lstrip())
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit of the same size in the same second is one
    path, modules = list(sys.path), set(sys.modules)

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(shlex.split(line))
        out, err = capsys.readouterr()
        assert "the model prints" not in out
        return code, out, re.sub(r"the model prints\n|flopscan: (counting|loading) .*\n", "", err)

    yield run
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "nets" or name.startswith("flopscan_target"):
            del sys.modules[name]


def text(path: str = "flops.lock") -> str:
    return Path(path).read_text()


def edit(path: str, old: str, new: str) -> None:
    assert old in text(path)
    Path(path).write_text(text(path).replace(old, new))


def test_lock_and_check(run: Run) -> None:
    code, out, err = run(f"lock {NET} {OTHER} --input 2x3")
    assert (code, err) == (0, "flopscan: wrote flops.lock: 2 locked\n")
    assert out == (f"{NET}: FLOPs 56, exp/log/trig 0, parameters 16\n{OTHER}: FLOPs 0, exp/log/trig 6, parameters 0\n")
    before = text()
    code, out, _ = run("check")
    assert code == 0 and out.startswith("flops.lock: every target within budget\n")
    assert run(f"lock {NET} {OTHER} -i 2x3")[0] == 0 and text() == before, "the same every time"


def test_what_grew(run: Run) -> None:
    run(f"lock {NET} {OTHER} --input 2x3")
    edit("nets.py", "width=4", "width=8")
    code, out, err = run("check")
    rows = {" ".join(row.split()) for row in out.splitlines()}
    assert (code, err) == (1, "")
    assert {
        "flops.lock: 1 of 2 targets not within budget",
        f"{NET} 112 FLOP is not within its budget",
        "FLOPs 56 112 +56 +100.0%",
        "layer Linear 48 96 +48 +16 =",
        "aten::addmm 48 96 +48 = =",
        "nets.py:11 forward 112 aten::addmm and 1 more",
        f"if this is meant: flopscan lock --update {NET}",
    } <= rows
    assert run(f"check {OTHER}")[0] == 0
    code, out, _ = run(f"lock --update {NET}")
    assert (code, out) == (0, f"{NET}: FLOPs 112 (+100.0%), exp/log/trig 0, parameters 32 (+100.0%)\n")
    assert run("check")[0] == 0


def test_what_shrank_is_a_note(run: Run) -> None:
    run(f"lock {NET} --input 2x3")
    edit("nets.py", "width=4", "width=2")
    code, out, _ = run("check")
    assert (
        code == 0 and f"to keep it so: flopscan lock --update {NET}" in out and "costs less than its lock says" in out
    )


def test_everything_about_a_target_is_locked(run: Run) -> None:
    line = f"lock {NET} -i 2x3 -a width=5 --backward --train -c macs -c torch_2.13 --depth 0 --tolerance 1% --name five"
    code, out, _ = run(line)
    assert code == 0 and out.startswith("five: MACs 60, as torch-2.13 counts 120, exp/log/trig 0, parameters 20")
    assert (
        '[targets.five]\ntarget = "nets.py:Net"\ninputs = ["2x3"]\narguments = ["width=5"]\n'
        'flags = ["backward", "train"]\nconventions = ["macs", "torch-2.13"]\ndepth = 0\ntolerance = "1%"\n'
        '[targets.five.total]\nmacs = 60\n"torch-2.13" = 120\n'
    ) in text() and "modules]" not in text()
    assert run("check five")[0] == 0
    run("lock --update five -c flops --depth 1")
    assert 'layer = { class = "Linear", flops = ' in text() and 'tolerance = "1%"' in text()
    assert run("check five")[0] == 0


def test_tolerance_of_all_and_of_one(run: Run) -> None:
    run(f"lock {NET} --input 2x3")
    edit("nets.py", "width=4", "width=5")
    assert run("check")[0] == 1
    assert run("lock --tolerance 25%")[0] == 0 and 'tolerance = "25%"\n\n' in text()
    assert run("check")[0] == 0
    run(f"lock --update {NET} --tolerance 10%")
    edit("nets.py", "width=5", "width=6")
    assert run("check")[0] == 1, "20 % more, and its own tolerance is 10 %"


def test_limits_are_checked_and_survive(run: Run) -> None:
    run(f"lock {NET} --input 2x3")
    limits = f'[targets."{NET}".limits]\n# the phone\nmacs = "<= 23"\nbytes = "<=1M"\n'
    edit("flops.lock", LIMITED, limits + LIMITED)
    code, out, _ = run("check")
    assert code == 1 and "MACs 24 breaks the limit '<= 23': 1 too many" in out and "if this is meant" not in out
    run("lock --update")
    assert limits in text() and run("check")[0] == 1
    edit("flops.lock", "<= 23", "<= 24")
    assert run("check")[0] == 0


def test_remove(run: Run) -> None:
    run(f"lock {NET} {OTHER} --input 2x3")
    code, _, err = run(f"lock --remove {OTHER}")
    assert (code, err) == (0, "flopscan: wrote flops.lock: 1 locked\n") and "Other" not in text()


def test_what_is_not_counted_is_told_and_newly_so_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find = rules.find
    run(f"lock {NET} --input 2x3")
    monkeypatch.setattr(rules, "find", lambda op: None if op == "aten::relu" else find(op))
    code, out, _ = run("check")
    assert code == 1 and "aten::relu x1 is not counted, not called when it was locked" in out
    assert "nets.py:11  forward" in out.split("where it is called")[1]
    assert "; not counted: aten::relu x1\n" in run("lock --update")[1]
    assert run("check")[0] == 0


def test_one_that_cannot_be_counted_fails_and_the_others_are_checked(run: Run) -> None:
    run(f"lock {NET} {OTHER} --input 2x3")
    edit("nets.py", "class Net(", "class Gone(")
    edit("nets.py", "x.exp()", "x.exp().exp()")
    code, out, err = run("check")
    assert (code, err) == (1, "")
    assert f"{NET} could not be counted\n  nets.py has no 'Net'; did you mean" in out
    assert "exp/log/trig       6   12      +6  +100.0%" in out
    edit("nets.py", "class Other(", "class Nothing(")
    edit("nets.py", "class Raises(", "class Other(")
    assert "Other raised RuntimeError: two" in run(f"check {OTHER}")[1]
    os.rename("nets.py", "moved.py")
    code, out, _ = run("check --format json")
    assert code == 1
    assert [one["error"][:24] for one in json.loads(out)["targets"]] == ["there is no file nets.py"] * 2


def test_json_sarif_and_github(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"lock {NET} --input 2x3")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    assert run("check --sarif a.sarif --github")[1].count("::") == 0
    assert json.loads(text("a.sarif"))["runs"][0]["results"] == []
    edit("nets.py", "width=4", "width=8")
    code, out, _ = run("check --format json --sarif a.sarif")
    data = json.loads(out)
    assert (code, data["ok"], data["targets"][0]["now"]["flops"]) == (1, False, 112)
    (result,) = json.loads(text("a.sarif"))["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("nets.py", 11)
    code, out, _ = run("check --github")
    assert code == 1 and "\n::error file=nets.py,line=11,title=flopscan%3A cost-grew::nets.py:Net grew: FLOPs" in out
    assert text("summary.md").startswith("## flopscan: within budget\n")
    assert "\n## flopscan: 1 of 1 targets not within budget\n" in text("summary.md")


def test_lines_are_from_the_root_of_the_repository(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "nets.py").rename(tmp_path / "models" / "nets.py")
    monkeypatch.chdir(tmp_path / "models")
    run(f"lock {NET} --input 2x3")
    edit("nets.py", "width=4", "width=8")
    run("check --sarif a.sarif")
    (result,) = json.loads(text("a.sarif"))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/nets.py"


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("check --lock none.lock", 2, "there is no none.lock; make one, as in flopscan lock vmamba_tiny, or say where"),
        ("lock --update --lock none.lock", 2, "there is no none.lock; make one"),
        ("check nets.py:Ned", 2, "'nets.py:Ned' is not locked; did you mean nets.py:Net"),
        ("lock --remove all", 2, "'all' is not locked; did you mean"),
        ("check --lock old.lock", 1, "old.lock has schema 'flopscan.lock/0', expected 'flopscan.lock/1'; lock again"),
        ("check --lock cut.lock", 1, "cut.lock is cut short: it does not end in '# end'; take it from version control"),
        ("lock --update --lock cut.lock", 1, "cut.lock is cut short"),
        ("check --lock bad.lock", 1, "bad.lock is not whole TOML ("),
        ("check --lock odd.lock", 1, "odd.lock, nets.py:Net: there is no convention 'flopz'; did you mean flops"),
        ("check --sarif none/a.sarif", 2, "cannot write none/a.sarif: there is no folder"),
        ("check --sarif a.txt", 2, "cannot tell the format of 'a.txt'; expected a name that ends in .sarif or .json"),
        ("check --github", 2, "--github writes a summary to the file that $GITHUB_STEP_SUMMARY names, and it is not"),
        ("lock", 2, "expected a target to lock, as in flopscan lock vmamba_tiny, or --update or --tolerance"),
        ("lock --depth 2", 2, "expected a target to lock"),
        (f"lock {NET} -i 2x3 -c fvcor", 2, "there is no convention 'fvcor'; did you mean fvcore"),
        (
            f"lock {NET} -i 2x3 -c params",
            2,
            "params is no convention: parameters and transcendentals are always locked",
        ),
        (
            f"lock {NET} -i 2x3 --tolerance lots",
            2,
            "the tolerance 'lots' is not a percentage from 0% to 100%; write it",
        ),
        ("lock --tolerance 5", 2, "the tolerance '5' is not a percentage from 0% to 100%"),
        (f"lock {NET} -i 2x3 --lock none/flops.lock", 2, "cannot write none/flops.lock: there is no folder"),
        (f"lock {NET} -i 2x3 --lock .", 2, "cannot write .: it is a folder; give the name of a file"),
        (f"lock {NET} -i 9x3", 2, "nets.py:Net is locked, on other inputs or in another way; call this one otherwise,"),
        ("lock --update --backward", 2, "--update counts as it was locked, and --backward would change that"),
        ("lock --update --remove", 2, "--update and --remove do not go together; give one"),
        ("lock --remove", 2, "--remove takes the names to remove"),
        (f"lock --remove {NET} --tolerance 1%", 2, "--remove takes names alone"),
        (f"lock {NET} {OTHER} -i 2x3 --name a", 2, "--name names one target, and there are 2"),
        (f"lock {NET} nets.py:Gone -i 2x3", 2, "nets.py:Gone: nets.py has no 'Gone'"),
        (f"lock {NET} nets.py:Raises -i 2x3", 1, "nets.py:Raises: module (the model)"),
        (f"lock {OTHER}", 2, "nets.py:Other has no default input; give one"),
    ],
)
def test_bad_input_is_one_sentence_and_the_lock_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, code: int, told: str
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    run(f"lock {NET} --input 2x3")
    before = text()
    Path("old.lock").write_text(before.replace("flopscan.lock/1", "flopscan.lock/0"))
    Path("cut.lock").write_text(before[: before.index("\n[targets.")])
    Path("bad.lock").write_text(before[: before.index('"aten::addmm"') + 9])
    Path("odd.lock").write_text(before.replace('conventions = ["flops"]', 'conventions = ["flopz"]'))
    files = sorted(os.listdir())
    found, out, err = run(line)
    assert (found, out) == (code, "") and err.count("\n") == 1
    assert err.startswith("flopscan: error: ") and told in err, err
    assert text() == before and sorted(os.listdir()) == files, "nothing is written"


def test_a_file_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"lock {NET} --input 2x3")
    run("check --sarif a.sarif")
    before, log = text(), text("a.sarif")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, _, err = run(f"lock {OTHER} --input 2x3")
    assert (code, err) == (
        1,
        "flopscan: error: cannot write flops.lock: No space left on device; choose a path that can be written\n",
    )
    edit("nets.py", "width=4", "width=8")
    code, out, err = run("check --sarif a.sarif")
    assert code == 1 and "not within its budget" in out, "what was found is shown all the same"
    assert err.startswith("flopscan: error: cannot write a.sarif: No space left on device")
    assert (text(), text("a.sarif")) == (before, log)
