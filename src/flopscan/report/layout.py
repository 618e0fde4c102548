"""Digit-safe layout: a number is shown whole or its column leaves; names shorten in the middle; text wraps at blanks.

Lines are lists of (text, style) pieces, so that the same layout serves plain text and colour.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Piece = tuple[str, str]
Line = list[Piece]

GAP = 2
KEEP = "\u00a0"
GUIDES = "│├└▾▸"  # what a tree is drawn with, before a label
PROSE = 120  # no line of text is longer, however wide the terminal is: the eye does not find the next one
_BAR = (6, 20)
_EIGHTHS = "▏▎▍▌▋▊▉█"
_SHORTEST_REMARK = 6


@dataclass(frozen=True)
class Column:
    """A column: "name" (a label and a remark, shortens), "number" (right-aligned, never cut) or "bar" (a share).

    A column with a ``rank`` leaves, the highest first, while names have less than ``room`` (or than they need). One
    with ``beyond`` is a gift to wide terminals: it is there only where names need nothing more and that much is left.
    Names that ``spill`` give a remark without room a line of its own.
    """

    header: str
    kind: str = "number"
    rank: int = 0
    room: int = 22
    style: str = ""
    beyond: int = 0
    spill: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of a row: for a name a pair of label and remark, for a number its text, for a bar a float to 1."""

    cells: Sequence[Any]
    style: str = ""


@dataclass(frozen=True)
class Table:
    """Columns, the first of them the names, and rows with a cell for each."""

    columns: Sequence[Column]
    rows: Sequence[Row]


def middle(text: str, width: int) -> str:
    """``text``, shortened in the middle to ``width``; its indentation stays, and what it is drawn with."""
    if len(text) <= width:
        return text
    indent = min(_indent(text), max(0, width - 3))
    keep = max(1, width - indent - 1)
    body = text[_indent(text) :]
    tail = keep - keep // 2 if keep > 1 else 0
    return text[:indent] + body[: keep - tail] + "…" + (body[-tail:] if tail else "")


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(f" {GUIDES}"))


def guides(levels: Sequence[int]) -> list[str]:
    """What stands before the label of each row of a tree, by their levels: two letters a level, none for the root."""
    found: list[str] = []
    open_at: set[int] = set()  # the levels at which, further down, another sibling follows
    for level in reversed(levels):
        lines = ["│ " if above in open_at else "  " for above in range(1, level)]
        own = ["├ " if level in open_at else "└ "] if level else []
        found.append("".join(lines + own))
        open_at = {above for above in open_at if above < level} | {level}
    return found[::-1]


def wrap(text: str, width: int, *, indent: str = "", style: str = "") -> list[Line]:
    """``text`` wrapped at blanks; lines after the first begin with ``indent``; a word is never broken.

    No line is longer than `PROSE`. A no-break space stays where it is and is written as a blank.
    """
    width = min(width, PROSE)
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [[(line.replace(KEEP, " "), style)] for line in lines]


def table(columns: Sequence[Column], rows: Iterable[Row], width: int) -> tuple[list[Line], list[str]]:
    """The lines of a table that fits ``width``, and the headers of the columns that had to leave."""
    return tables([Table(columns, list(rows))], width)[0]


