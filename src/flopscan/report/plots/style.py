"""How every plot looks, and how it is saved: for the column of a paper, for all eyes, the same bytes every time."""

from __future__ import annotations

import contextlib
import io
import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flopscan.core.document import write_bytes
from flopscan.errors import FlopscanError, UsageError
from flopscan.report.sheet import clean

SUFFIXES = (".svg", ".pdf", ".png")
COLUMN = 3.4
# of Okabe and Ito, https://jfly.uni-koeln.de/color/, less yellow and black: apart for every kind of colour vision
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vP"
LINES = ("-", "--", "-.", ":")
_DOTS_PER_INCH = 200
_RC = {
    "font.family": "DejaVu Sans", "font.size": 7.5, "axes.titlesize": 7.5, "axes.labelsize": 7.5,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.size": 0,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2, "lines.markersize": 3.8,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5, "axes.axisbelow": True,
    "svg.fonttype": "path", "svg.hashsalt": "flopscan", "pdf.fonttype": 42, "text.parse_math": False,
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A figure of matplotlib and its caption, a sentence a line."""

    figure: Any
    caption: tuple[str, ...]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write SVG, PDF or PNG as the suffix says, atomically, with fonts inside and the caption as description."""
        check(path)
        kind = os.fspath(path).rpartition(".")[2]
        told = clean(" ".join(self.caption))
        about: dict[str, dict[str, Any]] = {
            "svg": {"Date": None, "Description": told},
            "pdf": {"CreationDate": None, "Subject": told},
            "png": {"Software": None, "Description": told},
        }
        out = io.BytesIO()
        with styled():
            self.figure.savefig(out, format=kind, metadata=about[kind], dpi=_DOTS_PER_INCH)
        write_bytes(path, out.getvalue())


def check(path: str | os.PathLike[str]) -> None:
    """Raise UsageError where no plot could be written."""
    from flopscan.report import formats

    formats.check(path, SUFFIXES)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Inside, matplotlib draws in our style, whatever a person has set. Raises FlopscanError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise FlopscanError("plots need matplotlib, which is not installed: pip install 'flopscan[plot]'") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure of that many inches and its axes."""
    from matplotlib.figure import Figure

    if not 1.5 <= width <= 20:
        raise UsageError(f"a plot {width:g} inches wide cannot be read or printed; expected 1.5 to 20")
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def look(index: int) -> dict[str, Any]:
    """The colour, marker and line of the ``index``-th series: told apart without colour too."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[(index // len(COLORS) + index) % len(LINES)],
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def short(name: str, width: int = 26) -> str:
    """A name in at most two lines."""
    lines = textwrap.wrap(clean(name), width, break_on_hyphens=False)
    return "\n".join(lines[:2]) + ("…" if len(lines) > 2 else "")
