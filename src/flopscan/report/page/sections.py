"""What the page's sections say, as the template asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flopscan.core.amount import Amount
from flopscan.devices.bound import UNITS
from flopscan.report.numbers import exact, percent, si
from flopscan.report.page import families
from flopscan.report.page.data import Page, importance
from flopscan.report.page.packing import measures
from flopscan.report.page.values import Line
from flopscan.report.roofline_text import wish


@dataclass(frozen=True, slots=True)
class Card:
    """A number at the head of the page: four digits, then all of them."""

    id: str
    label: str
    short: str
    whole: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in a table: four digits, all digits where there are more, and the name of its column."""

    name: str
    text: str
    whole: str


def cards(page: Page) -> list[Card]:
    """The totals."""
    report = page.report
    executed = int(report.executed_flops)
    counted = [
        ("flops", "FLOPs", int(report.flops), "", "multiply-add 2, exp and log apart"),
        ("executed", "FLOPs as executed", executed, "", "what the implementations run"),
        ("macs", "MACs", int(report.macs), "", "multiply-adds"),
        ("transcendentals", "exp, log, trig", report.transcendentals, "", "special functions"),
        ("bytes", "bytes moved", report.bytes_read + report.bytes_written, "B", _moved(page)),
    ]
    least = "≥ " if report.uncounted else ""
    found = [
        Card(name, label, least + _with(si(value), unit), least + exact(value), remark)
        for name, label, value, unit, remark in counted
        if name != "executed" or executed != int(report.flops)
    ]
    return [*found, Card("params", "parameters", si(report.params), exact(report.params), "each counted once")]


def _moved(page: Page) -> str:
    report = page.report
    return f"{_with(si(report.bytes_read), 'B')} read, {_with(si(report.bytes_written), 'B')} written"


def _with(text: str, unit: str) -> str:
    return f"{text}{unit}" if text[-1].isalpha() else f"{text} {unit}".rstrip()


def cells(page: Page, line: Line, times: int = 1, params: int | None = None) -> list[Cell]:
    """The numbers of a row of a table, ``times`` as much as ``line``."""
    value = line.values[page.chosen] * times
    flops, macs, transcendentals, read, written, *_ = (n * times for n in measures(line))
    numbers = {
        "value": value, "flops": flops, "macs": macs, "transcendentals": transcendentals, "bytes": read + written,
    }  # fmt: skip
    unknown = line.uncounted and not any(numbers.values())
    least = "≥ " if line.uncounted else ""
    share = Cell("share", "?" if unknown else percent(value, page.counted.totals[page.chosen]), "")
    found = [share, *(_cell(name, n, "?" if unknown else least + si(n), least) for name, n in numbers.items())]
    return found if params is None else [*found, _cell("params", params * times, si(params * times), "")]


def _cell(name: str, value: int, text: str, least: str) -> Cell:
    return Cell(name, text, "" if text == "?" or abs(value) < 1000 else least + exact(value))


def bar(page: Page, line: Line, times: int = 1) -> str:
    """The part of the whole that a row is, as the width of its bar."""
    whole = page.counted.totals[page.chosen]
    part = line.values[page.chosen] * times
    return f"{max(0, min(10_000, 10_000 * part // whole)) / 100:g}%" if whole else "0%"


def ordered(page: Page, lines: Mapping[str, Line]) -> list[tuple[int, str, Line, bool]]:
    """The lines of a table, largest first: place, name, line, and whether it is shown.

    A line is shown that costs something or was not counted.
    """
    rows = [(place, name, line, costs(page, line)) for place, (name, line) in enumerate(lines.items())]
    return sorted(rows, key=lambda row: importance(row[2], page.chosen))


def costs(page: Page, line: Line) -> bool:
    """Whether ``line`` has a number to show under the chosen convention."""
    return bool(line.values[page.chosen] or line.uncounted or any(line.cost.values()))


def free(page: Page, lines: Mapping[str, Line]) -> list[tuple[str, int]]:
    """The operators that were called and cost nothing, with how often."""
    return [(name, line.calls) for _, name, line, shown in ordered(page, lines) if line.calls and not shown]


def label(convention: str) -> str:
    """A convention at the head of a column."""
    return {"flops": "FLOPs", "macs": "MACs"}.get(convention, convention)


def at_zero(page: Page) -> list[tuple[str, int]]:
    """The kernels that the chosen convention counts as zero, with their calls."""
    return list(page.kernels_at_zero[page.chosen].items())


def mistakes(page: Page) -> list[tuple[str, str, str]]:
    """What each known mistake is of the chosen convention's number, what it is, and the name that leaves it out."""
    chosen = page.report.convention
    return [
        (f"{one.amount:+,} {chosen.unit}", f"{one.bug.name} ({one.bug.source})", f"{chosen.name}~{one.bug.key}")
        for one in page.mistakes[page.chosen]
    ]


def legend(page: Page) -> list[tuple[str, str]]:
    """The families that the chart shows, with their words."""
    operators = (families.group_of(name) for node in page.nodes for name, *_ in node.operators)
    there = {*operators, *(node.family for node in page.nodes)}
    return [(family, words) for family, words in families.LABELS.items() if family in there]


def scans(page: Page) -> str:
    """What kinds of scans there are, as a title begins."""
    kinds = ", ".join(page.report.scan.kinds) if page.report.scan else ""
    return kinds[:1].upper() + kinds[1:]


def depths(page: Page) -> int:
    """How many levels the tree has below its root."""
    return max(node.level for node in page.nodes)


def totals(page: Page) -> list[tuple[str, Amount, str, str]]:
    """Every convention that can count the model: name, total, summary, source."""
    pairs = zip(page.counted.conventions, page.counted.totals, strict=True)
    return [(c.name, Amount(total, c.unit), c.summary, c.source) for c, total in pairs]


def some(items: Sequence[str], most: int = 4) -> tuple[Sequence[str], Sequence[str]]:
    """The first of ``items``, and the others."""
    return items[:most], items[most:]


def again(page: Page) -> str:
    """The command that gives the page again; empty for a model that no command line can name."""
    command = page.report.again
    return command + wish(page.roofline) if command else ""


def peaks(page: Page) -> str:
    """What the device can do in a second."""
    known = page.roofline.peaks() if page.roofline else {}
    names = {"memory": "B/s of memory", "special": "functions/s of special functions"}
    return ", ".join(
        f"{si(int(rate))}{names.get(unit, f'FLOP/s of {UNITS[unit]}')}" for unit, rate in known.items() if rate
    )
