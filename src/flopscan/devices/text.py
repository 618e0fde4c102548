"""Devices as text: all of them in a table, or one with every figure and its source."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from flopscan.devices.device import Device, Figure

_NAMES = {"special": "exp, log, roots"}
_LETTERS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def listed(devices: Iterable[Device], width: int) -> str:
    """A row a device, with the site or document of its bandwidth; `described` has every source whole."""
    header = ("device", "bf16", "fp32", "bandwidth", "exp, log", "read", "source")
    rows = []
    for device in devices:
        fastest = device.matrix.get("bf16") or device.vector.get("bf16")
        source = device.bandwidth.source
        rows.append(
            (
                device.name, _value(fastest, "FLOP/s"), _value(device.vector.get("fp32"), "FLOP/s"),
                _value(device.bandwidth, "B/s"), _value(device.special, "/s"), source.read,
                urlsplit(source.url).netloc or source.url,
            )
        )  # fmt: skip
    lines = columns(header, rows)
    cut = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
    legend = "bf16: products, on matrix units where there are; fp32: vector units; -: none, ?: not found"
    return "\n".join([*cut, "", *textwrap.wrap(f"{legend}. flopscan devices NAME shows one whole.", width)])


def described(device: Device, width: int) -> str:
    """Every figure of one device, how it was derived, and the number of its source, which are listed below."""
    units = {"memory": "B", "bandwidth": "B/s", "special": "/s", "measured copy": "B/s"}
    numbers: dict[str, int] = {}
    rows = [("figure", "value", "source", "derivation")]
    for name, figure in device.figures().items():
        number = numbers.setdefault(str(figure.source), len(numbers) + 1)
        rows.append((_NAMES.get(name, name), _value(figure, units.get(name, "FLOP/s")), f"[{number}]", figure.how))
    notes = [] if device.special else ["special functions: no unit of their own, or nothing known of it"]
    lines = [f"{device.name}  {device.title} ({device.kind})", "", *columns(rows[0], rows[1:]), ""]
    for text in (*(f"[{number}] {source}" for source, number in numbers.items()), *notes, *device.notes):
        lines += textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _value(figure: Figure | None, unit: str) -> str:
    if figure is None:
        return "-"
    return "?" if figure.value is None else rate(figure.value, unit)


def rate(value: float, unit: str) -> str:
    """Four digits and a letter: ``989.4 TFLOP/s``."""
    size, letter = next(((size, letter) for size, letter in _LETTERS if value >= 0.99995 * size), (1.0, ""))
    return f"{value / size:.4g} {letter}{unit}".rstrip()


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first and the last two columns to the left, numbers to the right."""
    every = [header, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]
    left = {0, len(header) - 2, len(header) - 1}
    padded = [
        [f"{cell:<{widths[i]}}" if i in left else f"{cell:>{widths[i]}}" for i, cell in enumerate(row)] for row in every
    ]
    return ["  ".join(cells).rstrip() for cells in padded]
