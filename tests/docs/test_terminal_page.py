"""docs/terminal.md shows what is printed, and names the options and keys that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from flopscan.cli.commands.count import command
from flopscan.cli.explorer.pages import KEYS
from flopscan.cli.main import main
from flopscan.report.selection import SORTS

PAGE = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not torch.__version__.startswith("2.13.0"), reason="the page was written on torch 2.13.0")
def test_the_table_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    line, shown = re.findall(r"^```\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)[:2]
    assert line.startswith("flopscan count") and shown.startswith("module ")
    assert main(shlex.split(line)[1:]) == 0
    assert f"\n\n{shown}\n\n" in capsys.readouterr().out


def test_the_options_and_keys_are_those_that_there_are() -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert {*re.findall(r"`(--[\w-]+)", PAGE)} <= options
    assert all(f"`{sort}`" in PAGE for sort in SORTS)
    told = {
        key for keys in re.findall(r"^\| (.*?) \|", PAGE.partition("The explorer")[2], re.MULTILINE) for key in keys
    }
    assert {key for keys, _ in KEYS for key in keys.split() if len(key) == 1} <= told
