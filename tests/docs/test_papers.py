"""docs/papers.md shows what its commands print."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest

from flopscan.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "papers.md").read_text()
BLOCKS = re.findall(r"^```console\n\$ (flopscan .*)\n((?:.*\n)*?)```$", TEXT, re.MULTILINE)
PINNED = pytest.mark.skipif(version("torch")[:4] != "2.13", reason="about the torch that constraints.txt pins")


def without_versions(text: str) -> str:
    return re.sub(r"(torch|python) [\w.+]+(?=[,;.\s])", r"\1", text)


@PINNED
@pytest.mark.parametrize(("command", "shown"), [b for b in BLOCKS if "hf:" not in b[0]])
def test_a_command_prints_what_is_shown(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert without_versions(" ".join(printed.split())) == without_versions(" ".join(shown.split()))


@pytest.mark.peers
@PINNED
@pytest.mark.parametrize(("command", "shown"), [b for b in BLOCKS if "hf:" in b[0]])
def test_a_command_on_models_of_transformers(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test_a_command_prints_what_is_shown(command, shown, capsys, monkeypatch)


@PINNED
def test_the_table_of_a_model_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = re.findall(r"`(flopscan count [^`]*--format markdown)` prints this", TEXT)
    assert main(shlex.split(command)[1:]) == 0
    assert without_versions(capsys.readouterr().out.strip()) in without_versions(TEXT)


def test_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^]]+\]\((images/[^)]+)\)", TEXT)
    assert len(pictures) == 2 and all((DOCS / name).stat().st_size < 100_000 for name in pictures)
