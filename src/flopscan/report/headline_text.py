"""The head of the text report: what was counted, the totals, and the total under other conventions."""

from __future__ import annotations

from collections.abc import Sequence

from flopscan import conventions
from flopscan.report import listing
from flopscan.report.layout import KEEP, Line, middle, wrap
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
        lines += _mistakes(report.using(convention), width)
    return lines


def _mistakes(report: Report, width: int) -> list[Line]:
    """What each known mistake of the counter is of its number, and the name that leaves it out."""
    return [
        line
        for mistake in report.mistakes
        for line in wrap(
            f"  of it a mistake: {mistake.amount:+,}{KEEP}{report.unit.replace(' ', KEEP)}, {mistake.bug.name}"
            f" ({mistake.bug.source}); without: {report.convention.name}~{mistake.bug.key}",
            width,
            indent="    ",
            style="dim",
        )
    ]


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
    value, chosen = report.value, report.convention
    text = f"as {chosen.name} counts: {si(value)} = {exact(value)} {report.unit} ({chosen.summary})"
    only = f"{', '.join(chosen.phases)} only"
    ran = {record.phase for record in report.ledger.trace.records}
    if chosen.phases and not ran <= set(chosen.phases) and only not in chosen.summary:
        text += f"; {only}"
    if report.kernels_at_zero:
        kernels = ", ".join(f"{op}{KEEP}x{calls:,}" for op, calls in report.kernels_at_zero.items())
        text += f"; it counts as zero {kernels}"
    return text
