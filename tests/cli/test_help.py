"""What --help says of every command, and what a shell completes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

import flopscan
from flopscan import conventions
from flopscan.budget import lockfile
from flopscan.cli.main import commands, main

SOURCE = str(Path(flopscan.__file__).parents[1])


def every(command: click.Command, context: click.Context, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every(below, context, (*words, name))


ALL = list(every(commands, click.Context(commands), ()))


def helped(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_has_examples_exit_codes_and_a_word_on_every_option(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = helped(words, capsys)
    assert "Examples:\n" in text and re.search(r"Exit codes: 0 fine, 1 .*, 2 wrong usage", text)
    assert max(map(len, text.splitlines())) <= 124, "lines that were meant to stay whole fit a terminal"
    options = text.partition("Options:")[2].partition("Examples:")[0]
    for name in re.findall(r"^  (?:-\w, )?--[\w-]+.*", options, re.MULTILINE):
        start = options.index(name)
        told = re.sub(r"\s+", " ", options[start : start + 240]).replace(name.strip(), "", 1) + name
        assert re.search(r"[A-Z][a-z']+ ", told), name
    assert "\\b" not in text and "\b" not in text


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_examples_are_commands_with_options_that_there_are(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = helped(words, capsys)
    examples = re.findall(
        r"^ +(?:eval \"\$\()?flopscan (.*?)(?:\)\".*| > .*)?$", text.partition("Examples:")[2], re.MULTILINE
    )
    assert examples
    for example in examples:
        command: click.Command = commands
        context = click.Context(commands, info_name="flopscan")
        rest = shlex.split(example, comments=True)
        while isinstance(command, click.Group):
            found = command.get_command(context, rest.pop(0))
            assert found is not None, example
            command = found
        command.make_context("flopscan", rest)  # raises for an option, a choice or a number of arguments that is wrong


@pytest.mark.parametrize("words", [words for words in ALL if words not in ((), ("plot",))], ids=" ".join)
def test_every_command_has_the_same_settings(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(words, capsys)
    assert all(option in text for option in ("-q, --quiet", "--debug", "-h, --help"))


@pytest.mark.parametrize(
    "line",
    ["--help", "count --help", "check --help", "devices", "devices l4", "targets", "completion zsh", "conventions"],
)
def test_what_only_tells_loads_nothing_heavy(line: str) -> None:
    code = "import sys; from flopscan.cli.main import main\nmain(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", code, *line.split()]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
    assert done.stdout
    heavy = {"torch", "rich", "sympy", "numpy", "jinja2", "textual"}
    heavy |= {"flopscan.rules", "flopscan.report.report"} if line != "conventions" else set()
    assert not heavy & set(done.stderr.split())


def test_lists_are_json_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conventions", "--format", "json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in every] == conventions.names() and all(one["unit"] for one in every)
    assert main(["conventions", "thop", "--format", "json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["name"] == "thop" and [bug["key"] for bug in one["mistakes"]] == [
        b.key for b in conventions.get("thop").bugs
    ]
    assert main(["targets", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "vmamba_tiny" in told["models"] and told["forms"][0]["form"] == "timm:NAME"


def test_names_in_a_lock_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed("check ") == []
    from flopscan.budget.lock import Entry, Lock
    from flopscan.budget.measures import Measured

    lockfile.save(
        Lock(
            entries={
                "tiny": Entry("vmamba_tiny", numbers=Measured(dict.fromkeys(("flops", "params", "transcendentals"), 1)))
            }
        ),
        "flops.lock",
    )
    assert completed("check t") == ["tiny"] and completed("check x") == []


def completed(line: str) -> list[str]:
    """What the shell is offered after ``line``; the last word is being typed."""
    *before, typed = line.split(" ")
    return [item.value for item in ShellComplete(commands, {}, "flopscan", "_X").get_completions(before, typed)]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cou", ["count"]),
        ("count vmamba_ti", ["vmamba_tiny", "vmamba_tiny_s2l5", "vmamba_tiny_v0"]),
        ("count ti", ["timm:"]),
        ("count model.p", ["model.p"]),
        ("table A=vmamba_base_", ["A=vmamba_base_s1l20", "A=vmamba_base_v0"]),
        ("count x --convention vmam", ["vmamba", "vmamba-v0"]),
        ("explain x --between fvcore,vmam", ["fvcore,vmamba", "fvcore,vmamba-v0"]),
        ("count x --device h100-s", ["h100-sxm"]),
        ("count x --format mark", ["markdown"]),
        ("table x --columns params,scan", ["params,scan", "params,scan-share"]),
        ("devices l4", ["l4", "l40s"]),
        ("completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_a_shell_completes(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert "_FLOPSCAN_COMPLETE" in out and f"{shell}_complete" in out and not err
    assert main(["completion", "tcsh"]) == 2


def test_completion_runs_as_a_shell_asks_and_loads_no_torch() -> None:
    code = "import sys; from flopscan.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    environment = {
        **os.environ, "PYTHONPATH": SOURCE, "_FLOPSCAN_COMPLETE": "bash_complete",
        "COMP_WORDS": "flopscan count vmamba_s", "COMP_CWORD": "2",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=False)
    assert done.stdout.split() == ["plain,vmamba_small", "plain,vmamba_small_s1l20", "plain,vmamba_small_v0"]
    assert "torch" not in done.stderr.split()


@pytest.mark.skipif(not os.path.exists("/bin/bash"), reason="bash is not here")
def test_bash_reads_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    done = subprocess.run(
        ["/bin/bash", "-c", f"{script}\ncomplete -p flopscan"], text=True, capture_output=True, check=True
    )
    assert "_flopscan_completion" in done.stdout
