"""The report as a page for a browser: one file that needs no network."""

from __future__ import annotations

from flopscan.report.format import Format, Shown
from flopscan.report.report import Report


def render(report: Report, shown: Shown | None = None) -> str:
    """The page, without a newline at the end, open down to the depth that is asked for, with a roofline if one is."""
    from flopscan.report import page

    shown = shown or Shown()
    return page.render(report, depth=shown.depth, roofline=shown.roofline)


FORMAT = Format("html", (".html",), render)
