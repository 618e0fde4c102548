"""``flopscan measure-device``: what the machine at hand reaches, as a table and a device file."""

from __future__ import annotations

import click

from flopscan.cli import presenting, settings
from flopscan.cli.progress import note, progress
from flopscan.errors import UsageError

_EXAMPLES = """
\b
Examples:
  flopscan measure-device
  flopscan measure-device --on cuda --dtype fp32 --dtype bf16 --seconds 20 -o here.json
  flopscan count vmamba_tiny --device here.json
"""
_DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16")


@click.command("measure-device", short_help="Measure this machine for a roofline.", epilog=_EXAMPLES + settings.EXITS)
@click.option(
    "--on", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to measure. [default: cuda if seen]"
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(_DTYPES),
    multiple=True,
    help="What to measure. Repeat for more. [default: fp32 and bf16]",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True, max=3600), default=10.0, metavar="SECONDS",
    help="What all of it may take, about. [default: 10]",
)  # fmt: skip
@click.option("--name", default="this-machine", help="The device's name in the file. [default: this-machine]")
@click.option("--output", "-o", type=click.Path(), metavar="PATH", help="The device file: .json or .json.gz.")
@settings.shared
def command(on: str, dtypes: tuple[str, ...], seconds: float, name: str, output: str | None) -> None:
    """Measure copies, products, elementwise arithmetic and exponentials through torch, and print medians.

    With -o the result is a file that --device takes. It says what torch reached, which is less than the hardware can.
    """
    from flopscan.devices import text
    from flopscan.report import formats

    if output is not None:
        formats.check(output, (".json", ".json.gz"))
    if not name.strip():
        raise UsageError("a device needs a name; give one with --name")
    with progress("loading torch"):
        import torch

        from flopscan.cli import measuring
    others = measuring.busy()
    if others:
        click.echo(f"flopscan: warning: {others}, so that the rates are too low; measure when they rest", err=True)
    on = on if on != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with progress(f"measuring for about {seconds:g} s"):
        measured = measuring.measure(on, dtypes or ("fp32", "bf16"), seconds)
    rows = [
        (m.name, m.dtype, text.rate(m.rate, m.unit), f"{text.rate(m.low, '')} to {text.rate(m.high, '')}", m.size)
        for m in measured
    ]
    table = text.columns(("measured", "dtype", "median", "quartiles", "at"), rows)
    presenting.show("\n".join([measuring.title(on), "", *table]))
    if output is None:
        note("not saved; -o here.json keeps it for --device here.json")
        return
    measuring.device(measured, on, name, remark=others).save(output)
    note(f"wrote {output}")
