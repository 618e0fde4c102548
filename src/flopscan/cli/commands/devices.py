"""``flopscan devices``: the devices that a roofline can be drawn for, and where their figures come from."""

from __future__ import annotations

import json
import shutil

import click

from flopscan.cli import completing, presenting, settings

_EXAMPLES = """
\b
Examples:
  flopscan devices
  flopscan devices h100-sxm
  flopscan devices --format json
  flopscan count vmamba_tiny --device h100-sxm --dtype bf16
"""


@click.command("devices", short_help="List devices and their peak rates.", epilog=_EXAMPLES + settings.EXITS)
@click.argument("name", required=False, metavar="[NAME]", shell_complete=completing.devices)
@presenting.form("text", "json")
@presenting.width
@settings.shared
def command(name: str | None, form: str, width: int | None) -> None:
    """List the devices with their peak rates; with a NAME (or a device file) each figure of one, and its source."""
    from flopscan import devices
    from flopscan.devices import text

    chosen = list(devices.all_known().values()) if name is None else [devices.get(name)]
    if form == "json":
        data = [device.to_dict() for device in chosen]
        presenting.show(json.dumps(data if name is None else data[0], indent=2, ensure_ascii=False))
        return
    width = width or shutil.get_terminal_size().columns
    presenting.show(text.listed(chosen, width) if name is None else text.described(chosen[0], width))
