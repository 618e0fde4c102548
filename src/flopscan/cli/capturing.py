"""Options and steps of the commands that capture a model: what is counted, on which inputs, in which way."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from flopscan.cli import completing
from flopscan.cli.progress import progress
from flopscan.cli.settings import several

if TYPE_CHECKING:
    from flopscan.core.trace import Trace

TARGET_HELP = """
\b
TARGET is one of
  vmamba_tiny               a model that comes with flopscan (flopscan targets lists them)
  timm:NAME                 a model of timm
  torchvision:NAME          a model of torchvision
  hf:NAME                   a transformers model type, a folder with config.json, a hub id
  package.module:factory    what a function or class of an importable module makes
  path/to/file.py:factory   what a function or class of a file makes
"""

how = several(
    click.option(
        "--input", "-i", "inputs", multiple=True, metavar="[NAME=]SIZES[:DTYPE]",
        help="An input by its shape: 1x3x224x224, ids=1x2048:int64, t=scalar. Repeat for more. [default: the target's]",
    ),
    click.option(
        "--arg", "-a", "arguments", multiple=True, metavar="KEY=VALUE",
        help="An argument of the factory or field of the configuration: num_classes=10. Repeat for more.",
    ),
    click.option("--backward", is_flag=True, help="Count the gradient of the outputs as well."),
    click.option("--train", is_flag=True, help="Count in training mode. [default: eval mode]"),
    click.option("--run", is_flag=True, help="Really run the model, with random weights, where it depends on values."),
)  # fmt: skip
options = several(click.argument("target", shell_complete=completing.targets), how)


def capture(
    target: str,
    inputs: tuple[str, ...],
    arguments: tuple[str, ...],
    backward: bool,
    train: bool,
    run: bool,
    lines: bool,
) -> Trace:
    """The trace of a target as the options describe it; what the model prints goes to stderr."""
    from flopscan.capture import arguments as parse  # parses without torch, before torch is loaded

    args, kwargs = parse.inputs(inputs)
    given = parse.options(arguments)
    with progress("loading torch"):
        import torch  # noqa: F401  (api loads it later, when the count begins)

        from flopscan import api
    flags = {"--backward": backward, "--train": train, "--run": run}
    origin = {"again": again(target, inputs, arguments, flags)}
    with progress(f"counting {target}"), redirect_stdout(sys.stderr):
        return api.trace_of(
            target, *args, backward=backward, training=train, lines=lines, run=run, options=given, inputs=kwargs,
            origin=origin,
        )  # fmt: skip


def again(target: str, inputs: tuple[str, ...], arguments: tuple[str, ...], flags: Mapping[str, Any]) -> str:
    """The command that gives the same count; the convention is added by the report, which may have another."""
    words = ["flopscan", "count", target]
    for name, values in (("--input", inputs), ("--arg", arguments)):
        for value in values:
            words += [name, value]
    return shlex.join(words + [flag for flag, wanted in flags.items() if wanted])
