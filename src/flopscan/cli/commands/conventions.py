"""``flopscan conventions``: the ways to count, with their units and sources."""

from __future__ import annotations

import shutil
import textwrap

import click

from flopscan.cli import presenting, settings
from flopscan.core.convention import Convention

_EXAMPLES = """
\b
Examples:
  flopscan conventions
  flopscan conventions ptflops
  flopscan count vmamba_tiny --convention ptflops~twice
"""


@click.command(
    "conventions",
    short_help="List the ways to count.",
    epilog=_EXAMPLES + settings.EXITS,
)
@click.argument("name", required=False)
@settings.debug
def command(name: str | None) -> None:
    """List the conventions: what each counts, in which unit, and where it comes from. Of one, its mistakes as well."""
    from flopscan import conventions

    width = min(120, shutil.get_terminal_size().columns)
    if name is not None:
        presenting.show("\n".join([*_block(conventions.get(name), width), *_more(conventions.get(name), width)]))
        return
    blocks = ("\n".join(_block(conventions.get(one), width)) for one in conventions.names())
    presenting.show("\n\n".join(blocks))


def _block(one: Convention, width: int) -> list[str]:
    """Name, unit, what it counts, and where it is from."""
    lines = [f"{one.name}  ({one.unit})"]
    told = [one.summary] + [
        f"{what}: {text}" for what, text in (("used by", one.used_by), ("source", one.source)) if text
    ]
    for text in told:
        lines += _wrapped(text, width)
    return lines


def _more(one: Convention, width: int) -> list[str]:
    """The version that it is of, what it sees, and the mistakes of a counter, with the name that leaves each out."""
    seen = "a training step" if one.whole else "forward alone" if one.phases == ("forward",) else "forward and backward"
    lines = _wrapped(f"version: {one.version}" if one.version else "", width) + _wrapped(f"sees: {seen}", width)
    if one.mended:
        lines += _wrapped(f"without the mistakes: {', '.join(one.mended)}", width)
    if one.bugs:
        every = "~".join((one.name, "all"))
        lines += ["", f"known mistakes, which it reproduces; {every} is it without them"]
    for bug in one.bugs:
        lines += [f"  {one.name}~{bug.key}", *_wrapped(f"  {bug.name} ({bug.source})", width)]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
