"""``flopscan report``: a saved ledger becomes a report. Needs no torch."""

from __future__ import annotations

from typing import Any

import click

from flopscan.cli import presenting, settings

_EXAMPLES = """
\b
Examples:
  flopscan report tiny.ledger.json
  flopscan report tiny.ledger.json --convention macs --by operator
  flopscan report tiny.ledger.json --device a100-80gb-sxm
  flopscan report tiny.ledger.json -o tiny.json -o tiny.txt
"""


@click.command("report", short_help="Print a saved ledger's report; needs no torch.", epilog=_EXAMPLES)
@click.argument("path", metavar="LEDGER", type=click.Path())
@presenting.options
@settings.debug
def command(path: str, **presentation: Any) -> None:
    """Print the report of a saved ledger, under any convention; neither the model nor torch is needed."""
    from flopscan.core.ledger import Ledger

    presenting.check(*(presentation[name] for name in ("convention", "outputs", "device", "dtype")))
    presenting.present(Ledger.load(path), **presentation)
