"""Traces and ledgers as files: they come back equal; a file that is not one is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flopscan.core.document import write_text
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Trace
from flopscan.errors import FlopscanError, SchemaError
from samples import make_ledger


@pytest.mark.parametrize("name", ["x.json", "x.json.gz"])
def test_a_ledger_comes_back_equal(tmp_path: Path, name: str) -> None:
    ledger = make_ledger()
    path = str(tmp_path / name)
    ledger.save(path)
    again = Ledger.load(path)
    assert again == ledger
    assert again.trace.calls[2]["c"] == 1 + 2j


def test_a_trace_comes_back_equal(tmp_path: Path) -> None:
    trace = make_ledger().trace
    path = str(tmp_path / "t.json")
    trace.save(path)
    assert Trace.load(path) == trace


def spoil(path: Path, change: str) -> str:
    make_ledger().trace.save(str(path))
    data = json.loads(path.read_text())
    if change == "version":
        data["schema"] = "flopscan.trace/99"
    elif change == "missing":
        del data["calls"]
    elif change == "index":
        data["records"][0][0] = 77
    path.write_text(json.dumps(data)[: -20 if change == "cut" else None])
    return str(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("version", "has schema 'flopscan.trace/99', expected 'flopscan.trace/2'"),
        ("missing", "is damaged: it says 'flopscan.trace/2' but lacks or garbles 'calls'"),
        ("index", "is damaged"),
        ("cut", "is not whole JSON"),
    ],
)
def test_a_spoiled_file_is_refused(tmp_path: Path, change: str, said: str) -> None:
    path = spoil(tmp_path / "t.json", change)
    with pytest.raises(SchemaError) as caught:
        Trace.load(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(path)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SchemaError, match=r"cannot read nowhere.json: No such file"):
        Trace.load("nowhere.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(FlopscanError, match="cannot write"):
        write_text(tmp_path / "no" / "such" / "x.txt", "text")
    target = tmp_path / "dir"
    target.mkdir()
    with pytest.raises(FlopscanError, match="cannot write"):
        write_text(target, "text")
    assert list(tmp_path.iterdir()) == [target]
