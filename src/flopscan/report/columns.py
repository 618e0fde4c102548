"""The columns that a table of models can have: each a name, a header, a number of every model, and what it means."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flopscan import conventions
from flopscan.errors import UsageError
from flopscan.report.figures import Figures
from flopscan.report.sheet import Cell

THROUGHPUT = "throughput"
_FORMS = ("scan:CONVENTION", "scan-share:CONVENTION", "or a convention (flopscan conventions)")


@dataclass(frozen=True)
class Column:
    """A column. ``meaning`` is its sentence in the footnote, ``best`` whether less (-1) or more (1) is better.

    ``partial``: what was not counted is missing from its numbers. ``of`` is None for what is measured.
    """

    name: str
    title: str
    meaning: str
    of: Callable[[Figures], Cell] | None
    kind: str = "count"
    unit: str = ""
    partial: bool = True
    best: int = -1


def find(name: str) -> Column:
    """The column called ``name``. Raises UsageError for another."""
    if name in _FIXED:
        return _FIXED[name]
    kind, _, convention = name.partition(":")
    if kind in ("scan", "scan-share") and convention:
        return _scan(name, kind, convention)
    if name not in conventions.names():
        known = [*_FIXED, *conventions.names()]
        near = difflib.get_close_matches(name, known, n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else f"expected {', '.join((*_FIXED, *_FORMS))}"
        raise UsageError(f"there is no column {name!r}; {advice}")
    return _total(name)


def _total(name: str, title: str = "") -> Column:
    convention = conventions.get(name)
    unit = "" if title else convention.unit
    meaning = f"{title or name}: {convention.summary}" + (f"; unit {unit}" if unit else "")
    return Column(name, title or name, meaning, lambda figures: figures.under(name), unit=f" {unit}" if unit else "")


def _scan(name: str, kind: str, convention: str = "flops") -> Column:
    unit = conventions.get(convention).unit
    of = "" if convention == "flops" else f", {convention}"
    if kind == "scan":
        meaning = f"scan{of}: what the selective scans are, in {unit} as {convention} counts"
        return Column(name, f"scan{of}", meaning, lambda figures: figures.scan(convention)[0], unit=f" {unit}")
    meaning = f"scan share{of}: the part of the total that is selective scan, as {convention} counts"
    return Column(name, f"scan share{of}", meaning, lambda figures: _share(*figures.scan(convention)), "share", best=0)


def _share(part: int, whole: int) -> Cell:
    return Fraction(part, whole) if whole else None


_FIXED = {
    "input": Column(
        "input", "input", "", lambda figures: ", ".join(figures.inputs), "text", partial=False, best=0
    ),
    "params": Column(
        "params", "params", "params: parameters, each once", lambda figures: figures.total("params"), partial=False
    ),
    "macs": _total("macs", "MACs"),
    "flops": _total("flops", "FLOPs"),
    "executed": Column(
        "executed", "FLOPs executed",
        "FLOPs executed: FLOPs that the implementations run, where a rule knows that they run others",
        lambda figures: figures.total("executed_flops"),
    ),
    "exp": Column(
        "exp", "exp/log", "exp/log: exponentials, logarithms, trigonometric and other special functions",
        lambda figures: figures.total("transcendentals"),
    ),
    "bytes": Column(
        "bytes", "bytes", "bytes: read and written by the operators, each operand once per operator",
        lambda figures: figures.total("bytes_read") + figures.total("bytes_written"), unit="B",
    ),
    "scan": _scan("scan", "scan"),
    "scan-share": _scan("scan-share", "scan-share"),
    THROUGHPUT: Column(THROUGHPUT, "throughput", "", None, "rate", partial=False, best=1),
}  # fmt: skip
NAMES = tuple(_FIXED)
