"""A sheet: a table as data, with a title and footnotes. Each format writes any sheet in its own letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from flopscan.report.numbers import LETTERS, percent, scaled, si

Cell = str | int | float | Fraction | None
ABOUT = "about"


@dataclass(frozen=True, slots=True)
class Heading:
    """A column: its key in data, its title, and what its cells are.

    ``kind``: ``text``, ``count`` (whole numbers), ``share`` (fractions) or ``rate`` (measured, a float). A count with a
    ``power`` is written in units of 1000**power, else each with a letter of its own. ``partial``: what was not counted
    is missing from it. ``unit`` stands in the header.
    """

    key: str
    title: str
    kind: str = "count"
    power: int | None = None
    unit: str = ""
    partial: bool = False

    @property
    def header(self) -> str:
        """Title, and in brackets the unit of the cells: ``FLOPs (G)``, ``bytes (MB)``, ``throughput (images/s)``."""
        unit = f"{LETTERS[self.power] if self.power else ''}{self.unit}"
        return f"{self.title} ({unit})" if unit else self.title


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: a cell per heading (None: there is no number), the text that follows the name, and how deep it stands.

    ``least``: something was not counted, so that the sums are the least that they can be. ``strong``: the columns that
    stand out, every one where it is None.
    """

    cells: tuple[Cell, ...]
    remark: str = ""
    level: int = 0
    least: bool = False
    strong: frozenset[int] | None = frozenset()

    def stands_out(self, column: int) -> bool:
        """Whether the cell of ``column`` does."""
        return self.strong is None or column in self.strong


@dataclass(frozen=True)
class Sheet:
    """Title, columns (the first has the names), rows, footnotes; ``facts`` are what data repeats in every row.

    ``again`` is the command that makes the same once more, empty where there is none.
    """

    title: str
    headings: tuple[Heading, ...]
    entries: tuple[Entry, ...]
    footnotes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    again: str = ""


def written(heading: Heading, cell: Cell, *, least: bool = False) -> str:
    """A cell in plain letters; an unknown count is ``?`` where something was not counted, ``-`` where it is missing."""
    if cell is None:
        return "?" if least and heading.partial else "-"
    if isinstance(cell, str):
        return cell
    if heading.kind == "share":
        share = Fraction(cell)
        return percent(share.numerator, share.denominator)
    if heading.kind == "rate":
        return f"{cell:,.0f}" if cell >= 1000 else f"{float(cell):.4g}"
    return si(int(cell)) if heading.power is None else scaled(int(cell), heading.power)


def at_least(heading: Heading, entry: Entry, cell: Cell) -> bool:
    """Whether a cell is a sum that lacks something."""
    return entry.least and heading.partial and heading.kind != "share" and cell is not None


def clean(text: str) -> str:
    """``text`` on one line: control characters, and those that turn the direction of writing, become blanks."""
    turning = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F}
    kept = (" " if ord(c) < 32 or 127 <= ord(c) < 160 or ord(c) in turning or c in "\u2028\u2029" else c for c in text)
    return " ".join("".join(kept).split())
