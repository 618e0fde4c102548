"""``flopscan check``: count what is locked again, and say what grew."""

from __future__ import annotations

import json

import click

from flopscan import __version__
from flopscan.cli import completing, locking, presenting, settings
from flopscan.cli.progress import each

_EXAMPLES = """
\b
Examples:
  flopscan check
  flopscan check vmamba_tiny --lock budgets/flops.lock
  flopscan check --format json
  flopscan check --github --sarif flopscan.sarif

\b
Exit codes: 0 fine, 1 a target grew, is over a limit or could not be counted whole, 2 wrong usage.
What shrank is a note.
"""


@click.command("check", short_help="Compare models with their lock; 1 if one grew.", epilog=_EXAMPLES)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing.locked)
@locking.path
@click.option("--sarif", type=click.Path(), metavar="PATH", help="Write SARIF 2.1.0 for code scanning as well.")
@click.option("--github", is_flag=True, help="Annotate source lines and write the step's summary in GitHub Actions.")
@presenting.depth
@presenting.form("text", "json")
@presenting.width
@presenting.color
@settings.shared
def command(
    names: tuple[str, ...],
    path: str,
    sarif: str | None,
    github: bool,
    depth: int | None,
    form: str,
    width: int | None,
    color: str,
) -> int:
    """Count the targets of a lock again (all, or those named) and compare: exit 1 with a table of what grew."""
    from flopscan.budget import check_text, document, findings
    from flopscan.budget import github as actions
    from flopscan.budget import sarif as scanning
    from flopscan.report import formats

    if sarif is not None:
        formats.check(sarif, scanning.SUFFIXES)
    summary = actions.summary_path() if github else ""
    lock = locking.load(path)
    outcomes = [locking.outcome(lock, name) for name in each(lock.chosen(names))]
    if form == "json":
        presenting.show(json.dumps(document.to_dict(outcomes, path), indent=2, ensure_ascii=False))
    else:
        shown = check_text.render(outcomes, path, width=width, depth=depth, color=presenting.coloured(color))
        presenting.show(shown)
    found = findings.of(outcomes, path)
    if github:
        for line in actions.commands(found):
            presenting.show(line)
        actions.append(actions.summary(outcomes, path), summary)
    if sarif is not None:
        scanning.save(found, __version__, sarif)
    return int(not all(outcome.ok for outcome in outcomes))
