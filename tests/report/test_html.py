"""The HTML report: its numbers are the report's under every convention, and what a model says stays text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flopscan
from flopscan import conventions
from flopscan.devices.bound import UNITS
from flopscan.errors import FlopscanError, UsageError
from flopscan.report import page, report, tree
from flopscan.report.numbers import exact
from flopscan.report.page import assets
from flopscan.report.report import Report
from flopscan.report.roofline_text import duration
from pages import EVIL, Element, Turns, data_of, evil, huge, net, on_a_device, read, report_of
from samples import make_ledger

VENDOR = Path(assets.__file__).parent / "vendor"


@pytest.fixture(scope="module")
def vmamba() -> Report:
    return flopscan.count("vmamba_tiny")


REPORTS: dict[str, Any] = {
    "forward": net,
    "backward": lambda: net(backward=True),
    "hostile": evil,
    "incomplete": lambda: report.make(make_ledger()),
    "huge": huge,
}


def rows_of(root: Element, table: str) -> list[Element]:
    (found,) = root.find("table", id=table)
    return [row for body in found.find("tbody") for row in body.find("tr")]


def numbers_of(row: Element) -> dict[str, str]:
    """The cells of a row with all their digits, by column."""
    return {c.classes[1]: c["title"] or c.text for c in row.find("td") if c.classes[:1] == ["n"]}


def bare(row: dict[str, Any]) -> dict[str, int]:
    return {key: value for key, value in row.items() if key not in ("name", "class")}


@pytest.mark.parametrize("name", REPORTS)
def test_the_data_are_the_report_under_every_convention(name: str) -> None:
    made = REPORTS[name]()
    data = data_of(read(page.render(made)))
    able = [row[0] for row in data["conventions"]]
    assert able[data["chosen"]] == "flops" and len(able) > 20
    for place, convention in enumerate(able):
        said = made.using(convention).to_dict()
        found = report_of(data, place)
        assert {key: found["total"][key] for key in ("value", "flops", "macs", "params")} == {
            key: said[key] for key in ("value", "flops", "macs", "params")
        }
        assert int(data["conventions"][place][4]) == said["value"]
        mistakes, kernels = data["conventions"][place][5:]
        assert [{**one, "amount": int(one["amount"])} for one in mistakes] == said["mistakes"], convention
        assert {op: int(calls) for op, calls in kernels.items()} == said["kernels_at_zero"], convention
        for table in ("by_module", "by_operator", "by_phase"):
            assert found[table] == {row["name"]: bare(row) for row in said[table]}, (convention, table)
        assert [row[0] for row in data["modules"]] == [row["name"] for row in said["by_module"]]
    for key in ("notes", "versions", "uncounted", "scan", "route"):  # here none of their numbers is too large
        assert data[key] == json.loads(json.dumps(made.to_dict()[key])), key
    for missing in set(conventions.names()) - set(able):
        with pytest.raises(FlopscanError):
            made.using(missing).to_dict()


def test_numbers_beyond_a_double_are_texts() -> None:
    made = huge()
    data = data_of(read(page.render(made)))
    found = report_of(data, data["chosen"])["total"]
    assert found["value"] == made.to_dict()["value"] > 2**60 and found["value"] % 2**52
    assert all(type(n) is str or abs(n) < 2**53 for _, *both in data["pool"]["lines"] for ns in both for n in ns)


@pytest.mark.parametrize("convention", ["flops", "macs", "fvcore", "vmamba", "thop"])
def test_the_tables_are_the_report_without_a_script(vmamba: Report, convention: str) -> None:
    made = vmamba.using(convention)
    root = read(page.render(made))
    data, said = data_of(root), made.to_dict()
    by_module = {row["name"]: row for row in said["by_module"]}
    rows = rows_of(root, "module-table-whole")
    assert len(rows) == len(data["nodes"]) > 50 and not any("hidden" in row.attributes for row in rows)
    times: list[int] = []
    for row, (parent, module, _, members, *_) in zip(rows, data["nodes"], strict=True):
        local = members if isinstance(members, int) else len(members)
        times.append(local * (times[parent] if parent >= 0 else 1))
        want = by_module[data["modules"][module][0]]
        found = numbers_of(row)
        for key, column in [("value", "value"), ("flops", "flops"), ("macs", "macs"), ("params", "params")]:
            assert found[column] == exact(want[key] * times[-1])
        assert found["bytes"] == exact((want["bytes_read"] + want["bytes_written"]) * times[-1])
    operators = {row["name"]: row for row in said["by_operator"]}
    shown = [row for row in rows_of(root, "operator-table") if "hidden" not in row.attributes]
    assert [next(row.find("th")).text for row in shown][:3] == [row["name"] for row in said["by_operator"]][:3]
    for row in shown:
        found, want = numbers_of(row), operators[next(row.find("th")).text]
        assert (found["value"], found["calls"]) == (exact(want["value"]), exact(want["calls"]))
    (value,) = root.find(id="value-whole")
    assert value.text == f"{exact(said['value'])} {said['unit']}"


def test_the_head_says_the_totals(vmamba: Report) -> None:
    root = read(page.render(vmamba))
    said = vmamba.to_dict()
    want = {
        "flops": said["flops"],
        "executed": int(vmamba.executed_flops),
        "macs": said["macs"],
        "transcendentals": said["transcendentals"],
        "bytes": said["bytes_read"] + said["bytes_written"],
        "params": said["params"],
    }
    for name, number in want.items():
        (card,) = root.find(id=f"card-{name}")
        (whole,) = card.find(class_="whole")
        assert whole.text == exact(number)
    rows = {row["data-convention"]: row for row in rows_of(root, "scan-table")}
    assert list(rows) == [row["convention"] for row in said["scan"]["conventions"]]
    for row in said["scan"]["conventions"]:
        cells = [cell.text for cell in rows[row["convention"]].find("td")]
        assert rows[row["convention"]].text.startswith(f"{row['convention']} {row['formula']}")
        assert cells[1] == row["unit"] and cells[-2:] == [f"{row['share']:.2%}", exact(row["total"])]


def test_layers_fold_only_where_every_convention_says_the_same_of_them() -> None:
    data = data_of(read(page.render(net())))
    (folded,) = (node for node in data["nodes"] if node[3] > 1)
    assert (folded[2], folded[3]) == ("blocks.0-11", 12)
    ledger = net().ledger
    trace = ledger.trace
    place = next(i for i, module in enumerate(trace.modules) if module.path == "blocks.3.act")
    one = next(r for r in trace.records if r.module == place and not r.envelope)
    calls = (*trace.calls, dataclasses.replace(trace.calls[one.call], op="aten::gelu_"))
    records = tuple(dataclasses.replace(r, call=len(trace.calls)) if r is one else r for r in trace.records)
    other = dataclasses.replace(
        ledger,
        trace=dataclasses.replace(trace, calls=calls, records=records),
        prices=(*ledger.prices, ledger.prices[one.call]),
    )
    made = report.make(other)
    assert [n.times for _, n in tree.visible(tree.build(made.by_module()), 1)] == [1, 1, 12, 1], "the same FLOPs"
    labels = [node[2] for node in data_of(read(page.render(made)))["nodes"]]
    assert {"blocks.0-2,4-11", "blocks.3"} <= set(labels)


def test_what_is_folded_says_its_members() -> None:
    nodes = data_of(read(page.render(flopscan.count(Turns(), (4, 8)))))["nodes"]
    folded = {node[2]: node[3] for node in nodes if node[3] != 1}
    assert folded == {
        "layers.0,2,4": ["layers.0", "layers.2", "layers.4"], "layers.1,3,5": ["layers.1", "layers.3", "layers.5"],
        "0,2": ["0", "2"],
    }  # fmt: skip


@pytest.mark.parametrize("convention", ["thop", "ptflops", "fvcore"])
def test_what_is_wrong_with_the_number_stands_there_without_a_script(vmamba: Report, convention: str) -> None:
    made = vmamba.using(convention)
    root = read(page.render(made))
    (zero,), (wrong,) = root.find("p", id="at-zero"), root.find("ul", id="mistakes")
    assert zero.text == f"{convention} counts as zero: flopscan::selective_scan \N{MULTIPLICATION SIGN} 14."
    assert [item.text.split()[0] for item in wrong.find("li")] == [f"{one.amount:+,}" for one in made.mistakes]
    assert all(f"{convention}~{one.bug.key}" in wrong.text for one in made.mistakes)
    (section,) = read(page.render(vmamba)).find("section", id="warnings")
    assert "hidden" in section.attributes


def test_depth_is_what_is_open_at_first() -> None:
    data = data_of(read(page.render(net(), depth=1)))
    assert data["depth"] == 1 and [data["nodes"][i][2] for i in data["shown"]] == ["", "stem", "blocks.0-11", "head"]


@pytest.mark.parametrize("name", REPORTS)
def test_only_the_carried_scripts_and_styles_are_allowed(name: str) -> None:
    made = REPORTS[name]()
    root = read(page.render(made, roofline=on_a_device(made)))
    (meta,) = root.find("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.split(" ", 1) for part in (meta["content"] or "").split("; "))
    assert policy["default-src"] == "'none'" and "unsafe" not in str(policy)
    scripts = [script for script in root.find("script") if script["type"] is None]
    hashes = [base64.b64encode(hashlib.sha256(script.raw.encode()).digest()).decode() for script in scripts]
    assert policy["script-src"] == " ".join(f"'sha256-{digest}'" for digest in hashes)
    (style,) = root.find("style")
    assert base64.b64encode(hashlib.sha256(style.raw.encode()).digest()).decode() in policy["style-src"]
    for element in root.find():
        assert element.tag not in ("img", "iframe", "link", "object", "embed", "a", "base", "form"), element.tag
        unsafe = [name for name in element.attributes if name.startswith("on") or name in ("style", "src", "href")]
        assert not unsafe, unsafe


def test_what_a_model_says_stays_text() -> None:
    made = evil()
    html = page.render(made, roofline=on_a_device(made))
    assert "<img" not in html and 'onerror="window' not in html and "\x00" not in html
    html.encode()  # no lone surrogates
    root = read(html)
    assert [s["id"] for s in root.find("script") if s["type"]] == ["data"]
    assert next(root.find("h1")).raw.strip() == EVIL and EVIL[:23] in next(root.find("title")).raw
    labels = [next(row.find("bdi")).raw for row in rows_of(root, "module-table-whole")]
    assert {EVIL, "x" * 10_000} <= set(labels)
    data = data_of(root)
    assert data["target"] == EVIL and "\ud800\x00\x1b" in {row[0] for row in data["modules"]}
    for place in ("uncounted", "notes", "provenance", "phases", "operators", "lines", "roofline"):
        (section,) = root.find(id=place)
        assert EVIL[:40] in section.raw, place


def test_what_was_not_counted_stands_before_every_number() -> None:
    made = report.make(make_ledger())
    html = page.render(made)
    root = read(html)
    (alarm,) = root.find("section", id="uncounted")
    assert html.index('id="uncounted"') < html.index('id="cards"') < html.index("module-table")
    for text in ("x::unknown", "2", "no rule for this operator", "2x4", "the top level"):
        assert text in alarm.text
    (flops,) = root.find(id="card-flops")
    assert flops.text.count("≥") == 2
    first = rows_of(root, "module-table-whole")[0]
    assert "missing" in first.classes and numbers_of(first)["value"].startswith("≥")
    whole = read(page.render(net()))
    assert (
        next(whole.find(id="uncounted")).text == "Everything was counted." and "≥" not in next(whole.find("main")).text
    )


def test_phases_lines_and_a_roofline_stand_there_where_they_are_known() -> None:
    ids = {element["id"] for element in read(page.render(net())).find("section")}
    assert not {"phases", "lines", "roofline", "scan"} & ids
    made = net(backward=True, lines=True)
    bound = made.on("h100-sxm", "bf16")
    root = read(page.render(made, roofline=bound))
    assert [next(row.find("th")).text for row in rows_of(root, "phase-table")] == ["forward", "backward"]
    assert any("pages.py" in row.text for row in rows_of(root, "line-table"))
    (roof,) = root.find(id="roofline")
    assert bound.device.title in roof.text and "everything in bf16" in roof.text
    assert f"{duration(bound.total)} operator by operator, {duration(bound.fused.seconds)} with everything" in roof.text
    rows = [[cell.text for cell in row.find() if cell.tag in ("th", "td")] for row in rows_of(root, "roofline-table")]
    said = {row.name: row for row in bound.by_operator().values() if row.seconds}
    assert [row[:4] for row in rows] == [
        [name, exact(row.calls), duration(row.seconds), UNITS[row.by]] for name, row in said.items()
    ]
    data = data_of(root)
    times = {path: row.seconds for path, row in bound.by_module().items()}
    assert all(node[-1] == times[data["modules"][node[1]][0]] for node in data["nodes"])


def test_a_convention_that_cannot_count_the_model_says_why() -> None:
    rows = {
        next(row.find("th")).text.split()[0]: row.text for row in rows_of(read(page.render(net())), "convention-table")
    }
    assert "formula for language models" in rows["6nd"]
    assert set(rows) == set(conventions.names())


def test_a_convention_that_a_person_changed_is_the_one_shown(vmamba: Report) -> None:
    changed = next(c for c in map(conventions.get, conventions.names()) if c.bugs and c.name == "fvcore")
    mended = Report(vmamba.ledger, changed.without())
    data = data_of(read(page.render(mended)))
    assert int(data["conventions"][data["chosen"]][4]) == int(mended.value)


def test_the_same_ledger_gives_the_same_bytes(vmamba: Report, tmp_path: Path) -> None:
    vmamba.ledger.save(str(tmp_path / "tiny.json"))
    code = (
        "import sys; from flopscan.core.ledger import Ledger; from flopscan.report import report, page;"
        "sys.stdout.buffer.write(page.render(report.make(Ledger.load(sys.argv[1]))).encode())"
    )
    found = {page.render(vmamba).encode()}
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(tmp_path / "tiny.json")]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(flopscan.__file__).parents[1])}
        found.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(found) == 1


def test_vmamba_tiny_is_small_and_asks_for_nothing(vmamba: Report) -> None:
    html = page.render(vmamba)
    assert len(html.encode()) < 600_000, "of the 1.5 MB that a report may have"
    carried = "".join(assets.scripts())
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", html)) - set(re.findall(r"https?://[^\s\"'<)]+", carried))
    assert not addresses


def test_the_libraries_are_those_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    files = {name: entry for library in manifest.values() for name, entry in library["files"].items()}
    assert {path.name for path in VENDOR.iterdir()} == {"manifest.json", *files}
    for name, entry in files.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == entry["sha256"], name
    html = page.render(net())
    assert "Permission to use, copy, modify" in html and "TERMS AND CONDITIONS FOR USE, REPRODUCTION" in html


def test_it_is_saved_and_printed_like_any_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flopscan.cli.main import main

    made, path = net(), tmp_path / "net.html"
    made.save(path)
    assert path.read_text(encoding="utf-8") == page.render(made) + "\n"
    made.ledger.save(str(tmp_path / "net.json"))
    asked = ["--format", "html", "-o", str(path), "--depth", "0", "--device", "h100-sxm"]
    assert main(["report", str(tmp_path / "net.json"), *asked]) == 0
    printed = capsys.readouterr().out
    assert printed == path.read_text(encoding="utf-8") and data_of(read(printed))["depth"] == 0
    assert data_of(read(printed))["roofline"]["device"] == "h100-sxm"
    with pytest.raises(UsageError, match="there is no folder"):
        made.save(tmp_path / "nowhere" / "net.html")


def test_without_jinja2_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(FlopscanError, match=r"^the HTML report needs jinja2, which is not here: pip install jinja2$"):
        page.render(net())
