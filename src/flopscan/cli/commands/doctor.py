"""``flopscan doctor``: what flopscan finds on this machine, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from flopscan.cli import completing, presenting, settings
from flopscan.cli.progress import progress

_SIGNS = {"fine": "ok  ", "note": "note", "problem": "BAD "}

_EXAMPLES = """
\b
Examples:
  flopscan doctor
  flopscan doctor path/to/model.py:make

\b
Exit codes: 0 fine, 1 a problem was found, 2 wrong usage.
"""


@click.command(
    "doctor", short_help="Look over this machine: versions, seams, stand-ins.",
    epilog=_EXAMPLES,
)  # fmt: skip
@click.argument("target", required=False, shell_complete=completing.targets)
@presenting.form("text", "json")
@settings.shared
def command(target: str | None, form: str) -> int:
    """Say which packages are there, which of their kernels a count sees, which escape it, and what to do.

    With a TARGET its code is imported first, and looked at too.
    """
    with progress("looking"):
        from flopscan import rules
        from flopscan.capture import doctor

        if target:
            from flopscan.capture import targets
            from flopscan.capture.seams import installed

            with installed(rules.seams()):
                targets.build(target, {}, with_weights=False)
        findings = doctor.examine(rules.seams())
    if form == "json":
        presenting.show(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        wide = max(len(f.subject) for f in findings if len(f.subject) < 40)
        lines = []
        for f in findings:
            lines.append(f"{_SIGNS[f.kind]} {f.subject:<{wide}}  {f.found}")
            if f.advice:
                lines.append(f"     {'':<{wide}}  -> {f.advice}")
        presenting.show("\n".join(lines))
    return int(any(f.kind == doctor.PROBLEM for f in findings))
