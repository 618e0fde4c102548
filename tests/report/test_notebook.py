"""What a notebook shows: HTML that stands alone, with every total, and nothing of the model's that is not escaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from flopscan.report.numbers import exact, si
from flopscan.report.report import make
from flopscan.report.sheet import clean
from samples import HOSTILE, hostile_ledger

VOID = {"br", "hr"}
ALLOWED = {
    "div", "p", "strong", "span", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li", "code",
    "pre",
}  # fmt: skip


class Page(HTMLParser):
    """Collects the text, and holds every element to be one that we write and to be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= {"style", "scope", "cellpadding"}, attrs
        assert all("url(" not in (value or "") for _, value in attrs)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "tr" in self.open:
            self.rows[-1][-1] += data


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("convention", ["flops", "vmamba"])
def test_a_report_stands_alone_and_says_all(known: bool, convention: str) -> None:
    shown = make(hostile_ledger(known=known), convention)
    page = Page(shown._repr_html_())
    text = " ".join(" ".join(page.words).split())
    for name in HOSTILE:
        assert " ".join(clean(name).split()) in text
    least = "" if known else "≥"
    for value in (shown.value, shown.flops, shown.macs, shown.transcendentals):
        assert f"{least}{exact(value)}" in text
    assert exact(shown.params) in text
    assert ("not counted: nothing" in text) is known
    assert all(row.reason in text for row in shown.uncounted)
    names = {row[0]: row for row in page.rows}
    for row in shown.by_operator().values():
        if not row.uncounted:
            assert si(row.cost.read + row.cost.written) in names[" ".join(clean(row.name).split())]


def test_colours_are_those_of_the_page() -> None:
    html = make(hostile_ledger(known=False))._repr_html_()
    assert "background:#" not in html and "color:black" not in html and "<style" not in html


def test_the_others_are_text_that_is_escaped() -> None:
    from flopscan.report.answers import Answer, Answers
    from flopscan.report.compare import compare

    one, two = make(hostile_ledger()), make(hostile_ledger(known=False))
    answers = Answers("<script>", (), (Answer("a<b", "1", "flops", "FLOP", 1, 2),))
    for shown in (compare(one.to_dict(), two.to_dict()), one.explain("flops", "macs"), answers):
        page = Page(shown._repr_html_())
        assert "".join(page.words) == str(shown)
