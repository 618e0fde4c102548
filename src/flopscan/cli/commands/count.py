"""``flopscan count``: from a model to a report."""

from __future__ import annotations

from typing import Any

import click

from flopscan.cli import capturing, presenting, settings

_EXAMPLES = """
\b
Examples:
  flopscan count vmamba_tiny
  flopscan count vmamba_tiny --convention vmamba --depth 3
  flopscan count vmamba_tiny --device h100-sxm --dtype bf16
  flopscan count timm:resnet50 --input 8x3x224x224:float16 --backward
  flopscan count hf:llama --arg num_hidden_layers=2 --input input_ids=1x2048:int64
  flopscan count models.py:Net --arg width=64 --input 1x3x32x32 --format json
"""


@click.command(
    "count",
    short_help="Count what a model costs and print the report.",
    epilog=_EXAMPLES,
    help=f"Count what a model costs, and print the report.\n{capturing.TARGET_HELP}",
)
@capturing.options
@presenting.options
@settings.debug
def command(
    target: str, inputs: Any, arguments: Any, backward: bool, train: bool, run: bool, **presentation: Any
) -> None:
    """Capture, price, present."""
    from flopscan import analysis

    presenting.check(*(presentation[name] for name in ("convention", "outputs", "device", "dtype")))
    lines = presentation["by"] == "line"
    trace = capturing.capture(target, inputs, arguments, backward, train, run, lines)
    presenting.present(analysis.price(trace), **presentation)
