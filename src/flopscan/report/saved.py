"""What was saved, as a report: a saved report under its own convention, a ledger or a trace under any."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from flopscan import analysis, conventions
from flopscan.core import ledger as ledgers
from flopscan.core import trace as traces
from flopscan.core.document import read_document
from flopscan.core.ledger import Ledger
from flopscan.errors import UsageError
from flopscan.report import report as reports

Saved = Mapping[str, Any] | Ledger


def load(path: str | os.PathLike[str]) -> Saved:
    """What is in ``path``: a report as `Report.to_dict` gave it, or a ledger; a trace is priced.

    Raises SchemaError for any other file.
    """
    name = os.fspath(path)
    data = read_document(name, reports.SCHEMA, ledgers.SCHEMA, traces.SCHEMA)
    if data["schema"] == reports.SCHEMA:
        return data
    if data["schema"] == ledgers.SCHEMA:
        return Ledger.from_dict(data, name)
    return analysis.price(traces.Trace.from_dict(data, name))


def seen(sources: Sequence[Saved], names: Sequence[str], convention: str | None = None) -> list[Mapping[str, Any]]:
    """Sources as reports under ``convention``; ``names`` are where they come from.

    By default under that of a saved report, else under flops. Raises UsageError for a saved report under another one
    than was asked for: it holds no other numbers.
    """
    kept = [str(what.get("convention")) for what in sources if not isinstance(what, Ledger)]
    chosen = conventions.get(convention).name if convention else kept[0] if kept else "flops"
    found = []
    for name, what in zip(names, sources, strict=True):
        if isinstance(what, Ledger):
            what = reports.make(what, chosen).to_dict()
        elif convention and what.get("convention") != chosen:
            raise UsageError(
                f"{name} was saved under {what.get('convention')}, in {what.get('unit')}, and has no numbers under"
                f" {chosen}, in {conventions.get(chosen).unit}; save it again with --convention {chosen}"
            )
        found.append(what)
    return found
