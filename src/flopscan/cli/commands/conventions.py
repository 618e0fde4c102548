"""``flopscan conventions``: the ways to count, with their units and sources."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import click

from flopscan.cli import completing, presenting, settings

if TYPE_CHECKING:
    from flopscan.core.convention import Convention

_EXAMPLES = """
\b
Examples:
  flopscan conventions
  flopscan conventions ptflops
  flopscan conventions fvcore --format json
  flopscan count vmamba_tiny --convention ptflops~twice
"""


@click.command(
    "conventions",
    short_help="List the ways to count.",
    epilog=_EXAMPLES + settings.EXITS,
)
@click.argument("name", required=False, metavar="[NAME]", shell_complete=completing.conventions)
@presenting.form("text", "json")
@presenting.width
@settings.shared
def command(name: str | None, form: str, width: int | None) -> None:
    """List the conventions: what each counts, in which unit, and where it comes from. Of one, its mistakes as well."""
    from flopscan import conventions

    chosen = [conventions.get(one) for one in conventions.names()] if name is None else [conventions.get(name)]
    if form == "json":
        data = [_data(one) for one in chosen]
        presenting.show(json.dumps(data if name is None else data[0], indent=2, ensure_ascii=False))
        return
    width = width or min(120, shutil.get_terminal_size().columns)
    if name is not None:
        presenting.show("\n".join([*_block(chosen[0], width), *_more(chosen[0], width)]))
        return
    presenting.show("\n\n".join("\n".join(_block(one, width)) for one in chosen))


def _data(one: Convention) -> dict[str, Any]:
    """A convention as JSON-ready data."""
    return {
        "name": one.name, "unit": one.unit, "summary": one.summary, "used_by": one.used_by, "source": one.source,
        "version": one.version, "phases": list(one.phases), "whole": one.whole is not None,
        "mistakes": [{"key": bug.key, "name": bug.name, "source": bug.source} for bug in one.bugs],
    }  # fmt: skip


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
