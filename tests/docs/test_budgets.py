"""The examples of docs/budgets.md do what the page shows, one after another.

``python tests/docs/test_budgets.py`` writes what they print into the page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "budgets.md"
_BLOCK = re.compile(r"^```(python|console|diff|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MOVING = re.compile(r'(?m)^(?:flopscan|python|torch) = ".*"$|\d+\.\d+s|0x[0-9a-f]+')
_SETTING = {"COLUMNS": "100", "NO_COLOR": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "src")}


def test_the_page_is_current(tmp_path: Path) -> None:
    ran = [pair for block in blocks(PAGE.read_text()) for pair in play(*block, tmp_path)]
    assert len(ran) > 6
    for shown, now in ran:
        assert lasting(now) == lasting(shown), "see the head of this file"


def lasting(text: str) -> list[str]:
    """The lines of ``text`` without what moves with a version; of pytest what a failure says."""
    lines = [line.rstrip() for line in _MOVING.sub("", text).splitlines()]
    return [line for line in lines if line.startswith(("$", ">", "E"))] if text.startswith("$ pytest") else lines


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of the page by kind, files first: it shows a test of the model before the model."""
    return sorted(_BLOCK.findall(page), key=lambda block: block[0] != "python")


def play(kind: str, text: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Do what a block of the page says; for each of its commands what the page shows and what it prints."""
    if kind == "python":
        name, _, code = text.partition("\n")
        (folder / name.removeprefix("# ")).write_text(code)
    elif kind == "diff":
        old, new = ("".join(f"{row[1:]}\n" for row in text.splitlines() if row[0] == sign) for sign in "-+")
        _replace(folder / "net.py", old, new)
    elif kind == "toml":
        before = '[targets."net.py:Net".total]'
        _replace(folder / "flops.lock", before, f"{text}{before}")
    else:
        code = 0
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            out, code = run(command, folder, code)
            yield f"$ {command}\n{shown}", f"$ {command}\n{out}"


def _replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def run(command: str, folder: Path, before: int) -> tuple[str, int]:
    """What ``command`` prints to stdout in ``folder``, and its exit code; ``before`` is that of the last one."""
    words = shlex.split(command)
    if words[0] == "echo":
        return f"{before}\n", 0
    if words[0] == "cat":
        return (folder / words[1]).read_text(), 0
    if words[0] == "flopscan":
        return _flopscan(words[1:], folder)
    assert words[0] == "pytest"
    plugin = ["-p", "flopscan.budget.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *plugin, *words[1:]], cwd=folder, env={**os.environ, **_SETTING},
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout, done.returncode


def _flopscan(arguments: list[str], folder: Path) -> tuple[str, int]:
    from flopscan.cli.main import main

    here, out = os.getcwd(), io.StringIO()
    with (
        mock.patch.dict(os.environ, _SETTING),
        mock.patch.object(sys, "path", list(sys.path)),
        mock.patch.object(sys, "dont_write_bytecode", True),  # an edit of the same size in the same second is one
        contextlib.redirect_stdout(out),
    ):
        os.chdir(folder)
        try:
            code = main(arguments)
        finally:
            os.chdir(here)
            sys.modules.pop("net", None)
    return out.getvalue(), code


def _write() -> None:
    page = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        for kind, text in blocks(page):
            now = "".join(printed for _, printed in play(kind, text, Path(folder)))
            now = re.sub(r"[ ]+$", "", now, flags=re.MULTILINE)
            page = page.replace(text, now, 1) if now else page
    PAGE.write_text(page)


if __name__ == "__main__":
    _write()
