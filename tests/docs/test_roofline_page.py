"""docs/roofline.md shows what is printed today."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest

from flopscan.cli.main import main

TEXT = (Path(__file__).parents[2] / "docs" / "roofline.md").read_text()


@pytest.mark.skipif(version("torch")[:4] != "2.13", reason="about the torch that constraints.txt pins")
def test_the_section_is_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = re.findall(r"^flopscan (count .*--width 100)$", TEXT, re.MULTILINE)
    (section,) = re.findall(r"^```\n(least time .*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)
    assert main(shlex.split(command)) == 0
    assert section in capsys.readouterr().out
