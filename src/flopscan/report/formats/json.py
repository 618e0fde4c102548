"""The report as one JSON object, every number whole."""

from __future__ import annotations

import json

from flopscan.report.format import Format, Shown
from flopscan.report.report import Report


def render(report: Report, shown: Shown | None = None) -> str:
    """The report as JSON text, without a newline at the end; all of it, however it is to be shown."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


FORMAT = Format("json", (".json", ".json.gz"), render)
