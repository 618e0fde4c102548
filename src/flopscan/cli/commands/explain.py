"""``flopscan explain``: why two conventions give two numbers for one model."""

from __future__ import annotations

import json
from typing import Any

import click

from flopscan.cli import capturing, completing, presenting, settings
from flopscan.errors import UsageError
from flopscan.report.choices import SAVED

_EXAMPLES = """
\b
Examples:
  flopscan explain vmamba_tiny --between vmamba,dispatcher
  flopscan explain hf:gpt2 --between fvcore,flops --format json
  flopscan explain llama.trace.json --between torch,6nd
  flopscan explain timm:resnet50 --between ptflops,ptflops~all   # its known mistakes alone

\b
The steps sum exactly: the first total, plus every step, is the second total.
"""


@click.command(
    "explain", short_help="Say in named steps why two conventions differ.", epilog=_EXAMPLES + settings.EXITS,
    help="Count a model once, or take a saved trace or ledger (.json or .json.gz), and lead from one convention's"
    " total to another's in named steps.\n"
    f"{capturing.TARGET_HELP}",
)  # fmt: skip
@capturing.options
@click.option(
    "--between",
    required=True,
    metavar="A,B",
    shell_complete=completing.conventions,
    help="Two conventions; see flopscan conventions.",
)
@presenting.form("text", "json")
@presenting.width
@presenting.color
@settings.shared
def command(
    target: str, inputs: Any, arguments: Any, backward: bool, train: bool, run: bool, between: str, form: str,
    width: int | None, color: str,
) -> None:  # fmt: skip
    """Capture, price, explain."""
    from flopscan import analysis, conventions
    from flopscan.core.ledger import Ledger
    from flopscan.report import explain_text, saved
    from flopscan.report.explain import explain

    names = [name.strip() for name in between.split(",")]
    if len(names) != 2:
        raise UsageError(f"--between takes two conventions, as in --between fvcore,flops; got {between!r}")
    for name in names:
        conventions.get(name)
    ledger = saved.load(target) if target.endswith(SAVED) else None
    if ledger is None:
        ledger = analysis.price(capturing.capture(target, inputs, arguments, backward, train, run, False))
    if not isinstance(ledger, Ledger):
        raise UsageError(f"{target} is a report, which has sums alone; expected a saved trace or ledger")
    found = explain(ledger, *names)
    if form == "json":
        presenting.show(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        presenting.show(explain_text.render(found, width=width, color=presenting.coloured(color)))
