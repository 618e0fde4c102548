"""``flopscan plot``: figures for papers. Needs matplotlib."""

from __future__ import annotations

from typing import Any

import click

from flopscan.cli import capturing, comparing, completing, presenting, settings, several
from flopscan.cli.progress import each, note
from flopscan.errors import UsageError

_COST = """
  flopscan plot cost vmamba_tiny timm:deit_small_patch16_224 --input 1x3x{r}x{r} --over r=224,288,384 -o cost.pdf
  flopscan plot cost hf:gpt2 hf:mamba --input 1x{l}:int64 --over l=256,1024,4096 --xlabel tokens -o cost.svg"""
_SCAN = """
  flopscan plot scan vmamba_tiny -o scan.pdf
  flopscan plot scan vmamba_tiny hf:mamba --input 1x1024:int64@hf:mamba -o scan.svg"""
_ROOFLINE = """
  flopscan count vmamba_tiny --device h100-sxm -o report.json
  flopscan plot roofline report.json -o roofline.png"""


def _examples(*texts: str) -> str:
    return f"\n\b\nExamples:{''.join(texts)}\n{settings.EXITS}"


_output = click.option(
    "--output", "-o", "outputs", multiple=True, required=True, type=click.Path(), metavar="PATH",
    help="The figure: .svg, .pdf or .png. Repeat for more.",
)  # fmt: skip
_width = click.option(
    "--width", type=float, default=3.4, metavar="INCHES",
    help="How wide the figure is. [default: 3.4, a column of a paper]",
)  # fmt: skip
_models = settings.several(
    click.argument("targets", nargs=-1, required=True, metavar="[NAME=]TARGET...", shell_complete=completing.targets),
    capturing.how,
)


@click.group(
    "plot", short_help="Draw cost, scan or roofline for a paper.", epilog=_examples(_COST, _SCAN, _ROOFLINE),
    help="Draw a figure as SVG, PDF or PNG, and print its caption: convention, inputs, versions. Needs matplotlib:"
    " pip install 'flopscan[plot]'.",
)  # fmt: skip
def command() -> None:
    """One figure a call."""


@command.command(
    "cost", short_help="Draw cost against a size.", epilog=_examples(_COST),
    help=f"Draw what several models cost against a resolution or a length.\n{several.TARGETS_HELP}",
)  # fmt: skip
@_models
@several.over
@click.option(
    "--column",
    default="flops",
    metavar="NAME",
    shell_complete=completing.columns,
    help="What to draw; see flopscan table. [default: flops]",
)
@click.option("--xlabel", default="", metavar="TEXT", help="What the numbers are. [default: their name in --over]")
@click.option(
    "--log", type=click.Choice(["auto", "none", "x", "y", "xy"]), default="auto",
    help="Logarithmic axes; auto is both for a wide range. [default: auto]",
)  # fmt: skip
@_width
@_output
@settings.shared
def cost(
    targets: tuple[str, ...], inputs: tuple[str, ...], arguments: tuple[str, ...], backward: bool, train: bool,
    run: bool, over: str | None, column: str, xlabel: str, log: str, width: float, outputs: tuple[str, ...],
) -> int:  # fmt: skip
    """Count every model at every point, and draw."""
    from flopscan.report import columns
    from flopscan.report.models import Models
    from flopscan.report.plots import cost as plots

    chosen = columns.find(column)
    if chosen.of is None or chosen.kind == "text":
        raise UsageError(f"{column} cannot be drawn against a size; expected a column that is counted, as flops")
    if over is None:
        raise UsageError("a plot of cost needs --over, as in --input 1x3x{r}x{r} --over r=224,288,384")
    _check(outputs)
    asked, varied = several.asked(targets, inputs, arguments, over)
    rows = [comparing.model(one, backward=backward, train=train, run=run) for one in each(asked)]
    made = Models(tuple(rows), (chosen,), varied)
    _finish(plots.draw(made, width=width, label=xlabel, log=log), outputs)
    return int(any(made.reasons))


@command.command(
    "scan", short_help="Draw the selective scan's share.", epilog=_examples(_SCAN),
    help=f"Draw the selective scan's share of models, as every convention counts.\n{several.TARGETS_HELP}",
)  # fmt: skip
@_models
@_width
@_output
@settings.shared
def scan(
    targets: tuple[str, ...], inputs: tuple[str, ...], arguments: tuple[str, ...], backward: bool, train: bool,
    run: bool, width: float, outputs: tuple[str, ...],
) -> None:  # fmt: skip
    """Count every model once, and draw."""
    from flopscan.report.figures import Figures
    from flopscan.report.paper import made_with
    from flopscan.report.plots import scan as plots

    _check(outputs)
    asked, _ = several.asked(targets, inputs, arguments, None)
    found = {
        one.name: Figures(one.target, several.counted(one, backward=backward, train=train, run=run))
        for one in each(asked)
    }
    told = "; ".join(f"{name} on {', '.join(figures.inputs)}" for name, figures in found.items())
    versions = " ".join(dict.fromkeys(made_with(figures.versions) for figures in found.values()))
    shares = {name: figures.scans or {} for name, figures in found.items()}
    _finish(plots.draw(shares, width=width, facts=f"Inputs: {told}. {versions}"), outputs)


@command.command("roofline", short_help="Draw a saved report's roofline.", epilog=_examples(_ROOFLINE))
@click.argument("path", metavar="REPORT", type=click.Path())
@_width
@_output
@settings.shared
def roofline(path: str, width: float, outputs: tuple[str, ...]) -> None:
    """Draw the roofline of a report that was saved as JSON with one: flopscan count TARGET --device NAME -o REPORT."""
    from flopscan.report import saved
    from flopscan.report.plots import roofline as plots

    _check(outputs)
    what: Any = saved.load(path)
    data = what.get("roofline") if isinstance(what, dict) else None
    if not data:
        raise UsageError(
            f"{path} has no roofline; save a report with one: flopscan count TARGET --device NAME -o {path}"
        )
    _finish(plots.draw(data, width=width, source=path), outputs)


def _check(outputs: tuple[str, ...]) -> None:
    """Refuse what cannot be written or drawn, before any work."""
    from flopscan.report.plots import style

    for path in outputs:
        style.check(path)
    with style.styled():
        pass


def _finish(plot: Any, outputs: tuple[str, ...]) -> None:
    for path in outputs:
        plot.save(path)
        note(f"wrote {path}")
    presenting.show("\n".join(plot.caption))
