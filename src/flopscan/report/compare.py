"""Two reports side by side: what was added, removed and changed, by module and by operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flopscan.core.document import expect
from flopscan.errors import UsageError
from flopscan.report.report import SCHEMA as REPORT

SCHEMA = "flopscan.comparison/1"
TOTALS = ("value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params")
MEASURES = (*TOTALS, "calls", "uncounted")
Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """A module or operator in two reports: its class and measures in each, None where it is not."""

    name: str
    first: Sizes | None
    second: Sizes | None
    classes: tuple[str, str] = ("", "")

    @property
    def how(self) -> str:
        """``added``, ``removed``, ``changed`` or ``same``."""
        if self.first is None or self.second is None:
            return "added" if self.first is None else "removed"
        return "same" if self.first == self.second and self.classes[0] == self.classes[1] else "changed"

    def amount(self, measure: str = "value") -> int:
        """How much more the second has; what is not there has nothing."""
        return (self.second or {}).get(measure, 0) - (self.first or {}).get(measure, 0)

    def amounts(self) -> tuple[int, ...]:
        """`amount` of every measure."""
        return tuple(map(self.amount, MEASURES))

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON-ready data."""
        data: dict[str, Any] = {"name": self.name, "how": self.how}
        if any(self.classes):
            data["classes"] = [cls or None for cls in self.classes]
        sides = {"first": self.first, "second": self.second}
        return {**data, **{side: None if sizes is None else dict(sizes) for side, sizes in sides.items()}}


@dataclass(frozen=True)
class Side:
    """Where one of the two reports comes from: its name, what it counts, on what, and with what."""

    name: str
    target: str
    inputs: tuple[str, ...]
    versions: Mapping[str, str]
    route: str
    uncounted: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Comparison:
    """Totals of two reports, and the modules (in the models' order) and operators (largest change first) that differ.

    ``sides`` are the reports in their order; both are under ``convention``, in ``unit``.
    """

    sides: tuple[Side, Side]
    convention: str
    unit: str
    total: Change
    modules: tuple[Change, ...]
    operators: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether no number of any module or operator differs."""
        return self.total.how == "same" and not self.modules and not self.operators

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "reports": [
                {
                    "name": side.name,
                    "target": side.target,
                    "inputs": list(side.inputs),
                    "versions": dict(side.versions),
                    "route": side.route,
                    "uncounted": list(side.uncounted),
                }
                for side in self.sides
            ],
            "convention": self.convention,
            "unit": self.unit,
            "same": self.same,
            "total": self.total.to_dict(),
            "modules": [change.to_dict() for change in self.modules],
            "operators": [change.to_dict() for change in self.operators],
        }

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from flopscan.report import notebook

        return notebook.text(str(self))

    def __str__(self) -> str:
        from flopscan.report import compare_text

        return compare_text.render(self)


def compare(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str] = ("the first", "the second")
) -> Comparison:
    """The comparison of two reports, each as `Report.to_dict` gives it; ``names`` say where they are from.

    Raises UsageError where they are in different units or conventions, SchemaError for a report that lacks something.
    """
    sides, totals, modules, operators = zip(
        *(_read(report, name) for report, name in zip((first, second), names, strict=True)), strict=True
    )
    _check_units(first, second, names)
    return Comparison(
        sides,
        str(first["convention"]),
        str(first["unit"]),
        Change("", *totals),
        _differing(_changes(*modules)),
        tuple(sorted(_differing(_changes(*operators)), key=_importance)),
    )


_Rows = dict[str, tuple[Sizes, str]]


def _read(report: Mapping[str, Any], name: str) -> tuple[Side, Sizes, _Rows, _Rows]:
    """What a comparison takes from a report."""
    with expect(name, REPORT):
        side = Side(
            name,
            str(report["target"]),
            tuple(map(str, report["inputs"])),
            {str(k): str(v) for k, v in report["versions"].items()},
            str(report["route"]),
            tuple({"op": str(row["op"]), "count": int(row["count"])} for row in report["uncounted"]),
        )
        total = {measure: int(report[measure]) for measure in TOTALS}
        str(report["convention"]), str(report["unit"])
        return side, total, _rows(report["by_module"]), _rows(report["by_operator"])


def _rows(rows: Iterable[Mapping[str, Any]]) -> _Rows:
    return {str(row["name"]): ({m: int(row[m]) for m in MEASURES}, str(row.get("class", ""))) for row in rows}


def _check_units(first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]) -> None:
    """Refuse numbers that are not of one kind."""
    ways = [f"{name} is in {r['unit']} ({r['convention']})" for name, r in zip(names, (first, second), strict=True)]
    if first["unit"] != second["unit"]:
        raise UsageError(f"cannot compare {first['unit']} with {second['unit']}: {' and '.join(ways)}; {_ADVICE}")
    if first["convention"] != second["convention"]:
        raise UsageError(f"cannot compare two conventions: {' and '.join(ways)}; {_ADVICE}")


_ADVICE = "count both under one convention, or see flopscan explain for the steps between two"


def _changes(first: _Rows, second: _Rows) -> list[Change]:
    """A change for every name in either, in the order of the second; what was removed stands where it was."""
    nothing: tuple[Sizes | None, str] = (None, "")
    found = []
    for name in _merged(list(first), list(second)):
        (a, before), (b, after) = first.get(name, nothing), second.get(name, nothing)
        found.append(Change(name, a, b, (before, after)))
    return found


def _merged(first: list[str], second: list[str]) -> list[str]:
    """The names of both: those of the second in its order, each other one behind the name it followed in the first."""
    there = set(second)
    behind: dict[str, list[str]] = {}
    last = ""
    for name in first:
        if name in there:
            last = name
        else:
            behind.setdefault(last, []).append(name)
    start = [] if "" in there else behind.get("", [])
    return start + [one for name in second for one in (name, *behind.get(name, ()))]


def _differing(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(change for change in changes if change.how != "same")


def _importance(change: Change) -> tuple[int, ...]:
    return tuple(-abs(amount) for amount in change.amounts())
