"""``flopscan targets``: what can be counted by name."""

from __future__ import annotations

import click

from flopscan.cli import presenting, settings
from flopscan.cli.progress import progress


@click.command(
    "targets", short_help="List what can be counted by name.", epilog="\b\nExample:\n  flopscan count vmamba_small\n"
)
@settings.debug
def command() -> None:
    """List the models that come with flopscan, and the forms of all other targets."""
    with progress("loading torch", plain=False):
        from flopscan.capture import targets

    lines = [*targets.names(), "", "and any of these forms:"]
    wide = max(len(form) for form, _ in targets.FORMS)
    lines += [f"  {form:<{wide}}  {meaning}" for form, meaning in targets.FORMS]
    presenting.show("\n".join(lines))
