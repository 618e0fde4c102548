"""The head of the text report: what was counted, the totals, and the total under other conventions."""

from __future__ import annotations

from collections.abc import Sequence

from flopscan import conventions
from flopscan.core.amount import Amount
from flopscan.report import listing
from flopscan.report.layout import Line, middle, wrap
from flopscan.report.numbers import exact, si
from flopscan.report.report import Report


def section(report: Report, width: int) -> list[Line]:
    """What was counted, and the totals: four digits, then all of them."""
    lines = [[(middle(report.target or "a count", width), "bold")]]
    inputs = report.ledger.trace.origin.get("inputs", [])
    if inputs:
        lines += wrap(", ".join(inputs), width, style="dim")
    rows = []
    for total in listing.totals(report):
        least = "≥" if total.partial else ""
        rows.append((total.title, least + _short(total.value, total.unit), least + exact(total.value)))
    lines += [[("", "")], *_totals(rows, width)]
    for convention in _others(report):
        lines += wrap(_under(report.using(convention)), width, indent="  ", style="cyan")
    return lines


def _short(value: int, unit: str) -> str:
    text = si(value)
    return f"{text}{unit}" if text[-1].isalpha() else f"{text} {unit}".rstrip()


def _totals(rows: Sequence[tuple[str, str, str]], width: int) -> list[Line]:
    """Label, short number, all digits: the short one leaves where there is no room, then each gets its own line."""
    label, short, whole = (max(len(row[i]) for row in rows) for i in range(3))
    lines: list[Line] = []
    for name, brief, digits in rows:
        style = "dim" if name.startswith(" ") else ""
        strong = style or "bold"
        if label + 2 + short + 2 + whole <= width:
            lines.append(
                [(f"{name:<{label}}  ", style), (f"{brief:>{short}}", strong), (f"  {digits:>{whole}}", "dim")]
            )
        elif label + 2 + whole <= width:
            lines.append([(f"{name:<{label}}  ", style), (f"{digits:>{whole}}", strong)])
        else:
            lines += [[(name, style)], [(f"{digits:>{min(width, whole + 2)}}", strong)]]
    return lines


def _others(report: Report) -> list[str]:
    """The conventions that get a line of their own: the chosen one, and VMamba's where there is a selective scan."""
    chosen = [report.convention.name] if report.convention.name != "flops" else []
    scans = any("selective_scan" in call.op for call in report.ledger.trace.calls)
    if scans and "vmamba" in conventions.names() and "vmamba" not in chosen:
        chosen.append("vmamba")
    return chosen


def _under(report: Report) -> str:
    value: Amount = report.value
    return (
        f"as {report.convention.name} counts: {si(value)} = {exact(value)} {report.unit} ({report.convention.summary})"
    )
