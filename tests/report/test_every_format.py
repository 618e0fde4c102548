"""Every number in every format is the one of the JSON: totals, modules, operators, scans, bounds on time."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import flopscan
from flopscan.report import formats, notebook, tree
from flopscan.report.format import Shown
from flopscan.report.numbers import exact, si
from flopscan.report.report import Report
from flopscan.report.roofline import Roofline
from flopscan.report.roofline_text import duration
from pages import Element, read

TARGET, DEVICE, DTYPE = "vmamba_tiny_v0", "h100-sxm", "bf16"
CONVENTIONS = ("flops", "macs", "vmamba", "thop")
Table = Mapping[str, Mapping[str, str]]
"""The cells of a row by its name and their headings."""


@functools.cache
def counted(convention: str) -> Report:
    return flopscan.count(TARGET) if convention == "flops" else counted("flops").using(convention)


@functools.cache
def page(convention: str) -> Element:
    """The page, which has every table, as a reader takes it."""
    return read(written(counted(convention), "html", "module"))


@functools.cache
def bound() -> Roofline:
    return counted("flops").on(DEVICE, DTYPE)


@functools.cache
def said(convention: str) -> dict[str, Any]:
    """What the JSON file says."""
    return dict(json.loads(formats.get("json").render(counted(convention), Shown(roofline=bound()))))


def written(report: Report, form: str, by: str) -> str:
    return formats.get(form).render(report, Shown(200, 9, by, False, bound()))


# A table of each format, as a reader takes it


def of_text(text: str, what: str) -> Table:
    """A table of the text report: the last cells of a line stand below the headings of the first."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{what} "))
    heads = re.split(r" {2,}", lines[start].strip())[1:]
    found: dict[str, Mapping[str, str]] = {}
    for line in lines[start + 1 :]:
        if not line or line.startswith(("free of", "hidden", "assumed")):
            break
        cells = re.split(r" {2,}", line.strip())
        name = re.split(r" {2,}", line.strip(" │├└"))[0]
        found[name if what != "module" else f"{len(found)}"] = dict(zip(heads, cells[-len(heads) :], strict=True))
    return found


def of_markdown(text: str, what: str) -> Table:
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return table(rows[0], rows[2:], what)


def of_latex(text: str, what: str) -> Table:
    plain = re.sub(r"\\phantom\{M\}|\\text(bf|it)|\\quad|[{}]", "", text).replace(r"\,", " ").replace(r"\%", "%")
    rows = [[cell.strip() for cell in line[:-2].split("&")] for line in plain.splitlines() if line.endswith(r"\\")]
    rows = [row for row in rows if len(row) > 2]
    once = [row for i, row in enumerate(rows) if not i or row != rows[0]]
    return table(once[0], once[1:], what)


def of_html(table_: Element, what: str) -> Table:
    (head,) = (row for part in table_.find("thead") for row in part.find("tr"))
    heads = [cell.text for cell in head.find("th")]
    rows = [[cell.text for cell in row.parts if isinstance(cell, Element)] for row in body(table_)]
    return table(heads, rows, what)


def body(table_: Element) -> Iterator[Element]:
    for part in table_.find("tbody"):
        yield from (row for row in part.find("tr") if "hidden" not in row.attributes)


def of_notebook(html: str, what: str) -> Table:
    found = [one for one in read(html).find("table") if (next(one.find("th"), None) or one).text == what]
    return of_html(found[0], what)


def table(heads: list[str], rows: list[list[str]], what: str) -> Table:
    """Rows by their names, those of modules by their place: a name can come twice."""
    named = ((plain_name(row[0]) if what == "operator" else str(i), row[1:]) for i, row in enumerate(rows))
    return {name: dict(zip(heads[1:], cells, strict=True)) for name, cells in named}


def plain_name(text: str) -> str:
    return text.replace("\\", "")


TOTALS = "value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params"
IDS = {"module": "module-table-whole", "operator": "operator-table"}
READERS: dict[str, Callable[[Report, str], Table]] = {
    "text": lambda report, by: of_text(written(report, "text", by), by),
    "markdown": lambda report, by: of_markdown(written(report, "markdown", by), by),
    "latex": lambda report, by: of_latex(written(report, "latex", by), by),
    "notebook": lambda report, by: of_notebook(notebook.report(report), by),
    "html": lambda report, by: of_html(next(page(report.convention.name).find("table", id=IDS[by])), by),
}


def cells(row: Mapping[str, Any], convention: str, times: int = 1) -> dict[str, str]:
    """The cells that a row of the JSON is written as."""
    value = {"flops": "FLOPs", "macs": "macs"}.get(convention, convention)
    return {
        value: si(row["value"] * times), "MACs": si(row["macs"] * times),
        "exp/log": si(row["transcendentals"] * times),
        "bytes": si((row["bytes_read"] + row["bytes_written"]) * times), "params": si(row["params"] * times),
        "calls": exact(row["calls"]),
    }  # fmt: skip


