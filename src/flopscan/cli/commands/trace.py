"""``flopscan trace``: capture a model and save what was seen, without prices."""

from __future__ import annotations

from typing import Any

import click

from flopscan.cli import capturing, settings
from flopscan.cli.progress import note

_EXAMPLES = """
\b
Examples:
  flopscan trace vmamba_tiny -o tiny.trace.json
  flopscan price tiny.trace.json -o tiny.ledger.json
  flopscan report tiny.ledger.json --by operator
"""


@click.command(
    "trace",
    short_help="Capture a model into a file.",
    epilog=_EXAMPLES + settings.EXITS,
    help=f"Capture a model into a file, to be priced anywhere.\n{capturing.TARGET_HELP}",
)
@capturing.options
@click.option("--lines", is_flag=True, help="Record source lines, for a report by line.")
@click.option("--output", "-o", required=True, type=click.Path(), metavar="PATH", help="The trace: .json or .json.gz.")
@settings.shared
def command(
    target: str, inputs: Any, arguments: Any, backward: bool, train: bool, run: bool, lines: bool, output: str
) -> None:
    """Capture and save."""
    from flopscan.report import formats

    formats.check(output, (".json", ".json.gz"))
    trace = capturing.capture(target, inputs, arguments, backward, train, run, lines)
    trace.save(output)
    made = sum(record.count for record in trace.records if not record.envelope)
    distinct = len({record.call for record in trace.records if not record.envelope})
    note(f"wrote {output}: {made:,} calls, {distinct:,} distinct")
