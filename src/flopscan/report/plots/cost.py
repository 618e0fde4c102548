"""Cost against resolution or length: a line per model, a mark for every count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flopscan.errors import FlopscanError, UsageError
from flopscan.report.models import Models
from flopscan.report.numbers import power_of
from flopscan.report.plots.style import COLUMN, Plot, axes, look, short, styled

_WIDE = 12  # where the last number is this many times the first, a straight axis would crowd the small ones
SCALES = ("auto", "none", "x", "y", "xy")


def draw(models: Models, *, width: float = COLUMN, label: str = "", log: str = "auto") -> Plot:
    """The first column of ``models`` against what is varied; ``log`` says which axes are logarithmic.

    A count that lacks something is drawn hollow. Raises FlopscanError where there is nothing to draw.
    """
    if not models.varied:
        raise UsageError("a plot of cost needs a number that is varied, as in --input 1x3x{r}x{r} --over r=224,288,384")
    heading = models.headings[2]
    series = _series(models)
    if not series:
        raise FlopscanError("there is nothing to plot: no model has a number")
    points = sorted({x for line in series.values() for x, _, _ in line})
    counts = [y for line in series.values() for _, y, _ in line]
    wide = points[-1] / max(1, points[0]) >= _WIDE
    log = ("xy" if wide else "none") if log == "auto" else log
    if heading.power is not None and "y" in log:  # the small ones are to be read too
        heading = replace(heading, power=power_of([int(min(counts))]))
    with styled():
        figure, plot = axes(width, 0.72 * width)
        scale = 1000 ** (heading.power or 0)
        for i, (name, line) in enumerate(series.items()):
            _line(plot, name, [(x, y / scale, least) for x, y, least in line], i)
        _scales(plot, points, log, least=min(counts), most=max(counts))
        plot.set_xlabel(label or models.varied)
        plot.set_ylabel(f"{'≥ ' if models.uncounted else ''}{heading.header}")
        plot.legend(loc="best", handlelength=2.6)
    return Plot(figure, models.sheet().footnotes)


def _series(models: Models) -> dict[str, list[tuple[int, float, bool]]]:
    """Point, number and whether it lacks something, per model."""
    found: dict[str, list[tuple[int, float, bool]]] = {}
    for model, row in zip(models.models, models.cells, strict=True):
        if model.point is not None and row[0] is not None and not isinstance(row[0], str):
            least = bool(model.figures and model.figures.uncounted)
            found.setdefault(model.name, []).append((model.point, float(row[0]), least))
    return {name: sorted(line) for name, line in found.items()}


def _line(plot: Any, name: str, line: Sequence[tuple[int, float, bool]], index: int) -> None:
    style = look(index)
    xs, ys = [x for x, _, _ in line], [y for _, y, _ in line]
    plot.plot(xs, ys, label=short(name), **style)
    hollow = [(x, y) for x, y, least in line if least]
    if hollow:
        plot.plot(*zip(*hollow, strict=True), linestyle="none", marker=style["marker"], markerfacecolor="white",
                  markeredgecolor=style["color"], markeredgewidth=0.9, zorder=3)  # fmt: skip


def _scales(plot: Any, points: Sequence[int], log: str, least: float, most: float) -> None:
    """Ticks stand at the numbers that were counted; a straight axis of costs begins at zero."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if "x" in log:
        plot.set_xscale("log")
    if "y" in log:
        plot.set_yscale("log" if least > 0 else "symlog")
        if least > 0 and most / least < 1000:  # few decades: more than their ends have a number
            plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plot.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
        plot.yaxis.set_minor_formatter(NullFormatter())
    else:
        plot.set_ylim(bottom=0)
    plot.set_xticks(points, [f"{x:,}" for x in points], rotation=45 if len(points) > 6 else 0)
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.xaxis.grid(False)
