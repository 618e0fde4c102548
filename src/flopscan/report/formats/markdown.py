"""Markdown: a table as GitHub, GitLab and most others read it, with the footnote as a list below."""

from __future__ import annotations

import re

from flopscan.report.format import Format, Shown
from flopscan.report.paper import sheet as sheet_of
from flopscan.report.report import Report
from flopscan.report.sheet import Entry, Heading, Sheet, at_least, clean, written

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&$^#!])")
_LINK = re.compile(r"(?i)(?<=\w)(:)(?=//)|(?<=\bwww)(\.)")


def escape(text: str) -> str:
    """``text`` as the same letters within a line of Markdown.

    No emphasis, links, HTML, mathematics or borders of cells come of it.
    """
    return _LINK.sub(lambda match: f"\\{match[0]}", _SPECIAL.sub(r"\\\1", clean(text)))


def table(sheet: Sheet) -> str:
    """A sheet in Markdown, without a newline at the end."""
    header = _line([escape(heading.header) for heading in sheet.headings])
    rule = _line([":---" if heading.kind == "text" else "---:" for heading in sheet.headings])
    rows = [_line([_cell(sheet.headings[i], entry, i) for i in range(len(entry.cells))]) for entry in sheet.entries]
    notes = [f"* {escape(note)}" for note in sheet.footnotes]
    if sheet.again:
        notes.append(f"* Again: {_code(sheet.again)}")
    return "\n".join([f"**{escape(sheet.title)}**", "", header, rule, *rows, "", *notes]).rstrip()


def render(report: Report, shown: Shown) -> str:
    """The report's main table in Markdown."""
    return table(sheet_of(report, shown))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(heading: Heading, entry: Entry, column: int) -> str:
    cell = entry.cells[column]
    text = escape(written(heading, cell, least=entry.least))
    if at_least(heading, entry, cell):
        text = f"≥{text}"
    if entry.stands_out(column) and text:
        text = f"**{text}**"
    if column:
        return text
    remark = f" {escape(entry.remark)}" if entry.remark else ""
    return f"{'&emsp;' * entry.level}{text}{remark}"


def _code(text: str) -> str:
    """``text`` as code: fenced by more backticks than stand in a row inside."""
    text = clean(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{edge}{text}{edge}{fence}"


FORMAT = Format("markdown", (".md",), render, table)
