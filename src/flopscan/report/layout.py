"""Digit-safe layout: a number is shown whole or its column leaves; names shorten in the middle; text wraps at blanks.

Lines are lists of (text, style) pieces, so that the same layout serves plain text and colour.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Piece = tuple[str, str]
Line = list[Piece]

GAP = 2
KEEP = "\u00a0"
_BAR = (6, 20)
_SHORTEST_REMARK = 6


@dataclass(frozen=True)
class Column:
    """A column: "name" (a label and a remark, shortens), "number" (right-aligned, never cut) or "bar" (a share).

    A column with a ``rank`` leaves, the highest first, while names have less than ``room`` (or than they need).
    """

    header: str
    kind: str = "number"
    rank: int = 0
    room: int = 22
    style: str = ""


@dataclass(frozen=True)
class Row:
    """The cells of a row: for a name a pair of label and remark, for a number its text, for a bar a float to 1."""

    cells: Sequence[Any]
    style: str = ""


def middle(text: str, width: int) -> str:
    """``text``, shortened in the middle to ``width``; its indentation stays."""
    if len(text) <= width:
        return text
    indent = min(len(text) - len(text.lstrip()), max(0, width - 3))
    keep = max(1, width - indent - 1)
    body = text.lstrip()
    tail = keep - keep // 2 if keep > 1 else 0
    return " " * indent + body[: keep - tail] + "…" + (body[-tail:] if tail else "")


def wrap(text: str, width: int, *, indent: str = "", style: str = "") -> list[Line]:
    """``text`` wrapped at blanks; lines after the first begin with ``indent``; a word is never broken.

    A no-break space stays where it is and is written as a blank.
    """
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [[(line.replace(KEEP, " "), style)] for line in lines]


def table(columns: Sequence[Column], rows: Iterable[Row], width: int) -> tuple[list[Line], list[str]]:
    """The lines of a table that fits ``width``, and the headers of the columns that had to leave.

    The first column holds the names.
    """
    rows = list(rows)
    widths = [_natural(i, column, rows) for i, column in enumerate(columns)]
    label = max((len(row.cells[0][0]) for row in rows), default=0)
    remark = max((len(row.cells[0][1]) for row in rows), default=0)
    shown = _fitting(columns, widths, width)
    spare = width - sum(widths[i] + GAP for i in shown if i)
    lined_up = label + GAP + remark if remark else label
    if lined_up > spare:
        label = 0  # no room for remarks below one another: each follows its label
    else:
        widths[0] = max(widths[0], lined_up)
    for i in shown:
        if columns[i].kind == "bar":
            grown = min(_BAR[1], _BAR[0] + max(0, spare - widths[0]))
            spare, widths[i] = spare - (grown - widths[i]), grown
    widths[0] = min(widths[0], spare)
    header = Row([(c.header, "") if c.kind == "name" else c.header for c in columns], "bold")
    lines = [_line(columns, shown, widths, row, label) for row in (header, *rows)]
    return lines, [c.header for i, c in enumerate(columns) if i not in shown and c.header]


def _natural(index: int, column: Column, rows: list[Row]) -> int:
    if column.kind == "bar":
        return _BAR[0]
    if column.kind == "name":
        return max([len(column.header), *(len(_joined(*row.cells[index])) for row in rows)])
    return max([len(column.header), *(len(row.cells[index]) for row in rows)])


def _fitting(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """The columns that stay."""
    shown = list(range(len(columns)))
    for i in sorted(shown, key=lambda i: -columns[i].rank):
        space = width - sum(widths[j] + GAP for j in shown if j)
        if columns[i].rank and space < min(widths[0], columns[i].room):
            shown.remove(i)
    return shown


def _joined(label: str, remark: str) -> str:
    return f"{label}{' ' * GAP}{remark}" if remark else label


def _line(columns: Sequence[Column], shown: Sequence[int], widths: Sequence[int], row: Row, label: int) -> Line:
    line: Line = []
    for i in shown:
        column, value, width = columns[i], row.cells[i], widths[i]
        if column.kind == "name":
            text, remark = value
            line += _name(text, remark, width, label, row.style)
        elif column.kind == "bar":
            line.append(
                (f"{_bar(value, width) if isinstance(value, float) else value:<{width}}", row.style or column.style)
            )
        else:
            line.append((f"{value:>{width}}", row.style or column.style))
        line.append((" " * GAP, ""))
    return line[:-1]


def _name(text: str, remark: str, width: int, label: int, style: str) -> Line:
    """A label and its remark in ``width``; the remark shortens first, and goes before the label shortens."""
    whole = _joined(f"{text:<{label}}", remark)
    spare = width - len(text) - GAP
    if len(whole) > width and spare >= _SHORTEST_REMARK:
        remark = middle(remark, spare)
        whole = _joined(text, remark)
    elif len(whole) > width:
        return [(f"{middle(text, width):<{width}}", style)]
    start = len(whole) - len(remark)
    return [(whole[:start], style), (f"{remark:<{width - start}}", style or "dim")]


def _bar(share: float, width: int) -> str:
    halves = round(2 * width * min(1.0, max(0.0, share)))
    return "█" * (halves // 2) + "▌" * (halves % 2)


def plain(lines: Iterable[Line]) -> str:
    """The text of ``lines`` without styles."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def coloured(lines: Iterable[Line]) -> str:
    """The text of ``lines`` with their styles as terminal escapes."""
    import io

    from rich.console import Console
    from rich.text import Text

    lines = list(lines)
    longest = max((sum(len(text) for text, _ in line) for line in lines), default=0)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=longest + 1, legacy_windows=False)
    for line in lines:
        text = Text.assemble(*line)
        text.rstrip()
        console.print(text, soft_wrap=True, highlight=False)
    return out.getvalue().rstrip("\n")


def command(text: str, width: int) -> list[Line]:
    """The command on as many lines as it needs, each but the last ending in a backslash, so that it can be pasted."""
    if not text:
        return []
    rows = ["again:"]
    for word in _words(text):
        if len(f"{rows[-1]} {word} \\") > width and rows[-1].strip() != "again:":
            rows.append("   ")
        rows[-1] += f" {word}"
    return [[(row + (" \\" if i < len(rows) - 1 else ""), "dim")] for i, row in enumerate(rows)]


def _words(text: str) -> list[str]:
    """The words of a command as the shell reads them, an option together with its value."""
    words: list[str] = []
    for word in map(shlex.quote, shlex.split(text)):
        if words and words[-1].startswith("--") and " " not in words[-1] and not word.startswith("--"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words