def same(found: Mapping[str, str], want: Mapping[str, str]) -> bool:
    """Whether the cells of a row that are among the wanted ones are these; it has at least three of them."""
    names = {"exp, log": "exp/log", "MACs": "MACs"}
    shown = {names.get(head, head): text for head, text in found.items()}
    both = shown.keys() & want.keys()
    return len(both) >= 3 and all(shown[name] == want[name] for name in both)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("form", READERS)
def test_operators(form: str, convention: str) -> None:
    report = counted(convention)
    found = READERS[form](report, "operator")
    costly = [
        row for row in said(convention)["by_operator"] if row["value"] or row["bytes_read"] or row["bytes_written"]
    ]
    assert len(costly) > 10
    short = {re.sub(r"\W", "", name): row for name, row in found.items()}
    for row in costly:
        name = re.sub(r"\W", "", row["name"])
        mine = short.get(name) or next(r for n, r in found.items() if shortened(n, row["name"]))
        assert same(mine, cells(row, convention)), (row["name"], mine)


def shortened(text: str, name: str) -> bool:
    first, _, last = text.replace("ldots", "…").partition("…")
    return bool(last) and name.startswith(first) and name.endswith(last)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("form", READERS)
def test_modules(form: str, convention: str) -> None:
    """Each row of a tree is a module of the JSON, or as much as its identical siblings together are."""
    report = counted(convention)
    found = READERS[form](report, "module")
    rows = said(convention)["by_module"]
    by_name = {row["name"]: row for row in rows}
    depth = {"html": 99, "notebook": None}.get(form, 9)
    nodes = tree.visible(tree.build(report.by_module()), depth)
    assert len(found) == len(nodes) > 20 and any(node.times > 1 for _, node in nodes)
    for row, (_, node) in zip(found.values(), nodes, strict=True):
        assert same(row, cells(by_name[node.row.name], convention, node.times)), (node.label, row)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_csv(convention: str) -> None:
    report = counted(convention)
    data = said(convention)
    for by in ("module", "operator"):
        total, *rows = csv.DictReader(io.StringIO(written(report, "csv", by)))
        assert {key: int(total[key]) for key in TOTALS} == {key: data[key] for key in TOTALS}
        for row, want in zip(rows, data[f"by_{by}"], strict=True):
            assert {key: int(row[key]) for key in want if key not in ("name", "class")} == {
                key: value for key, value in want.items() if key not in ("name", "class")
            }


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("form", [*READERS, "csv"])
def test_totals_and_what_is_wrong_with_them(form: str, convention: str) -> None:
    report = counted(convention)
    data = said(convention)
    if form == "html":
        text = page(convention).text
    else:
        text = read(notebook.report(report)).text if form == "notebook" else written(report, form, "module")
    text = re.sub(r"\\(?=[_%&~])|[{}]|\\allowbreak ", "", text).replace("\\textasciitilde", "~")
    text = " ".join(text.replace("\u00a0", " ").split())
    names = ["value", "flops", "macs", "transcendentals", "params"]
    for number in [data[key] for key in names] + [data["bytes_read"] + data["bytes_written"]] * (form != "csv"):
        assert (exact(number) if form != "csv" else str(number)) in text, number
    if form not in ("csv", "text", "html"):
        assert f"{exact(data['executed_flops'])}" in text
    for op, calls in data["kernels_at_zero"].items():
        zero = re.search(rf"counts as zero:? {re.escape(op)} [^\d]?\W?(\d+)", text)
        assert zero is not None and int(zero[1]) == calls
    for one in data["mistakes"]:
        assert all(part in text for part in (f"{one['amount']:+,}", f"{convention}~{one['key']}", one["source"]))
    assert bool(data["mistakes"]) == (convention == "thop")


def test_scans_and_bounds_on_time() -> None:
    data, text = said("flops"), written(counted("flops"), "text", "module")
    lines = {line.split()[0]: line for line in text[text.index("as counted by") :].splitlines() if line.strip()}
    rows = {
        row["data-convention"]: "  ".join(cell.text for cell in row.find("td"))
        for row in body(next(page("flops").find("table", id="scan-table")))
    }
    for one in data["scan"]["conventions"]:
        for told in (lines[one["convention"]], rows[one["convention"]]):
            assert {si(one["value"]), f"{one['share']:.2%}", exact(one["total"])} <= {*re.split(r" {2,}", told)}
    bounds = of_html(next(page("flops").find("table", id="roofline-table")), "operator")
    printed = of_text(text[text.index("least time on") :], "operator")
    points = data["roofline"]["points"]
    assert len(points) > 10
    for point in points:
        assert bounds[point["name"]]["time bound"] == duration(point["seconds"])
        if point["name"] in printed:
            assert printed[point["name"]]["time bound"] == duration(point["seconds"])
    assert duration(data["roofline"]["seconds"]) in text and duration(data["roofline"]["fused"]["seconds"]) in text
