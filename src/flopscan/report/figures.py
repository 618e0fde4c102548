"""The numbers of one model, whether it was counted just now or is a saved report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flopscan.core.document import expect
from flopscan.core.ledger import Ledger
from flopscan.errors import UsageError
from flopscan.report import listing, paper
from flopscan.report.report import SCHEMA, Report, make
from flopscan.report.saved import Saved


@dataclass(frozen=True)
class Figures:
    """What ``source`` says; ``name`` is where it is from. A number that a saved report lacks is a UsageError."""

    name: str
    source: Saved

    @cached_property
    def _report(self) -> Report | None:
        return make(self.source) if isinstance(self.source, Ledger) else None

    def total(self, key: str) -> int:
        """A total of the JSON: ``params``, ``bytes_read``, ``executed_flops`` ..."""
        if self._report is not None:
            return int(getattr(self._report, key))
        return int(self._of(lambda data: data[key], f"no {key}"))

    def under(self, convention: str) -> int:
        """The total under a convention."""
        if self._report is not None:
            return int(self._report.under(convention))
        if convention in ("flops", "macs"):
            return self.total(convention)
        return int(self._of(lambda data: _under(data, convention), f"no total under {convention}"))

    def scan(self, convention: str) -> tuple[int, int]:
        """What the scans are under a convention, and the total that they are part of; 0 where nothing is scanned."""
        rows = self.scans
        if rows is None:
            return 0, self.under(convention)
        if convention not in rows:
            raise UsageError(f"{self.name}: {convention} has no formula of its scans; expected {', '.join(rows)}")
        return rows[convention]

    @property
    def scans(self) -> dict[str, tuple[int, int]] | None:
        """The scans and the total that they are part of, by convention; None where nothing is scanned."""
        if self._report is not None:
            scan = self._report.scan
            return None if scan is None else {row.convention: (int(row.value), int(row.total)) for row in scan.rows}
        found = self._of(lambda data: data["scan"], "no section of its scans")
        with expect(self.name, SCHEMA):
            return found and {
                str(row["convention"]): (int(row["value"]), int(row["total"])) for row in found["conventions"]
            }

    @property
    def uncounted(self) -> int:
        """How many calls no rule could price."""
        if self._report is not None:
            return sum(row.count for row in self._report.uncounted)
        return sum(int(row["count"]) for row in self._of(lambda data: data["uncounted"], "no list of the uncounted"))

    @property
    def not_counted(self) -> str:
        """Which operators no rule could price; empty where there are none."""
        if self._report is not None:
            rows = [(row.op, row.count, row.reason) for row in self._report.uncounted]
        else:
            missing = self._of(lambda data: data["uncounted"], "no list of the uncounted")
            rows = [(row["op"], row["count"], row["reason"]) for row in missing]
        return paper.listed(rows)

    def warnings(self, convention: str) -> tuple[str, ...]:
        """What is wrong with the total under a convention, or that a saved report does not say it."""
        if self._report is not None:
            return self._report.using(convention).warnings
        data = self._of(lambda data: data, "")
        if data["convention"] == convention:
            return listing.warnings(data)
        if convention in ("flops", "macs"):  # which count every kernel
            return ()
        return (f"what {convention} counts as zero is not in {self.name}, saved under {data['convention']}.",)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it was counted on."""
        if isinstance(self.source, Ledger):
            return tuple(map(str, self.source.trace.origin.get("inputs", ())))
        return tuple(map(str, self._of(lambda data: data["inputs"], "no inputs")))

    @property
    def versions(self) -> str:
        """What it was counted with."""
        if self._report is not None:
            return listing.versions(self._report)
        return ", ".join(
            f"{name} {version}" for name, version in self._of(lambda d: d["versions"], "no versions").items()
        )

    def _of(self, get: Callable[[Mapping[str, Any]], Any], without: str) -> Any:
        """What ``get`` finds in a saved report."""
        assert not isinstance(self.source, Ledger)
        try:
            return get(self.source)
        except KeyError as error:
            known = self.source.get("convention")
            raise UsageError(
                f"{self.name} is a report that was saved under {known} and has {without}; count it again, or save its"
                " ledger (flopscan trace, flopscan price), which has them all"
            ) from error


def _under(data: Mapping[str, Any], convention: str) -> Any:
    """The total of a saved report under its own convention, or under one of those that its scans are listed with."""
    if data["convention"] == convention:
        return data["value"]
    rows = (data["scan"] or {}).get("conventions", ())
    return {row["convention"]: row["total"] for row in rows}[convention]
