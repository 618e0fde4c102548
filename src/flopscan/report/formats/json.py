"""The report as one JSON object, every number whole."""

from __future__ import annotations

import json

from flopscan.report.format import Format, Shown
from flopscan.report.report import Report


def render(report: Report, shown: Shown | None = None) -> str:
    """The report as JSON text, without a newline at the end; all of it, however it is to be shown.

    With a device it has a ``roofline``.
    """
    data = report.to_dict()
    if shown is not None and shown.roofline is not None:
        data["roofline"] = shown.roofline.to_dict()
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


FORMAT = Format("json", (".json", ".json.gz"), render)
