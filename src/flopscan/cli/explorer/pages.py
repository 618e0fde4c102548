"""The pages that lie over the tree, as lines of text: operators, what was not counted, help. Needs no textual."""

from __future__ import annotations

from flopscan.cli.explorer.subject import Subject, number
from flopscan.report.layout import Column, Line, Row, table, wrap
from flopscan.report.listing import some
from flopscan.report.numbers import aligned, exact, percent

KEYS = (
    ("up down, j k", "move"),
    ("enter, space", "open or close a module"),
    ("left right", "close, open"),
    ("1 ... 9, + -", "how deep the tree is open"),
    ("f m e b p", "FLOPs, MACs, exp/log, bytes, params"),
    ("c", "another convention, with its total"),
    ("/ n N", "search names and classes; next, previous"),
    ("o", "operators"),
    ("u", "what was not counted, or as zero"),
    ("t", "light or dark"),
    ("?", "this page"),
    ("escape", "back"),
    ("q", "quit"),
)


def operators(subject: Subject, metric: str, width: int) -> list[Line]:
    """The operators by a metric, the largest first; they have no parameters, so that those are the value."""
    metric = "value" if metric == "params" else metric
    whole = sum(number(row, metric) for row in subject.operators)
    rows = []
    for row in sorted(subject.operators, key=lambda row: -number(row, metric)):
        mine, least = number(row, metric), "≥" if row.uncounted else ""
        cells = ["?", "?  "] if row.uncounted and not mine else [percent(mine, whole), least + aligned(mine)]
        share = mine / whole if whole else 0.0
        style = "red" if row.uncounted else "" if mine else "dim"
        rows.append(Row(((row.name, ""), share, *cells, exact(row.calls)), style))
    columns = [
        Column("operator", "name"), Column("", "bar", rank=6, room=24, style="green"), Column("share", rank=1),
        Column(subject.titled(metric), style="bold"), Column("calls", rank=2),
    ]  # fmt: skip
    return table(columns, rows, width)[0]


def uncounted(subject: Subject, width: int) -> list[Line]:
    """Every operator that no rule could price: how often, why, on what, where."""
    zero = ", ".join(f"{op} x{calls:,}" for op, calls in subject.at_zero.items())
    kernels = wrap(f"{subject.chosen} counts as zero {zero}", width, indent="  ", style="yellow") if zero else []
    if not subject.uncounted:
        return [[("not counted: nothing", "green")], *kernels]
    lines = wrap("not counted, so that a sum with ≥ is the least it can be:", width, style="bold red")
    for one in subject.uncounted:
        lines += wrap(f"{one.op} x{one.count:,}: {one.reason}", width, indent="  ", style="red")
        lines += wrap(f"  on {some(one.shapes)}", width, indent="    ")
        lines += wrap(f"  in {some([path or 'the top level' for path in one.modules])}", width, indent="    ")
    return lines + kernels


def help_(width: int) -> list[Line]:
    """The keys."""
    wide = max(len(keys) for keys, _ in KEYS)
    lines: list[Line] = []
    for keys, meaning in KEYS:
        first, *others = wrap(meaning, max(12, width - wide - 2))
        lines.append([(f"{keys:<{wide}}  ", "bold"), *first])
        lines += [[(" " * (wide + 2), ""), *line] for line in others]
    return lines
