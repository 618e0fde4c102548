"""What only a process of its own shows: what is imported, and a reader that goes away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flopscan
from samples import make_ledger

SOURCE = str(Path(flopscan.__file__).parents[1])
WATCHED = (
    "import sys; from flopscan.cli.main import main; code = main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
)


def run(*arguments: str, code: str = WATCHED) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, text=True, capture_output=True, check=True
    )


def test_help_loads_neither_torch_nor_rich() -> None:
    loaded = run("--help").stderr.split()
    assert "flopscan.cli.main" in loaded and "torch" not in loaded and "rich" not in loaded


def test_price_and_report_never_load_torch(tmp_path: Path) -> None:
    make_ledger().trace.save(str(tmp_path / "a.trace.json"))
    loaded = run("price", str(tmp_path / "a.trace.json"), "-o", str(tmp_path / "a.ledger.json")).stderr.split()
    assert "flopscan.rules" in loaded and "torch" not in loaded
    done = run("report", str(tmp_path / "a.ledger.json"), "--color", "always", "-o", str(tmp_path / "a.json"))
    assert "torch" not in done.stderr.split() and "FLOPs" in done.stdout


def test_what_was_saved_is_compared_without_torch(tmp_path: Path) -> None:
    make_ledger().trace.save(str(tmp_path / "a.trace.json"))
    make_ledger().save(str(tmp_path / "a.ledger.json"))
    done = run("compare", str(tmp_path / "a.trace.json"), str(tmp_path / "a.ledger.json"))
    assert "torch" not in done.stderr.split() and "FLOPs" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="a shell pipe")
def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    make_ledger().save(str(tmp_path / "a.ledger.json"))
    code = (
        "import sys, time; from flopscan.cli.main import main; time.sleep(0.3);"
        "code = main(sys.argv[1:]); print('ended', code, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "report", str(tmp_path / "a.ledger.json")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "ended 0\n"
    assert process.wait() == 0
    process.stderr.close()


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own")
def test_a_spinner_on_the_terminal_leaves_stdout_alone() -> None:
    import pty

    code = (
        "import contextlib, sys, time; from flopscan.cli import progress; progress.PATIENCE = 0.01\n"
        "with progress.progress('counting a net'), contextlib.redirect_stdout(sys.stderr): time.sleep(0.4)\n"
        "print('the report')"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": SOURCE, "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=theirs, check=True
    )
    os.close(theirs)
    assert done.stdout == b"the report\n"
    assert b"counting a net" in os.read(ours, 65536)
    os.close(ours)
