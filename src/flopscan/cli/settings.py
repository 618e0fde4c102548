"""Settings that every command shares, and the options that set them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

EXITS = "\n\b\nExit codes: 0 fine, 1 failed, 2 wrong usage.\n"
STRICT_EXITS = "\n\b\nExit codes: 0 fine, 1 failed, 2 wrong usage, 3 incomplete under --strict.\n"


@dataclass
class Settings:
    """What `main` must know about the command that ran."""

    debug: bool = False
    quiet: bool = False


def _debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and context.obj is not None:
        context.obj.debug = True


debug = click.option(
    "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_debug, help="Show the traceback of an error."
)


def _quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and context.find_root().obj is not None:
        context.find_root().obj.quiet = True


quiet = click.option(
    "--quiet", "-q", is_flag=True, is_eager=True, expose_value=False, callback=_quiet,
    help="No progress and no notes on stderr; warnings and errors stay.",
)  # fmt: skip


def several(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator that adds ``options`` in the order in which --help lists them."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


shared = several(quiet, debug)
