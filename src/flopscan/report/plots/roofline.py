"""A roofline: what a device can do at most, and where the operators of a model stand under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopscan.core.document import expect
from flopscan.errors import UsageError
from flopscan.report.plots.style import COLORS, COLUMN, MARKERS, Plot, axes, short, styled

SCHEMA = "flopscan.roofline"
_NAMED = 5
_BOUNDS = ("memory", "matrix", "vector", "special")


@dataclass(frozen=True, slots=True)
class _Point:
    """An operator: its work, its bytes, and the least time that they take."""

    name: str
    flops: int
    bytes: int
    seconds: float
    bound_by: str

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes

    @property
    def rate(self) -> float:
        return self.flops / self.seconds


def draw(data: Mapping[str, Any], *, width: float = COLUMN, source: str = "the roofline") -> Plot:
    """Points of operators under the ceilings of a device; the larger a mark, the more of the time bound is its own.

    ``data``: ``title`` of the device; ``rates`` a second by unit, ``memory`` in bytes, ``matrix`` and ``vector`` in
    FLOPs, None for what is not known; ``points``, each with ``name``, ``flops``, ``bytes``, ``seconds`` (at least) and
    ``bound_by``; if there are, ``arithmetic_dtype`` and ``assumptions``, which go into the caption. Raises SchemaError
    for other data, UsageError where nothing can be drawn.
    """
    with expect(source, SCHEMA):
        rates = {unit: float(rate) for unit, rate in data["rates"].items() if rate}
        points = [_Point(p["name"], int(p["flops"]), int(p["bytes"]), float(p["seconds"]), p["bound_by"])
                  for p in data["points"]]  # fmt: skip
        title = " ".join(filter(None, (str(data["title"]), str(data.get("arithmetic_dtype") or ""))))
        told = [str(sentence) for sentence in data.get("assumptions", ())]
    drawn = [point for point in points if point.flops and point.bytes and point.seconds]
    ceilings = {unit: rates[unit] for unit in ("matrix", "vector") if unit in rates}
    if not drawn or "memory" not in rates or not ceilings:
        raise UsageError(f"{source} has no points with work and bytes, or no rates of memory and arithmetic; no plot")
    with styled():
        figure, plot = axes(width, 0.8 * width)
        _ceilings(plot, rates["memory"], ceilings, [point.intensity for point in drawn])
        ridge = max(ceilings.values()) / rates["memory"]
        _points(plot, drawn, sum(point.seconds for point in points), ridge)
        plot.set_title(short(title, 60), loc="left")
        plot.set_xlabel("arithmetic intensity (FLOP/byte)")
        plot.set_ylabel("FLOP/s at most")
        plot.legend(loc="lower right", title="bound by", title_fontsize=7, handletextpad=0.3)
    left = [point.name for point in points if point not in drawn]
    caption = ["Times are lower bounds, not predictions; a mark's area is its share of the whole bound."]
    caption += [f"Without work or bytes, and not drawn: {', '.join(left)}."] if left else []
    return Plot(figure, (*caption, *told))


def _ceilings(plot: Any, memory: float, ceilings: Mapping[str, float], intensities: Sequence[float]) -> None:
    """The slope of the memory up to the highest ceiling, and every ceiling from there on."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

    top = max(ceilings.values())
    low = min(intensities) / 3
    high = max(10 * top / memory, 3 * max(intensities))
    plot.plot([low, top / memory], [low * memory, top], color="#444444", linewidth=1)
    for unit, rate in ceilings.items():
        plot.plot(
            [rate / memory, high], [rate, rate], color="#444444", linewidth=1, linestyle="-" if rate == top else "--"
        )
        plot.annotate(f"{unit} units", (high, rate), (0, 4), textcoords="offset points", ha="right", fontsize=6.5)
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_xlim(low, high)
    plot.set_ylim(top=3 * top)
    plot.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    plot.yaxis.set_major_formatter(EngFormatter(sep=" "))
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_minor_formatter(NullFormatter())


def _points(plot: Any, points: Sequence[_Point], whole: float, ridge: float) -> None:
    """Marks by what binds an operator, and the names of those that take longest, on both sides of the slope in turn."""
    kinds = {point.bound_by for point in points}
    for kind in (*filter(kinds.__contains__, _BOUNDS), *sorted(kinds - {*_BOUNDS})):
        chosen = [point for point in points if point.bound_by == kind]
        at = _BOUNDS.index(kind) if kind in _BOUNDS else len(_BOUNDS)
        look = {"color": COLORS[at], "marker": MARKERS[at], "edgecolor": "white", "linewidth": 0.4}
        sizes = [12 + 90 * point.seconds / whole for point in chosen]
        plot.scatter([p.intensity for p in chosen], [p.rate for p in chosen], sizes, zorder=3, **look)
        plot.scatter([], [], 22, label=kind, **look)  # the legend's mark says nothing about a share
    longest = sorted(sorted(points, key=lambda point: -point.seconds)[:_NAMED], key=lambda point: point.intensity)
    for i, point in enumerate(longest):
        where: dict[str, Any] = {"xytext": (5, -9), "ha": "left"} if i % 2 == 0 else {"xytext": (-5, 2), "ha": "right"}
        if point.intensity > ridge:  # below the flat part there is room, and to its left the slope
            where = {"xytext": (0, -11), "ha": "center"}
        plot.annotate(
            short(point.name.rpartition("::")[2]), (point.intensity, point.rate), textcoords="offset points",
            fontsize=6.5, **where,
        )  # fmt: skip
