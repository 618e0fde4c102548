"""A sheet as text: units in the header, numbers below one another, the footnote wrapped below."""

from __future__ import annotations

import shutil

from flopscan.report.choices import NARROWEST
from flopscan.report.layout import Column, Line, Row, coloured, command, plain, table, wrap
from flopscan.report.sheet import Entry, Heading, Sheet, at_least, clean, written


def render(sheet: Sheet, *, width: int | None = None, color: bool = False) -> str:
    """A sheet as text of ``width`` columns (default: the terminal's), without a newline at the end.

    Columns that have no room leave, the last first, and are named.
    """
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    columns = [Column(h.header, "number" if i else "name", rank=i) for i, h in enumerate(sheet.headings)]
    body, left = table(columns, [_row(sheet, entry) for entry in sheet.entries], width)
    lines: list[Line] = [*wrap(clean(sheet.title), width, style="bold"), [("", "")], *body]
    if left:
        lines += wrap(f"no room in {width} columns for: {', '.join(left)}", width, indent="  ", style="dim")
    lines += [[("", "")]] if sheet.footnotes else []
    for note in sheet.footnotes:
        lines += wrap(clean(note), width, indent="  ", style="dim")
    if sheet.again:
        lines += command(sheet.again, width)
    return coloured(lines) if color else plain(lines)


def _row(sheet: Sheet, entry: Entry) -> Row:
    """The cells as text; the best of a column is marked with a star."""
    texts = [_cell(heading, entry, i) for i, heading in enumerate(sheet.headings)]
    if entry.strong:
        texts = [f"{text}*" if entry.stands_out(i) else text for i, text in enumerate(texts)]
    failed = all(cell is None for cell in entry.cells[1:])
    style = "red" if failed or entry.least else "bold" if entry.strong is None else ""
    return Row((("  " * entry.level + texts[0], clean(entry.remark)), *texts[1:]), style)


def _cell(heading: Heading, entry: Entry, column: int) -> str:
    cell = entry.cells[column]
    text = clean(written(heading, cell, least=entry.least))
    return f"≥{text}" if at_least(heading, entry, cell) else text
