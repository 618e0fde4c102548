"""The report as a page for a browser: one file with all that it needs, its numbers exact under every convention."""

from flopscan.report.page.render import render

__all__ = ["render"]
