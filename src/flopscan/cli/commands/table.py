"""``flopscan table``: models side by side, as every paper has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from flopscan.cli import capturing, comparing, presenting, settings, several
from flopscan.errors import IncompleteError, UsageError

if TYPE_CHECKING:
    from flopscan.report.columns import Column
    from flopscan.report.models import Models

FORMS = ("text", "markdown", "csv", "latex", "json")
_EXAMPLES = """
\b
Examples:
  flopscan table vmamba_tiny vmamba_small vmamba_base
  flopscan table VMamba-T=vmamba_tiny Swin-T=timm:swin_tiny_patch4_window7_224 --format latex
  flopscan table hf:gpt2 hf:mamba --input 1x{l}:int64 --over l=512,1024,2048 --columns flops,scan-share
  flopscan table before.json after.json --columns params,macs,vmamba -o table.md
  flopscan table vmamba_tiny timm:resnet50 --columns params,flops,throughput --batch 8

\b
Columns: input, params, macs, flops, executed, exp, bytes, scan (FLOPs), scan-share, throughput, any convention by its
name, and scan:NAME or scan-share:NAME under one. Throughput is measured on this machine, and only when asked for.
A model that fails is a row with a reason. Exit codes: 0 fine, 1 a number is missing, 2 wrong usage, 3 incomplete
under --strict.
"""


@click.command(
    "table", short_help="Put models side by side, as a paper does.", epilog=_EXAMPLES,
    help=f"Count several models and print the table that compares them.\n{several.TARGETS_HELP}",
)  # fmt: skip
@click.argument("targets", nargs=-1, required=True, metavar="[NAME=]TARGET...")
@capturing.how
@several.over
@click.option(
    "--columns", default="params,macs,flops", metavar="NAMES", help="The columns. [default: params,macs,flops]"
)
@click.option("--sort", metavar="COLUMN", help="Order by a column, the least first; with a - before, the most first.")
@click.option("--bold-best", is_flag=True, help="Mark the best number of every column.")
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="N", help="With throughput, the first axis of every input."
)
@click.option("--on", "device", default="cpu", metavar="DEVICE", help="With throughput, torch's device. [default: cpu]")
@click.option("--passes", type=click.IntRange(min=1), default=5, metavar="N", help="With throughput. [default: 5]")
@click.option("--strict", is_flag=True, help="Exit with 3 if an operator of a model was not counted.")
@click.option(
    "--output", "-o", "outputs", multiple=True, type=click.Path(), metavar="PATH",
    help="Save the table as well: .md, .csv, .tex, .txt or .json. Repeat for more.",
)  # fmt: skip
@presenting.form(*FORMS)
@presenting.width
@presenting.color
@settings.debug
@click.pass_context
def command(
    context: click.Context, targets: tuple[str, ...], inputs: tuple[str, ...], arguments: tuple[str, ...],
    backward: bool, train: bool, run: bool, over: str | None, columns: str, sort: str | None, bold_best: bool,
    batch: int | None, device: str, passes: int, strict: bool, outputs: tuple[str, ...], form: str, width: int | None,
    color: str,
) -> int:  # fmt: skip
    """Check, count one after the other, print, save."""
    from flopscan.report import formats
    from flopscan.report.models import Models

    chosen = _columns(columns)
    if sort is not None and sort.removeprefix("-") not in [column.name for column in chosen]:
        raise UsageError(f"--sort {sort!r} is no column of this table; expected {columns}, perhaps with a - before")
    for path in outputs:
        formats.check(path)
        if formats.of(path).name not in FORMS:
            raise UsageError(f"a table of models cannot be saved as {path!r}; expected .md, .csv, .tex, .txt or .json")
    asked, varied = several.asked(targets, inputs, arguments, over)
    measuring = comparing.measuring(batch, device, passes) if any(column.of is None for column in chosen) else None
    rows = [comparing.model(one, measuring, backward=backward, train=train, run=run) for one in asked]
    typed = several.again(context, "outputs", "form", "width", "color")
    made = Models(tuple(rows), chosen, varied, bold_best, typed)
    if sort is not None:
        made = made.ordered(sort.removeprefix("-"), descending=sort.startswith("-"))
    presenting.show(_written(made, form, width, presenting.coloured(color)))
    for path in outputs:
        _save(made, path, width)
    if strict and made.uncounted:
        raise IncompleteError(f"not everything was counted: {'; '.join(made.uncounted)}")
    return int(any(made.reasons))


def _columns(names: str) -> tuple[Column, ...]:
    from flopscan.report import columns

    return tuple(columns.find(name.strip()) for name in dict.fromkeys(names.split(",")))


def _written(made: Models, form: str, width: int | None, color: bool) -> str:
    from flopscan.report import formats, sheet_text

    if form == "json":
        return json.dumps(made.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    chosen = formats.get(form)
    if form == "text":
        return sheet_text.render(made.sheet(), width=width, color=color)
    assert chosen.sheet is not None
    return chosen.sheet(made.data() if chosen.data else made.sheet())


def _save(made: Models, path: str, width: int | None) -> None:
    from flopscan.core.document import write_text
    from flopscan.report import formats

    write_text(path, _written(made, formats.of(path).name, width or 120, color=False) + "\n")
