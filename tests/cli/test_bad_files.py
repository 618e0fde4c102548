"""Files that a command cannot take, and places that it cannot write to: one sentence, an exit code, no change."""

from __future__ import annotations

import gzip
import json
import os
import shlex
from pathlib import Path

import pytest

from flopscan.cli.main import main
from flopscan.errors import FlopscanError
from flopscan.report.report import make
from samples import make_ledger

READS = {  # a command, and what it takes in the place of FILE
    "report FILE": "ledger", "price FILE -o out.json": "trace", "compare FILE good.report.json": "report",
    "compare good.report.json FILE": "ledger", "explain FILE --between flops,macs": "ledger",
    "report good.ledger.json --device FILE": "device", "devices FILE": "device",
    "count vmamba_tiny --device FILE": "device",
}  # fmt: skip
WRITES = (
    "report good.ledger.json -o OUT.html", "report good.ledger.json -o OUT.json", "price good.trace.json -o OUT.json",
    "table good.report.json --columns flops -o OUT.md", "report good.ledger.json -o OUT.txt -o OUT.csv",
    "trace vmamba_tiny -o OUT.json", "lock vmamba_tiny --lock OUT.lock",
)  # fmt: skip


@pytest.fixture(autouse=True)
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = make_ledger()
    ledger.trace.save("good.trace.json")
    ledger.save("good.ledger.json")
    make(ledger).save("good.report.json")
    from flopscan import devices

    devices.get("l4").save("good.device.json")


def sentence(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and the one line on stderr, and nothing on stdout."""
    code = main(shlex.split(line))
    out, err = capsys.readouterr()
    assert err.startswith("flopscan: error: ") and err.count("\n") == 1 and not out, (out, err)
    return code, err


@pytest.mark.parametrize("line", READS)
@pytest.mark.parametrize("wrong", ["version", "cut", "cut.gz", "empty", "bytes", "kind", "missing", "folder"])
def test_a_file_that_is_wrong(line: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = "wrong.json.gz" if wrong == "cut.gz" else "wrong.json"
    text = Path(f"good.{READS[line]}.json").read_text(encoding="utf-8")
    kind = json.loads(text)["schema"].partition("/")[0]
    wanted = {
        "version": f"wrong.json has schema '{kind}/99', expected '", "cut": "wrong.json is not whole JSON (",
        "cut.gz": "wrong.json.gz is not whole JSON (", "empty": "wrong.json is not whole JSON (",
        "bytes": "wrong.json is not whole JSON (", "missing": "cannot read wrong.json: No such file or directory; ",
        "folder": "cannot read wrong.json: Is a directory; ",
        "kind": "wrong.json is another kind of file: it has schema 'flopscan.models/1', expected '",
    }  # fmt: skip
    contents = {
        "version": text.replace(f"{kind}/", f"{kind}/99", 1).replace("/991", "/99").replace("/992", "/99").encode(),
        "cut": text.encode()[: len(text) // 2], "cut.gz": gzip.compress(text.encode())[:60], "empty": b"",
        "bytes": b"\xff\xfe\x00\x01", "kind": json.dumps({"schema": "flopscan.models/1"}).encode(),
    }  # fmt: skip
    if wrong == "folder":
        Path(name).mkdir()
    elif wrong in contents:
        Path(name).write_bytes(contents[wrong])
    code, err = sentence(line.replace("FILE", name), capsys)
    assert code == 1 and wanted[wrong] in err
    assert not Path("out.json").exists()


@pytest.mark.parametrize("line", WRITES)
def test_a_place_that_cannot_be_written_keeps_the_old_file(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sentence(line.replace("OUT", "no/out"), capsys)[0] == 2
    before = {}
    for suffix in ("html", "json", "md", "txt", "csv"):
        Path(f"out.{suffix}").write_text("old", encoding="utf-8")
        before[f"out.{suffix}"] = "old"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(shlex.split(line.replace("OUT", "out"))) == FlopscanError.exit_code == 1
    err = capsys.readouterr().err
    assert err.count("flopscan: error: cannot write out.") == 1 and "No space left on device; choose a path" in err
    assert {name: Path(name).read_text(encoding="utf-8") for name in before} == before
    assert not list(Path().glob(".flopscan-*")), "no partial file"


def test_a_closed_folder_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("closed").mkdir()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    code, err = sentence("count vmamba_tiny -o closed/a.html", capsys)
    assert code == 2 and "cannot write closed/a.html: the folder " in err and "is closed to you" in err
