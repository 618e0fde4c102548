"""A roofline as the page has it: the points and ceilings of a chart, and the seconds of every module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flopscan.report.roofline import Roofline

_NAMES = {"matrix": "matrix units", "vector": "vector units"}


def of(roofline: Roofline) -> Mapping[str, Any] | None:
    """What `data.make` takes, of ``roofline``; None where the device's memory or all its arithmetic is unknown."""
    said = roofline.to_dict()
    ceilings = [{"name": words, "rate": said["rates"][unit]} for unit, words in _NAMES.items() if said["rates"][unit]]
    if not ceilings or not said["rates"]["memory"]:
        return None
    return {
        "device": said["title"],
        "dtype": said["arithmetic_dtype"],
        "source": " ".join(said["assumptions"]),
        "bandwidth": said["rates"]["memory"],
        "ceilings": ceilings,
        "ridge": said["ridge"],
        "seconds": said["fused"]["seconds"],
        "one_by_one": said["seconds"],
        "points": [_point(point) for point in said["points"] if point["seconds"]],
        "modules": {row["name"]: row["seconds"] for row in said["by_module"]},
    }


def _point(row: Mapping[str, Any]) -> dict[str, Any]:
    """An operator: where it is in the chart, and its row in the table."""
    return {
        "operator": row["name"],
        "calls": row["calls"],
        "intensity": row["intensity"] or 0.0,
        "rate": row["flops"] / row["seconds"],
        "seconds": row["seconds"],
        "bound_by": row["bound_by"],
    }
