"""``flopscan targets``: what can be counted by name."""

from __future__ import annotations

import json

import click

from flopscan.cli import presenting, settings

_EXAMPLES = """
\b
Examples:
  flopscan targets
  flopscan targets --format json
  flopscan count vmamba_small
  flopscan count timm:resnet50
"""


@click.command("targets", short_help="List what can be counted by name.", epilog=_EXAMPLES + settings.EXITS)
@presenting.form("text", "json")
@settings.shared
def command(form: str) -> None:
    """List the models that come with flopscan, and the forms of all other targets."""
    from flopscan.capture.target_names import FORMS, names

    if form == "json":
        data = {"models": names(), "forms": [{"form": one, "meaning": meaning} for one, meaning in FORMS]}
        presenting.show(json.dumps(data, indent=2, ensure_ascii=False))
        return
    lines = [*names(), "", "and any of these forms:"]
    wide = max(len(one) for one, _ in FORMS)
    lines += [f"  {one:<{wide}}  {meaning}" for one, meaning in FORMS]
    presenting.show("\n".join(lines))
