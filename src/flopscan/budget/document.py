"""A check as JSON-ready data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flopscan.budget.check import Moved, Outcome
from flopscan.budget.sources import Source

SCHEMA = "flopscan.check/1"


def to_dict(outcomes: Sequence[Outcome], path: str) -> dict[str, Any]:
    """The outcomes of checking the lock in ``path``, every number whole."""
    return {
        "schema": SCHEMA,
        "lock": path,
        "ok": all(outcome.ok for outcome in outcomes),
        "targets": [_outcome(outcome) for outcome in outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    entry = outcome.entry
    head = {
        "name": outcome.name,
        "target": entry.target,
        "inputs": list(entry.inputs),
        "ok": outcome.ok,
        "status": outcome.status,
    }
    if outcome.error:
        return {**head, "error": outcome.error}
    return {
        **head,
        "locked": dict(outcome.total.first or {}),
        "now": dict(outcome.total.second or {}),
        "grown": _moved(outcome.grown),
        "shrunk": _moved(outcome.shrunk),
        "limits": [
            {"measure": held.measure, "limit": held.limit.text, "value": held.value, "ok": held.ok}
            for held in outcome.limits
        ],
        "newly_uncounted": {
            op: {"locked": before, "now": now} for op, (before, now) in (outcome.newly_uncounted or {}).items()
        },
        "newly_counted": list(outcome.newly_counted),
        "sources": list(map(_source, outcome.sources)),
        "uncounted_at": list(map(_source, outcome.blind)),
        "versions": {name: {"locked": a, "now": b} for name, (a, b) in (outcome.versions or {}).items()},
    }


def _moved(moved: Moved) -> dict[str, Any]:
    return {
        "measures": list(moved.measures),
        "modules": [change.to_dict() for change in moved.modules],
        "operators": [change.to_dict() for change in moved.operators],
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "file": source.file,
        "line": source.line,
        "function": source.function,
        "measure": source.measure,
        "value": source.value,
        "modules": list(source.modules),
        "operators": list(source.operators),
    }
