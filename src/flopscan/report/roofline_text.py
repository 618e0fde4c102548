"""The roofline as text: the bound of the model, what binds it, the operators that take it, and what it assumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from flopscan import devices
from flopscan.devices.bound import UNITS, rates
from flopscan.devices.device import Device
from flopscan.report.choices import NARROWEST
from flopscan.report.layout import KEEP, Column, Line, Row, plain, table, wrap
from flopscan.report.numbers import exact
from flopscan.report.roofline import Bounded, Roofline

_OPERATORS = 10
_SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def render(roofline: Roofline, width: int | None = None) -> str:
    """The section on its own, of ``width`` columns (default: the terminal's), without a newline at the end."""
    return plain(section(roofline, max(NARROWEST, width or shutil.get_terminal_size().columns)))


def section(roofline: Roofline, width: int) -> list[Line]:
    """The bounds, the operators that take longest, and the assumptions."""
    device, whole, fused = roofline.device, roofline.all, roofline.fused
    dtype = f"everything in {roofline.dtype}" if roofline.dtype else "each operator in its own dtype"
    lines = wrap(f"least time on {device.title}, {dtype}: a bound, not a prediction", width, indent="  ", style="bold")
    lines += wrap(
        f"operators one by one  ≥ {_kept(whole.seconds)}: {_shares(whole.limits, whole.seconds)}", width, indent="  "
    )
    busy = ", ".join(f"{UNITS[unit]} {_kept(seconds)}" for unit, seconds in _longest(fused.busy))
    lines += wrap(f"all fused, overlapped ≥ {_kept(fused.seconds)}: {busy or 'nothing to do'}", width, indent="  ")
    lines += wrap(_intensity(roofline), width, indent="  ")
    lines += [[("", "")], *_operators(roofline, width)]
    return lines + [line for text in assumptions(roofline) for line in wrap(text, width, indent="  ", style="dim")]


def wish(roofline: Roofline | None) -> str:
    """The options that ask for the same roofline again; empty for a device of one's own."""
    if roofline is None or devices.all_known().get(roofline.device.name) != roofline.device:
        return ""
    return f" --device {roofline.device.name}" + (f" --dtype {roofline.dtype}" if roofline.dtype else "")


def _shares(limits: Mapping[str, float], seconds: float) -> str:
    if not seconds:
        return "nothing to do"
    return ", ".join(f"{part / seconds:.1%} by {UNITS[unit]}" for unit, part in _longest(limits))


def _longest(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda part: -part[1])


def _intensity(roofline: Roofline) -> str:
    """The model's FLOPs a byte beside those from which on products are bound by arithmetic."""
    mine = ratio(roofline.intensity)
    text = f"intensity {mine} FLOP/B unfused" if mine else "nothing moves"
    if roofline.ridge is None:
        return text
    known = rates(roofline.device, roofline.main_dtype)
    unit = UNITS[known.products_on]
    return f"{text}; products of {roofline.main_dtype} are bound by {unit} above {ratio(roofline.ridge)} FLOP/B"


def _operators(roofline: Roofline, width: int) -> list[Line]:
    """The operators that take longest, and the uncounted; the others in one row."""
    rows = [row for row in roofline.by_operator().values() if row.seconds or row.uncounted]
    shown = [row for i, row in enumerate(rows) if i < _OPERATORS or row.uncounted]
    rest = [row for row in rows if row not in shown]
    whole = roofline.total
    cells = [Row(_cells(row, whole), "red" if row.uncounted else "") for row in shown]
    if rest:
        limits = {unit: sum(row.limits.get(unit, 0.0) for row in rest) for unit in UNITS}
        others = Bounded(
            f"({len(rest)} more)", sum(row.seconds for row in rest), limits, sum(row.calls for row in rest),
            sum(row.flops for row in rest), sum(row.bytes for row in rest),
        )  # fmt: skip
        cells.append(Row(_cells(others, whole), "dim"))
    columns = [
        Column("operator", "name"), Column("calls", rank=4), Column("share", rank=1),
        Column("time bound", style="bold"), Column("bound by", rank=2), Column("FLOP/B", rank=3),
    ]  # fmt: skip
    lines, left = table(columns, cells, width)
    if left:
        lines += wrap(f"no room in {width} columns for: {', '.join(left)}", width, indent="  ", style="dim")
    return lines


def _cells(row: Bounded, whole: float) -> tuple[object, ...]:
    if row.uncounted and not row.seconds:
        return (row.name, ""), exact(row.calls), "?", "?", "not counted", "?"
    share = f"{row.seconds / whole:.1%}" if whole else "-"
    return (row.name, ""), exact(row.calls), share, least_time(row), UNITS[row.by], ratio(row.intensity) or "-"


def least_time(row: Bounded, times: int = 1) -> str:
    """The bound of a row, ``times`` over; with a sign where an uncounted operator could only add to it."""
    if row.uncounted and not row.seconds:
        return "?"
    return f"{'≥' if row.uncounted else ''}{duration(row.seconds * times)}"


def duration(seconds: float) -> str:
    """Four significant digits and a unit: ``87.24 us``."""
    if not seconds:
        return "0 us"
    scale, unit = next(((scale, unit) for scale, unit in _SCALES if seconds >= 0.9995 * scale), _SCALES[-1])
    value = seconds / scale
    decimals = max(0, 4 - len(str(int(value)))) if value >= 1 else 3
    return f"{value:.{decimals}f} {unit}"


def _kept(seconds: float) -> str:
    """The same where text wraps: number and unit stay together."""
    return duration(seconds).replace(" ", KEEP)


def ratio(value: float | None) -> str:
    """FLOPs a byte in three digits; empty for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def assumptions(roofline: Roofline) -> tuple[str, ...]:
    """What the bound takes for granted, one sentence or two each."""
    return tuple(_assumptions(roofline))


def _assumptions(roofline: Roofline) -> Iterator[str]:
    device = roofline.device
    rate = "rates that torch reached on one machine" if device.kind.startswith("measured") else "peak rates"
    yield (
        f"assumed: {rate}, no launches, no waiting. One by one, each operator reads its operands from memory and writes"
        " its results; a cache that holds them between operators can beat that sum. At these rates nothing beats the"
        " fused bound with the same arithmetic."
    )
    yield _units(device)
    if roofline.dtype:
        yield f"as if every floating tensor were stored and computed in {roofline.dtype}; integers keep their size."
    elif roofline.main_dtype == "fp32" and "tf32" in device.matrix:
        yield "float32 is computed in float32; --dtype tf32 bounds what TF32 can do."
    if roofline.least:
        yield "≥: operators that were not counted would add to it."
    for name in roofline.unknown:
        yield f"not known of {device.name}: its rate for {name}; what that would bound is left out."


def _units(device: Device) -> str:
    """What runs where."""
    if device.kind.startswith("measured"):
        return (
            "products, exponentials and elementwise arithmetic each at the rate measured for it, all at the same time."
        )
    products = (
        "products run on matrix units" if device.matrix else "products run on vector units, there being no matrix units"
    )
    special = (
        "exponentials, logarithms, trigonometric functions and roots on special-function units"
        if device.special
        else "each exponential, logarithm, trigonometric function or root counts as one operation of the vector units"
        " (the least that it can be: no faster unit for them is known here)"
    )
    return f"{products}, {special}, the rest on vector units, all at the same time."
