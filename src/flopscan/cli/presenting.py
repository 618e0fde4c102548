"""Options and steps of the commands that show a report."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from flopscan.cli import completing
from flopscan.cli.settings import several
from flopscan.devices.device import DTYPES
from flopscan.errors import UsageError
from flopscan.report import formats
from flopscan.report.choices import NARROWEST, SORTS, VIEWS

if TYPE_CHECKING:
    from flopscan.core.ledger import Ledger

_ASCII = str.maketrans("█▉▊▋▌▍▎▏…≥│├└", "####----~>||`")

CHECKED = ("convention", "outputs", "device", "dtype", "sort", "by")

depth = click.option(
    "--depth",
    type=click.IntRange(min=0),
    metavar="N",
    help="Levels of the module tree. [default: what matters, on a screen]",
)


class Percentage(click.ParamType):
    """A number from 0 to 100, with or without a percent sign."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails with a sentence for what is none, or none of a share."""
        try:
            found = float(str(value).strip().removesuffix("%"))
        except ValueError:
            found = -1.0
        if not 0 <= found <= 100:
            self.fail(f"{value!r} is not a share from 0 to 100 percent", param, ctx)
        return found


def form(*names: str) -> Any:
    """The option of what to print: one of ``names``, the first of them by default."""
    text = f"What to print. [default: {names[0]}]"
    return click.option("--format", "form", type=click.Choice(names), default=names[0], help=text)


width = click.option(
    "--width", type=click.IntRange(min=NARROWEST), metavar="N",
    help=f"Columns of the text, {NARROWEST} or more. [default: the terminal's]",
)  # fmt: skip
color = click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto",
    help="Colour; auto is on a terminal, unless NO_COLOR is set. [default: auto]",
)  # fmt: skip
options = several(
    click.option(
        "--convention", "-c", default="flops", metavar="NAME", shell_complete=completing.conventions,
        help="How to count; see flopscan conventions. [default: flops]",
    ),
    click.option("--by", type=click.Choice(VIEWS), default="module", help="What the table lists. [default: module]"),
    depth,
    click.option(
        "--min-share", type=Percentage(), default=0.0, metavar="PERCENT",
        help="Hide what is less of the total than that, and say how much was hidden. [default: 0]",
    ),
    click.option(
        "--sort", type=click.Choice(SORTS),
        help="Sort siblings in the tree and rows of tables, the largest first."
        " [default: the model's order; tables by value]",
    ),
    click.option("--strict", is_flag=True, help="Exit with 3 if an operator was not counted."),
    click.option(
        "--output", "-o", "outputs", multiple=True, type=click.Path(), metavar="PATH",
        help="Save the report as well; the suffix names the format, as in .html, .json, .txt. Repeat for more.",
    ),
    click.option(
        "--device", metavar="NAME", shell_complete=completing.devices,
        help="Bound the time on a device as well: a name of flopscan devices, or a file of flopscan measure-device.",
    ),
    click.option(
        "--dtype", type=click.Choice(DTYPES),
        help="With --device, as if each floating tensor had it. [default: its own]",
    ),
    form(*formats.names()),
    width,
    color,
)  # fmt: skip


def check(
    convention: str, outputs: tuple[str, ...], device: str | None, dtype: str | None, sort: str | None, by: str
) -> None:
    """Refuse an unknown convention or device, or a path that a report cannot be saved to, before any work."""
    from flopscan import conventions, devices
    from flopscan.report import selection

    conventions.get(convention)
    selection.check(sort, by)
    if device is not None:
        devices.get(device)
    elif dtype is not None:
        raise UsageError(f"--dtype {dtype} is of a device; give one with --device, as flopscan devices lists them")
    for path in outputs:
        formats.check(path)


def present(
    ledger: Ledger,
    *,
    convention: str,
    by: str,
    depth: int | None,
    strict: bool,
    outputs: tuple[str, ...],
    form: str,
    width: int | None,
    color: str,
    device: str | None,
    dtype: str | None,
    min_share: float,
    sort: str | None,
) -> None:
    """Print the report and save it. Under ``strict`` raises IncompleteError at the end, when all is written."""
    from flopscan import api
    from flopscan.report import report
    from flopscan.report.format import Shown

    made = report.make(ledger, convention)
    roofline = None if device is None else made.on(device, dtype)
    shown = Shown(width, depth, by, coloured(color), roofline, min_share, sort)
    show(formats.get(form).render(made, shown))
    for path in outputs:
        formats.save(made, path, shown)
    if strict:
        api.require_complete(made)


def coloured(wish: str) -> bool:
    """Whether stdout gets colour, as --color wishes."""
    if wish != "auto":
        return wish == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(text: str) -> None:
    """Write ``text`` to stdout in letters that its encoding has; a reader that went away is no failure."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()


def _silence() -> None:
    """Point stdout nowhere, so that Python does not fail again when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