def tables(several: Sequence[Table], width: int) -> list[tuple[list[Line], list[str]]]:
    """The lines of tables whose columns stand below one another, and the headers of those that had to leave.

    They have the same columns but for their headers; the last ones may be missing from some.
    """
    columns = max((one.columns for one in several), key=len, default=())
    widths = [
        max(_natural(i, one.columns[i], one.rows) for one in several if i < len(one.columns))
        for i in range(len(columns))
    ]
    labels = [_lined_up(one.rows) for one in several]
    shown = _fitting(columns, widths, max((both for _, both in labels), default=0), width)
    spare = width - sum(widths[i] + GAP for i in shown if i)
    # where remarks have no room below one another, each follows its label
    starts = [label if both <= spare else 0 for label, both in labels]
    inline = max((len(_joined(*name)) for one in several for name in _names(one.rows)), default=0)
    widths[0] = max([widths[0], min(inline, spare), *(both for _, both in labels if both <= spare)])
    for i in shown:
        if columns[i].kind == "bar":
            grown = min(max(_BAR[1], width // 5), _BAR[0] + max(0, spare - widths[0]))
            spare, widths[i] = spare - (grown - widths[i]), grown
    widths[0] = min(widths[0], spare)
    found = []
    for one, start in zip(several, starts, strict=True):
        mine = [i for i in shown if i < len(one.columns)]
        header = Row([(c.header, "") if c.kind == "name" else c.header for c in one.columns], "bold")
        lines = list(_lines(one.columns, mine, widths, [header, *one.rows], start))
        left = [c.header for i, c in enumerate(one.columns) if i not in shown and c.header and not c.beyond]
        found.append((lines, left))
    return found


def _natural(index: int, column: Column, rows: Sequence[Row]) -> int:
    if column.kind == "bar":
        return _BAR[0]
    if column.kind == "name":
        own = (row.cells[index][0] if column.spill else _joined(*row.cells[index]) for row in rows)
        return max([len(column.header), *map(len, own)])
    return max([len(column.header), *(len(row.cells[index]) for row in rows)])


def _lined_up(rows: Sequence[Row]) -> tuple[int, int]:
    """The width of the labels, and of labels and remarks that stand below one another."""
    label = max((len(text) for text, _ in _names(rows)), default=0)
    remark = max((len(remark) for _, remark in _names(rows)), default=0)
    return label, label + GAP + remark if remark else label


def _fitting(columns: Sequence[Column], widths: list[int], lined_up: int, width: int) -> list[int]:
    """The columns that stay."""
    shown = list(range(len(columns)))
    for i in sorted(shown, key=lambda i: -columns[i].rank):
        space = width - sum(widths[j] + GAP for j in shown if j)
        column = columns[i]
        needed = max(widths[0], lined_up) + column.beyond if column.beyond else min(widths[0], column.room)
        if column.rank and space < needed:
            shown.remove(i)
    return shown


def _joined(label: str, remark: str) -> str:
    return f"{label}{' ' * GAP}{remark}" if remark else label


def _lines(
    columns: Sequence[Column], shown: Sequence[int], widths: Sequence[int], rows: Sequence[Row], start: int
) -> Iterator[Line]:
    """The lines of the rows; of names that spill all remarks do, where one has no room."""
    spills = columns[0].spill and any(len(_joined(f"{t:<{start}}", r)) > widths[0] for t, r in _names(rows))
    whole = sum(widths[i] + GAP for i in shown) - GAP
    for row in rows:
        (text, remark), *others = row.cells
        if spills and remark:
            yield _line(columns, shown, widths, Row([(text, ""), *others], row.style), 0)
            yield from wrap(f"  {remark}", whole, indent="    ", style=row.style or "dim")
        else:
            yield _line(columns, shown, widths, row, start)


def _names(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    return (row.cells[0] for row in rows)


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
        remark = _shorter(remark, spare)
        whole = _joined(text, remark)
    elif len(whole) > width:
        whole, remark = middle(text, width), ""
    drawn, start = _indent(whole), len(whole) - len(remark)
    found = [(whole[:drawn], "dim"), (whole[drawn:start], style), (f"{remark:<{width - start}}", style or "dim")]
    return [piece for piece in found if piece[0]]


def _shorter(remark: str, width: int) -> str:
    """A remark whose last word shortens; where too little of it would be left, it goes: ``12x GPT…tion``, ``12x``."""
    if len(remark) <= width:
        return remark
    head, _, last = remark.rpartition(" ")
    if not head:
        return middle(last, width)
    left = width - len(head) - 1
    return f"{head} {middle(last, left)}" if left >= _SHORTEST_REMARK else middle(head, width)


def _bar(share: float, width: int) -> str:
    """A bar of eighths of a letter; what is not nothing is seen."""
    eighths = round(8 * width * min(1.0, max(0.0, share)))
    eighths = max(eighths, int(share > 0))
    whole, part = divmod(eighths, 8)
    return _EIGHTHS[-1] * whole + (_EIGHTHS[part - 1] if part else "")


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
