"""Markdown, CSV and LaTeX: every value is the JSON's, names stay names, and the footnote says how it came about."""

from __future__ import annotations

import csv
import io
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flopscan import conventions
from flopscan.errors import UsageError
from flopscan.report import formats, tree
from flopscan.report.format import Shown
from flopscan.report.formats import csv as as_csv
from flopscan.report.formats import latex, markdown
from flopscan.report.numbers import exact, power_of, scaled, si
from flopscan.report.report import Report, make
from flopscan.report.sheet import clean
from samples import HOSTILE, hostile_ledger

VIEWS = ("module", "operator", "line")
NUMBERS = ("value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params", "calls", "uncounted")


def report(convention: str = "flops", **options: bool) -> Report:
    return make(hostile_ledger(lines=True, **options), convention)


def cells_of(text: str) -> list[list[str]]:
    """The table in Markdown as a reader shows it: the letters of every cell."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level >= 4:
            assert {child.type for child in token.children or ()} <= {
                "text",
                "strong_open",
                "strong_close",
                "text_special",
            }
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


@pytest.mark.parametrize("convention", ["flops", "macs", "fvcore"])
@pytest.mark.parametrize("known", [True, False])
def test_csv_has_every_number_of_the_json(convention: str, known: bool) -> None:
    shown = report(convention, known=known)
    data = shown.to_dict()
    for view in VIEWS:
        total, *rows = csv.DictReader(io.StringIO(as_csv.render(shown, Shown(by=view))))
        expected = data.get(f"by_{view}") or [row.to_dict() for row in shown.by_line().values()]
        assert [[row["name"], row["class"], *(int(row[n]) for n in NUMBERS)] for row in rows] == [
            [as_csv.escape(e["name"] or "(model)"), as_csv.escape(e.get("class", "")), *(e[n] for n in NUMBERS)]
            for e in expected
        ]
        assert {row["row"] for row in rows} == {view} and total["row"] == "total"
        for name in NUMBERS[:7]:
            assert int(total[name]) == data[name]
        assert int(total["calls"]) == sum(row["calls"] for row in data["by_operator"])
        assert int(total["uncounted"]) == sum(row["count"] for row in data["uncounted"])
        for row in (total, *rows):
            assert (row["convention"], row["unit"]) == (convention, data["unit"])
            assert row["versions"] == "flopscan 0.1.0, torch 2.13.0"
            assert bool(row["not_counted"]) is not known


def test_csv_goes_as_deep_as_it_is_told() -> None:
    from flopscan.core.ledger import Ledger
    from flopscan.core.trace import Module, Trace

    modules = tuple(Module(path, "M") for path in ("", "a", "a.b", "a.b.c"))
    deep = make(Ledger(Trace((), (), modules), ()))
    for depth, names in ((0, ["(model)"]), (1, ["(model)", "a"]), (None, ["(model)", "a", "a.b", "a.b.c"])):
        rows = list(csv.DictReader(io.StringIO(as_csv.render(deep, Shown(depth=depth)))))
        assert [row["name"] for row in rows[1:]] == names


def test_csv_runs_no_formula() -> None:
    text = as_csv.render(report(), Shown())
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert re.fullmatch(r"-?\d+", cell) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert text.count("\n") == len(list(csv.reader(io.StringIO(text)))) - 1, "no cell goes over two lines"
    assert as_csv.escape("=1+1") == "'=1+1" and as_csv.escape("layers.0") == "layers.0"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("convention", ["flops", "macs", "vmamba"])
def test_markdown_has_the_numbers_of_the_json(convention: str, known: bool) -> None:
    shown = report(convention, known=known)
    header, *rows = cells_of(markdown.render(shown, Shown(by="operator")))
    data = [row for row in shown.to_dict()["by_operator"] if row["value"] or row["uncounted"] or row["bytes_read"]]
    assert len(rows) == len(data) + 1
    for cells, row in zip(rows, data, strict=False):
        found = dict(zip(header, cells, strict=True))
        assert found["operator"] == clean(row["name"]).strip()
        assert found["calls"] == exact(row["calls"])
        if row["uncounted"]:
            assert found["MACs" if convention != "macs" else "macs"] == "?"
            continue
        assert found["FLOPs" if convention == "flops" else convention] == si(row["value"])
        assert found["exp/log"] == si(row["transcendentals"])
        assert found["bytes"] == si(row["bytes_read"] + row["bytes_written"])
        if convention != "macs":
            assert found["MACs"] == si(row["macs"])
    least = "" if known else "≥"
    assert dict(zip(header, rows[-1], strict=True))["bytes"] == least + si(shown.bytes_read + shown.bytes_written)


def test_markdown_shows_the_tree_and_its_names() -> None:
    shown = report()
    header, *rows = cells_of(markdown.render(shown, Shown(depth=9)))
    nodes = tree.visible(tree.build(shown.by_module()), 9)
    assert len(rows) == len(nodes) == len(HOSTILE) + 1
    for (level, node), row in zip(nodes, rows, strict=True):
        cells = dict(zip(header, row, strict=True))
        name = f"{node.label or '(model)'} {node.row.cls}"
        assert cells["module"].split() == clean(name).split()
        assert cells["module"].startswith("\u2003" * level)
        assert cells["FLOPs"] == si(node.row.value) and cells["params"] == si(node.row.params)


def test_markdown_makes_no_html_and_no_link() -> None:
    html = (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(report(known=False), Shown()))
    )
    assert "<script" not in html and "<a " not in html and "<em>" not in html and html.count("<code>") == 1
    assert "flopscan count 'a|b`c``.py:make'" in html.replace("&#39;", "'")


@given(st.text(alphabet=string.printable + "äЖ模≥\u202e", max_size=40))
def test_markdown_reads_back_as_what_was_written(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(f"| a |\n| --- |\n| x{markdown.escape(text)}x |")
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 2
    assert "".join(child.content for child in inline[1].children or ()) == f"x{clean(text)}x"


@pytest.mark.parametrize("form", ["markdown", "latex"])
@pytest.mark.parametrize("view", VIEWS)
def test_the_footnote_says_how_the_numbers_came_about(form: str, view: str) -> None:
    for known in (True, False):
        shown = report("fvcore", known=known)
        text = formats.get(form).render(shown, Shown(by=view))
        bare = re.sub(r"\\allowbreak |\\(?=\W)|\{\}|\$|geq", lambda m: "≥" if m[0] == "geq" else "", text)
        assert f"Convention fvcore: {conventions.get('fvcore').summary}" in bare
        least = "" if known else "≥"
        for value in (shown.value, shown.flops, shown.macs, shown.transcendentals):
            assert f"{least}{exact(value)}" in bare.replace("\\", "")
        assert f"parameters {exact(shown.params)}" in bare
        assert "flopscan 0.1.0, torch 2.13.0" in bare and "shape-only" in bare and "Input: " in bare
        assert ("Not counted: nothing." in bare) is known
        for row in shown.uncounted:
            assert f" x{row.count}" in bare


def test_latex_has_the_numbers_of_the_json() -> None:
    shown = report()
    text = latex.render(shown, Shown(by="operator"))
    rows = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")][1:]
    data = [row.to_dict() for row in shown.by_operator().values()]
    plain = [[re.sub(r"\\,(\\phantom\{M\})?|\\textbf|[{}]", " ", cell).split() for cell in row[-6:]] for row in rows]
    for cells, row in zip(plain, data, strict=False):
        numbers = [si(row["value"]), si(row["macs"]), si(row["transcendentals"])]
        numbers.append(si(row["bytes_read"] + row["bytes_written"]))
        assert cells[0] == [exact(row["calls"])]
        assert [" ".join(cell) for cell in cells[2:]] == numbers


@given(st.text(max_size=30))
def test_latex_has_no_sign_of_its_own_left(text: str) -> None:
    escaped = latex.escape(text)
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|ldots)\{\}"
    bare = re.sub(rf"{commands}|\\[{{}}$&#_%]|\$\\(geq|times)\$|\{{\}}", "", escaped)
    assert not re.search(r"[\\{}$&#_%~^<>|\"]", bare), escaped
    assert all(ord(letter) < 256 for letter in bare) and "\n" not in escaped
    assert not re.search(r"--|''[^']*--|``|\?`|!`", escaped.replace("''", ""))


@pytest.mark.parametrize("name", ["[1]", "*a"])
def test_a_name_is_no_argument_of_the_row_before(name: str) -> None:
    from flopscan.report.sheet import Entry, Heading, Sheet

    text = latex.table(Sheet("t", (Heading("name", "name", "text"),), (Entry((name,)),)))
    assert f"\\midrule\n{{}}{name} " in text


def test_a_long_table_goes_over_pages() -> None:
    from flopscan.report.sheet import Entry, Heading, Sheet

    headings = (Heading("name", "name", "text"), Heading("n", "n"))
    text = latex.table(Sheet("t", headings, tuple(Entry((f"r{i}", i)) for i in range(60))))
    assert text.startswith("% needs \\usepackage{booktabs,longtable}") and r"\begin{longtable}" in text
    assert r"\begin{table}" in latex.table(Sheet("t", headings, (Entry(("r", 1)),)))


@pytest.mark.parametrize("form", ["markdown", "csv", "latex"])
def test_what_cannot_be_shown_is_refused(form: str) -> None:
    from samples import make_ledger

    with pytest.raises(UsageError, match=r"^cannot show a report by 'colour'; expected module, operator or line$"):
        formats.get(form).render(report(), Shown(by="colour"))
    with pytest.raises(UsageError, match=r"^this count has no source lines"):
        formats.get(form).render(make(hostile_ledger()), Shown(by="line"))
    assert formats.get(form).render(make(make_ledger()), Shown(by="line"))


def test_files_are_known_by_their_suffix(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for suffix, form in ((".md", markdown), (".csv", as_csv), (".tex", latex)):
        report().save(tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_text() == form.render(report(), Shown(width=120)) + "\n"


@given(st.integers(1, 10**27), st.integers(0, 8))
def test_scaled_numbers_are_right_within_half_of_their_last_digit(value: int, power: int) -> None:
    text = scaled(value, power).replace(",", "")
    decimals = len(text.partition(".")[2])
    digits = int(text.replace(".", ""))
    assert abs(2 * digits * 1000**power - 2 * value * 10**decimals) <= 1000**power
    if power:
        assert len(str(digits)) >= 4 and (decimals == 0 or len(str(digits)) == 4)
    assert scaled(-value, power) == f"-{scaled(value, power)}"


def test_the_power_is_that_of_the_largest() -> None:
    assert [power_of(v) for v in ([], [0], [999], [1000, 5], [10**9 - 1], [10**9], [10**40])] == [0, 0, 0, 1, 2, 3, 8]
