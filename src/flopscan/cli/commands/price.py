"""``flopscan price``: a saved trace becomes a ledger. Needs no torch."""

from __future__ import annotations

import click

from flopscan.cli import settings
from flopscan.cli.progress import note, progress

_EXAMPLES = """
\b
Examples:
  flopscan price tiny.trace.json -o tiny.ledger.json
  flopscan price tiny.trace.json.gz -o tiny.ledger.json.gz
"""


@click.command("price", short_help="Price a saved trace; needs no torch.", epilog=_EXAMPLES + settings.EXITS)
@click.argument("path", metavar="TRACE", type=click.Path())
@click.option("--output", "-o", required=True, type=click.Path(), metavar="PATH", help="The ledger: .json or .json.gz.")
@settings.shared
def command(path: str, output: str) -> None:
    """Price every call of a saved trace; neither the model nor torch is needed."""
    from flopscan import analysis
    from flopscan.core.trace import Trace
    from flopscan.report import formats

    formats.check(output, (".json", ".json.gz"))
    with progress(f"pricing {path}"):
        ledger = analysis.price(Trace.load(path))
    ledger.save(output)
    missing = f", {len(ledger.uncounted())} operators not counted" if ledger.uncounted() else ""
    distinct = len({record.call for record in ledger.trace.records if not record.envelope})
    note(f"wrote {output}: {distinct:,} prices{missing}")
