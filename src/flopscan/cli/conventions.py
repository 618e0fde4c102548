"""``flopscan conventions``: the ways to count, with their units and sources."""

from __future__ import annotations

import shutil
import textwrap

import click

from flopscan.cli import presenting, settings


@click.command(
    "conventions",
    short_help="List the ways to count.",
    epilog="\b\nExample:\n  flopscan count vmamba_tiny --convention vmamba\n",
)
@settings.debug
def command() -> None:
    """List the conventions: what each counts, in which unit, and where it comes from."""
    from flopscan import conventions

    width = min(120, shutil.get_terminal_size().columns)
    blocks = []
    for name in conventions.names():
        one = conventions.get(name)
        lines = [f"{name}  ({one.unit})"]
        used, source = (
            f"{what}: {text}" if text else "" for what, text in (("used by", one.used_by), ("source", one.source))
        )
        for text in (one.summary, used, source):
            lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
        blocks.append("\n".join(lines))
    presenting.show("\n\n".join(blocks))
