"""``flopscan targets``: what can be counted by name."""

from __future__ import annotations

import click

from flopscan.cli import presenting, settings
from flopscan.cli.progress import progress

_EXAMPLES = """
\b
Examples:
  flopscan targets
  flopscan count vmamba_small
  flopscan count timm:resnet50
"""


@click.command("targets", short_help="List what can be counted by name.", epilog=_EXAMPLES + settings.EXITS)
@settings.debug
def command() -> None:
    """List the models that come with flopscan, and the forms of all other targets."""
    with progress("loading torch"):
        from flopscan.capture import targets

    lines = [*targets.names(), "", "and any of these forms:"]
    wide = max(len(form) for form, _ in targets.FORMS)
    lines += [f"  {form:<{wide}}  {meaning}" for form, meaning in targets.FORMS]
    presenting.show("\n".join(lines))
