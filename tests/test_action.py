"""The GitHub Action and the pre-commit hook do what they say, as their runners would do it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
yaml = pytest.importorskip("yaml")
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
NET = "from torch import nn\n\n\ndef net():\n    return nn.Linear(3, {width})\n"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a lock, and a folder bin with `flopscan` and `python` as an installed one has them."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "bin").mkdir()
    command = folder / "bin" / "flopscan"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -B -m flopscan "$@"\n')
    command.chmod(0o755)
    (folder / "net.py").write_text(NET.format(width=4))
    (folder / "runner").mkdir()
    run(folder, "flopscan lock net.py:net -i 2x3 --lock 'a lock.lock'")
    return folder


@pytest.fixture
def repository(locked: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(locked, tmp_path / "repository"))


def run(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What GitHub's `shell: bash` does with a script."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True, text=True,
    )  # fmt: skip


def step(name: str) -> dict[str, Any]:
    (found,) = (step for step in ACTION["runs"]["steps"] if step["name"] == name)
    return dict(found)


def check(folder: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """The step that checks, with the environment that GitHub gives it; its outputs."""
    found = step("Check")
    assert set(found["env"]) == {"LOCK", "NAMES"} and all("inputs." in value for value in found["env"].values())
    (folder / "output").write_text("")
    environment = {
        "RUNNER_TEMP": str(folder / "runner"), "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "LOCK": "a lock.lock", "NAMES": "", **inputs,
    }  # fmt: skip
    done = run(folder, found["run"], **environment)
    return done, (folder / "output").read_text()


def test_the_action_passes_fails_and_gives_the_path_of_sarif(repository: Path) -> None:
    sarif = repository / "runner" / "flopscan.sarif"
    done, output = check(repository)
    assert (done.returncode, output) == (0, f"sarif={sarif}\n"), done.stderr
    (repository / "net.py").write_text(NET.format(width=8))
    done, output = check(repository, NAMES="net.py:net net.py:net")
    assert (done.returncode, output) == (1, f"sarif={sarif}\n")
    assert "\n::error file=" in done.stdout and len(json.loads(sarif.read_text())["runs"][0]["results"]) == 1
    assert "1 of 1 targets not within budget" in (repository / "summary.md").read_text()


def test_without_a_lock_there_is_no_sarif(repository: Path) -> None:
    check(repository)
    done, output = check(repository, LOCK="none.lock")
    assert (done.returncode, output) == (2, "") and "there is no none.lock" in done.stderr


def test_the_output_of_the_action_is_that_of_its_step() -> None:
    assert ACTION["outputs"]["sarif"]["value"] == "${{ steps." + step("Check")["id"] + ".outputs.sarif }}"
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"]), "no input is pasted into a script"


def test_what_the_action_installs(repository: Path) -> None:
    pip = repository / "bin" / "python"
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    pip.chmod(0o755)
    done = run(repository, step("Install")["run"], ACTION="/the action", REQUIREMENTS="-r requirements.txt timm")
    assert done.stdout.split("\n")[:-1] == [
        "-m", "pip", "install", "--quiet", "/the action", "-r", "requirements.txt", "timm",
    ]  # fmt: skip
    assert run(repository, step("Install")["run"], ACTION="/a", REQUIREMENTS="").stdout.endswith("--quiet\n/a\n")


def test_the_page_shows_them_as_they_can_be_used() -> None:
    page = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")
    shown = [step for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) for step in yaml.safe_load(block)]
    (used,) = (step for step in shown if step.get("id") == "flopscan")
    assert used["uses"] == "./.flopscan" and set(used["with"]) <= set(ACTION["inputs"])
    assert "github.action_path" in step("Install")["env"]["ACTION"], "the flopscan beside the action is installed"
    (local,) = (entry for entry in shown if entry.get("repo") == "local")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert local["hooks"] == [{key: value for key, value in hook.items() if key != "description"}]


def test_the_hook_runs_a_command_that_is_there(repository: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("flopscan-check", "system", False)
    assert run(repository, f"{hook['entry']} --lock 'a lock.lock'").returncode == 0
    (repository / "net.py").write_text(NET.format(width=8))
    assert run(repository, f"{hook['entry']} --lock 'a lock.lock'").returncode == 1
