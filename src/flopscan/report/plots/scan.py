"""The scan's share of a model under every convention that has a formula for one: bars, a colour per model."""

from __future__ import annotations

from collections.abc import Mapping

from flopscan import conventions
from flopscan.errors import UsageError
from flopscan.report.numbers import percent
from flopscan.report.plots.style import COLORS, COLUMN, Plot, axes, short, styled

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "oooo")
_BAR, _BETWEEN = 0.13, 0.5


def draw(shares: Mapping[str, Mapping[str, tuple[int, int]]], *, width: float = COLUMN, facts: str = "") -> Plot:
    """Bars of what part the scans are, per model (by name) and convention: their number and the total.

    ``facts`` is what the caption says of inputs and versions. Raises UsageError where no model scans.
    """
    names = list(dict.fromkeys(name for rows in shares.values() for name in rows))
    if not names:
        raise UsageError(f"there is no selective scan in {', '.join(shares) or 'nothing'}; nothing to plot")
    with styled():
        rows = len(names) * (len(shares) + _BETWEEN)
        figure, plot = axes(width, 0.55 + _BAR * rows + 0.14 * (len(shares) > 1) * len(shares))
        step = len(shares) + _BETWEEN
        for i, (model, found) in enumerate(shares.items()):
            places = [step * names.index(name) + i for name in found]
            parts = [100 * part / whole if whole else 0.0 for part, whole in found.values()]
            bars = plot.barh(
                places, parts, 0.85, label=short(model, 40), color=COLORS[i % len(COLORS)],
                hatch=_HATCHES[i % len(_HATCHES)], edgecolor="white", linewidth=0,
            )  # fmt: skip
            plot.bar_label(bars, [percent(part, whole) for part, whole in found.values()], padding=2, fontsize=6.5)
        middle = (len(shares) - 1) / 2
        plot.set_yticks([step * i + middle for i in range(len(names))], names)
        plot.invert_yaxis()
        plot.margins(x=0.14, y=0.02)
        plot.set_xlabel("share of the total that is selective scan (%)")
        plot.yaxis.grid(False)
        plot.tick_params(axis="y", length=0)
        if len(shares) > 1:
            figure.legend(loc="outside upper left", ncols=1, handlelength=1.6)
    told = [f"{name}: {_formula(name)}" for name in names]
    return Plot(
        figure, tuple(filter(None, (f"Each share is of the total in the same convention. {'; '.join(told)}.", facts)))
    )


def _formula(name: str) -> str:
    """How a convention counts a scan, and in what unit."""
    convention = conventions.get(name)
    return f"{convention.scan or convention.ssd} ({convention.unit})"
