"""An explanation as text: the first total, the steps below one another, the second total, and where mistakes stand."""

from __future__ import annotations

import shutil

from flopscan.report.choices import NARROWEST
from flopscan.report.explain import Explanation
from flopscan.report.layout import KEEP, Line, coloured, plain, wrap
from flopscan.report.numbers import exact, percent

_GAP = "  "


def render(found: Explanation, *, width: int | None = None, color: bool = False) -> str:
    """The explanation as text of ``width`` columns (default: the terminal's), without a newline at the end."""
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    lines = _head(found, width)
    rows = [(_title(found, 0), exact(found.start), "", "bold")]
    rows += [
        (f"{_GAP}{step.reason}", f"{step.amount:+,}", percent(abs(step.amount), _whole(found)), _style(step.amount))
        for step in found.steps
    ]
    rows += [] if found.steps else [(f"{_GAP}no difference", "", "", "")]
    rows.append((_title(found, 1), exact(found.end), "", "bold"))
    lines += _table(rows, width)
    lines += _sources(found, width)
    return coloured(lines) if color else plain(lines)


def _head(found: Explanation, width: int) -> list[Line]:
    if not found.target:
        return []
    inputs = f", {', '.join(found.inputs)}" if found.inputs else ""
    return [*wrap(f"{found.target}{inputs}", width, style="dim"), [("", "")]]


def _sources(found: Explanation, width: int) -> list[Line]:
    """Where each mistake stands, and what tells all of a counter."""
    sources = {step.reason.partition(": ")[2]: step.source for step in found.steps if step.source}
    if not sources:
        return []
    told = {one.name.partition("~")[0]: {bug.name for bug in one.bugs} for one in (found.first, found.second)}
    names = [name for name, bugs in told.items() if bugs & sources.keys()]
    commands = " and ".join(f"flopscan{KEEP}conventions{KEEP}{name}" for name in names)
    lines = [[("", "")], *wrap(f"where the mistakes stand; all of them: {commands}", width)]
    for name, source in sources.items():
        lines += wrap(f"{_GAP}{name}: {source}", width, indent=_GAP * 2, style="dim")
    return lines


def _title(found: Explanation, which: int) -> str:
    convention = (found.first, found.second)[which]
    return f"{convention.name}{KEEP}({convention.unit})"


def _whole(found: Explanation) -> int:
    return max(int(found.start), int(found.end))


def _style(amount: int) -> str:
    return "green" if amount > 0 else "red"


def _table(rows: list[tuple[str, str, str, str]], width: int) -> list[Line]:
    """A row for each: the reason, wrapped where it is long, the number beside its first line, the share after it."""
    number, share = (max(len(row[i]) for row in rows) for i in (1, 2))
    room = width - number - share - 2 * len(_GAP)
    longest = min(room, max(len(row[0]) for row in rows))
    lines: list[Line] = []
    for reason, amount, part, style in rows:
        indent = _GAP if reason.startswith(_GAP) else ""
        first, *more = wrap(reason.strip(), longest - len(indent), indent=_GAP)
        lines.append(
            [(f"{indent + first[0][0]:<{longest}}", "bold" if style == "bold" else ""), (_GAP, ""),
             (f"{amount:>{number}}", style), (f"{_GAP}{part:>{share}}", "dim")]
        )  # fmt: skip
        lines += [[(indent + piece[0][0], "")] for piece in more]
    return lines
