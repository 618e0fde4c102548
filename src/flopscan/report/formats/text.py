"""The text report: headline, module tree, operators, what was not counted, and how to get the same again."""

from __future__ import annotations

import shutil

from flopscan.report import foot_text, headline_text, listing, roofline_text, selection, sheet_text, tables_text
from flopscan.report.choices import NARROWEST
from flopscan.report.format import Format, Shown
from flopscan.report.layout import Line, coloured, plain
from flopscan.report.report import Report
from flopscan.report.roofline import Roofline


def render(
    report: Report, *, width: int | None = None, depth: int | None = None, by: str = "module", color: bool = False,
    roofline: Roofline | None = None, min_share: float = 0.0, sort: str | None = None,
) -> str:  # fmt: skip
    """The report as text of ``width`` columns (default: the terminal's), without a newline at the end.

    ``depth`` is how deep the module tree goes (default: as fits a screen), ``by`` what the main table lists. With a
    ``roofline`` modules have a bound on their time too. Rows under ``min_share`` percent of the total hide, and
    siblings stand in the model's order unless ``sort`` says otherwise.
    Raises UsageError for an unknown ``by`` or ``sort``, and for lines where none were recorded.
    """
    return _render(report, Shown(width, depth, by, color, roofline, min_share, sort))


def _render(report: Report, shown: Shown) -> str:
    listing.check(shown.by)
    selection.check(shown.sort, shown.by)
    width = max(NARROWEST, shutil.get_terminal_size().columns if shown.width is None else shown.width)
    sections = [headline_text.section(report, width), *tables_text.sections(report, shown, width)]
    if shown.roofline is not None:
        sections.append(roofline_text.section(shown.roofline, width))
    sections += [foot_text.scan(report, width), foot_text.uncounted(report, width), foot_text.notes(report, width)]
    sections.append(foot_text.origin(report, width, roofline_text.wish(shown.roofline)))
    lines: list[Line] = []
    for section in filter(None, sections):
        lines += [[("", "")], *section] if lines else section
    return coloured(lines) if shown.color else plain(lines)


FORMAT = Format("text", (".txt",), _render, sheet_text.render)
