"""What a notebook shows: HTML without scripts, pictures or a sheet of styles, in the colours of the page around it.

Every style stands on its element and every colour is the page's own, or one that can be read on white and on black, so
that it looks the same in Jupyter, JupyterLab, VS Code and on a page that drops style sheets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from html import escape as escaped

from flopscan.report import listing, paper
from flopscan.report.format import Shown
from flopscan.report.numbers import exact
from flopscan.report.report import Report
from flopscan.report.sheet import Entry, Heading, Sheet, at_least, clean, written

# what cells inherit stands on their row: pages of notebooks style rows and cells, and an element's own style wins
_ROW = (
    "background:none;border:0;border-bottom:1px solid rgba(128,128,128,.3);text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums"
)
_LEFT = "text-align:left"
_TABLE = "<table cellpadding=5 style='border-collapse:collapse;margin:.4em 0;font-size:inherit;color:inherit'>"
_BAR = "min-width:6em;background:linear-gradient(90deg,rgba(0,114,178,.35) {0:.2f}%,transparent {0:.2f}%)"
_DIM = "opacity:.75"
_BAD = "color:#d0402b"  # 4.5 to 1 on white, 4.1 to 1 on VS Code's dark background


def report(found: Report) -> str:
    """A report: totals, the module tree, what was not counted; operators and the footnote fold away."""
    inputs = ", ".join(map(str, found.ledger.trace.origin.get("inputs", [])))
    modules = paper.sheet(found, Shown())
    operators = paper.sheet(found, Shown(by="operator"))
    parts = [
        f"<p style='margin:0'><strong>{_text(found.target or 'a count')}</strong> "
        f"<span style='{_DIM}'>{_text(inputs)}</span></p>",
        _totals(found),
        _table(modules) if len(modules.entries) > 1 else "",
        _missing(found),
        "".join(f"<p style='margin:.2em 0'>{_text(warning)}</p>" for warning in found.warnings),
        _folded("operators", _table(operators)),
        _folded("how this was counted", _list(modules.footnotes) + _again(modules.again)),
    ]
    return _whole(parts)


def sheet(found: Sheet) -> str:
    """Any table with its footnote."""
    title = f"<p style='margin:0'><strong>{_text(found.title)}</strong></p>" if found.title else ""
    return _whole([title, _table(found), _list(found.footnotes), _again(found.again)])


def text(found: str) -> str:
    """Text as it is printed, without colour."""
    return _whole([f"<pre style='background:none;color:inherit;line-height:1.25;margin:0'>{escaped(found)}</pre>"])


def _whole(parts: Iterable[str]) -> str:
    return f"<div style='overflow-x:auto;line-height:1.4'>{''.join(parts)}</div>"


def _text(value: str) -> str:
    return escaped(clean(value))


def _totals(found: Report) -> str:
    """The totals with all digits, one below the other."""
    rows = []
    if found.convention.name not in ("flops", "macs"):
        least = "≥" if found.uncounted else ""
        rows.append((f"as {found.convention.name} counts", least + exact(found.value), found.unit))
    for total in listing.totals(found):
        rows.append((total.title.strip(), ("≥" if total.partial else "") + exact(total.value), total.unit))
    cells = "".join(
        f"<tr style='{_ROW}'><td style='{_LEFT}'>{_text(title)}</td>"
        f"<td><strong>{value}</strong> {_text(unit)}</td></tr>"
        for title, value, unit in rows
    )
    return f"{_TABLE}<tbody>{cells}</tbody></table>"


def _table(found: Sheet) -> str:
    header = "".join(
        f"<th scope=col style='{_LEFT if heading.kind == 'text' else 'text-align:right'}'>{_text(heading.header)}</th>"
        for heading in found.headings
    )
    rows = "".join(_row(found.headings, entry) for entry in found.entries)
    return f"{_TABLE}<thead><tr style='{_ROW}'>{header}</tr></thead><tbody>{rows}</tbody></table>"


def _row(headings: Sequence[Heading], entry: Entry) -> str:
    """A row; a share has a bar behind it, and what lacks something is red."""
    cells = [_cell(heading, entry, i) for i, heading in enumerate(headings)]
    return f"<tr style='{_ROW}{f';{_BAD}' * entry.least}'>{''.join(cells)}</tr>"


def _cell(heading: Heading, entry: Entry, column: int) -> str:
    cell, style = entry.cells[column], _LEFT * (heading.kind == "text")
    shown = _text(written(heading, cell, least=entry.least))
    if at_least(heading, entry, cell):
        shown = f"≥{shown}"
    shown = f"<strong>{shown}</strong>" if entry.stands_out(column) else shown
    if heading.kind == "share" and isinstance(cell, Fraction) and cell:
        style = _BAR.format(min(100.0, float(100 * cell)))
    if not column:
        style += f";padding-left:{0.3 + 1.2 * entry.level:g}em"
        shown += f" <span style='{_DIM}'>{_text(entry.remark)}</span>" if entry.remark else ""
    return f"<td style='{style}'>{shown}</td>" if style else f"<td>{shown}</td>"


def _missing(found: Report) -> str:
    if not found.uncounted:
        return f"<p style='margin:.2em 0;{_DIM}'>not counted: nothing</p>"
    rows = "".join(f"<li>{_text(str(row))}</li>" for row in found.uncounted)
    return f"<div style='{_BAD}'>not counted, so that a sum with ≥ is the least it can be:<ul>{rows}</ul></div>"


def _folded(title: str, body: str) -> str:
    return f"<details><summary style='cursor:pointer'>{_text(title)}</summary>{body}</details>"


def _list(notes: Sequence[str]) -> str:
    rows = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f"<ul style='{_DIM};margin:.2em 0'>{rows}</ul>" if notes else ""


def _again(command: str) -> str:
    return f"<p style='margin:.2em 0;{_DIM}'>again: <code>{_text(command)}</code></p>" if command else ""
