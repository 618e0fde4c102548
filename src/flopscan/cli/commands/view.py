"""``flopscan view``: an explorer of a count in the terminal."""

from __future__ import annotations

import sys
from typing import Any

import click

from flopscan.cli import capturing, completing, settings
from flopscan.errors import FlopscanError, UsageError
from flopscan.report.choices import SAVED

_EXAMPLES = """
\b
Examples:
  flopscan view report.json
  flopscan view vmamba_tiny
  flopscan view tiny.ledger.json.gz --convention vmamba
  flopscan view hf:gpt2 --input input_ids=1x1024:int64 --backward

\b
Keys: enter opens a module, 1-9 and + - set the depth, f m e b p the metric (FLOPs, MACs, exp/log, bytes, params),
c another convention, / searches, o operators, u what was not counted, t light or dark, ? help, q quits.
"""


@click.command(
    "view", short_help="Explore a count in the terminal.", epilog=_EXAMPLES + settings.EXITS,
    help="Open what was saved (.json or .json.gz: a report, ledger or trace), or count a model, and walk through its"
    f" modules. Needs textual: pip install 'flopscan[view]'.\n{capturing.TARGET_HELP}",
)  # fmt: skip
@capturing.options
@click.option(
    "--convention", "-c", metavar="NAME", shell_complete=completing.conventions,
    help="How to count; see flopscan conventions. [default: as a saved report has it, else flops]",
)  # fmt: skip
@settings.shared
def command(target: str, convention: str | None, **how: Any) -> None:
    """Load or count, and open."""
    from flopscan import analysis, conventions
    from flopscan.cli.explorer import subject
    from flopscan.report import saved

    if convention is not None:
        conventions.get(convention)
    explorer = _explorer()
    is_saved = target.endswith(SAVED)
    wrong = sorted(f"--{name.removesuffix('uments').removesuffix('s')}" for name, value in how.items() if value)
    if is_saved and wrong:
        raise UsageError(f"{target} was counted already; {' and '.join(wrong)} cannot change it")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("an explorer needs a terminal; flopscan count and flopscan report print the same elsewhere")
    source = saved.load(target) if is_saved else analysis.price(capturing.capture(target, lines=False, **how))
    explorer(subject.open_(target, source, convention)).run()


def _explorer() -> Any:
    """The application. Raises FlopscanError without textual."""
    try:
        from flopscan.cli.explorer.app import Explorer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise FlopscanError(
            "flopscan view needs textual, which is not installed: pip install 'flopscan[view]'"
        ) from error
    return Explorer
