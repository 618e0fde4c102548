"""``flopscan compare``: two models or reports, or one model in several tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from flopscan.cli import capturing, completing, presenting, settings
from flopscan.cli.progress import each, progress
from flopscan.errors import IncompleteError, UsageError
from flopscan.report.choices import SAVED

if TYPE_CHECKING:
    from flopscan.core.ledger import Ledger

_EXAMPLES = """
\b
Examples:
  flopscan compare vmamba_tiny vmamba_tiny_s2l5
  flopscan compare before.json after.json --depth 3
  flopscan compare timm:resnet50 timm:resnet50d --convention fvcore
  flopscan compare timm:resnet50 --tools fvcore,thop,ptflops
  flopscan compare vmamba_tiny --tools all --timeout 300

\b
Exit codes: 0 fine, 1 failed or a residual with --tools, 2 wrong usage, 3 incomplete under --strict.
"""


@click.command(
    "compare", short_help="Say what differs between two models, or run other tools on one.", epilog=_EXAMPLES,
    help="Say what differs between two models, or between what was saved of them (.json or .json.gz: reports, ledgers,"
    " traces). With --tools, run other counters on one model, with random weights, each in a process of its own, beside"
    f" what flopscan reproduces of them.\n{capturing.TARGET_HELP}",
)  # fmt: skip
@capturing.options
@click.argument("second", required=False, metavar="[SECOND]", shell_complete=completing.targets)
@click.option("--tools", metavar="NAMES", help="Counters to run on TARGET: fvcore,thop,... or all.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, metavar="SECONDS",
    help="With --tools, what each may take. [default: 60]",
)  # fmt: skip
@click.option(
    "--convention", "-c", metavar="NAME", shell_complete=completing.conventions,
    help="How to count both; see flopscan conventions. [default: as a saved report has it, else flops]",
)  # fmt: skip
@presenting.depth
@click.option("--strict", is_flag=True, help="Exit with 3 if an operator of either was not counted.")
@presenting.form("text", "json")
@presenting.width
@presenting.color
@settings.shared
def command(target: str, second: str | None, tools: str | None, **options: Any) -> int:
    """Two, or one in several tools."""
    if (second is None) == (tools is None):
        raise UsageError("expected a second model or saved report, or --tools: flopscan compare A B, or A --tools all")
    if tools is not None:
        return _tools(target, tools, **options)
    assert second is not None
    return _two(target, second, **options)


def _two(first: str, second: str, *, timeout: float, convention: str | None, depth: int | None, strict: bool,
         form: str, width: int | None, color: str, **how: Any) -> int:  # fmt: skip
    """Print what differs. Under ``strict`` raises IncompleteError at the end."""
    from flopscan import conventions
    from flopscan.report import compare_text, saved
    from flopscan.report.compare import compare

    if convention is not None:
        conventions.get(convention)
    saved_ones = {name: saved.load(name) for name in (first, second) if name.endswith(SAVED)}
    sources = [saved_ones.get(name) or _counted(name, **how) for name in (first, second)]
    found = compare(*saved.seen(sources, (first, second), convention), names=(first, second))
    if form == "json":
        presenting.show(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        presenting.show(compare_text.render(found, width=width, depth=depth, color=presenting.coloured(color)))
    missing = [f"{row['op']} x{row['count']} in {side.name}" for side in found.sides for row in side.uncounted]
    if strict and missing:
        raise IncompleteError(f"not everything was counted: {'; '.join(missing)}")
    return 0


def _counted(target: str, **how: Any) -> Ledger:
    from flopscan import analysis

    return analysis.price(capturing.capture(target, lines=False, **how))


def _tools(target: str, names: str, *, timeout: float, form: str, width: int | None, color: str, inputs: Any,
           arguments: Any, run: bool, **others: Any) -> int:  # fmt: skip
    """Print what the tools say; 1 where one leaves a residual."""
    from flopscan.peers import tools
    from flopscan.report import answers

    wrong = sorted(f"--{name}" for name, value in others.items() if value)
    if wrong:
        text = "a tool counts in a way of its own, forward, in eval mode"
        raise UsageError(f"{' and '.join(wrong)} cannot go with --tools: {text}")
    if target.endswith(SAVED):
        raise UsageError(f"--tools run a model, and {target} is what was saved of one; give a target")
    chosen = tools.find(names)
    with progress("loading torch"):
        from flopscan.peers import beside

    with progress(f"counting {target}"), redirect_stdout(sys.stderr):
        subject = beside.subject(target, inputs, arguments, run=run)
        subject.report()
    found = []
    for tool in each(chosen):
        with progress(f"running {tool.name}"), redirect_stdout(sys.stderr):
            found += subject.ask(tool, timeout)
    made = answers.Answers(target, _described(*subject.given), tuple(found))
    if form == "json":
        presenting.show(json.dumps(made.to_dict(), indent=2, ensure_ascii=False))
    else:
        presenting.show(answers.render(made, width=width, color=presenting.coloured(color)))
    return int(bool(made.findings))


def _described(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    from flopscan import api

    return (*map(api.describe, args), *(f"{name}={api.describe(value)}" for name, value in kwargs.items()))
