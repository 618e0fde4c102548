"""The report as one JSON object, every number whole."""

from __future__ import annotations

import json

from flopscan.report.report import Report


def render(report: Report) -> str:
    """The report as JSON text, without a newline at the end."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
