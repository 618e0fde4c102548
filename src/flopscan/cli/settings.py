"""Settings that every command shares, and the options that set them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click


@dataclass
class Settings:
    """What `main` must know about the command that ran."""

    debug: bool = False


def _debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and context.obj is not None:
        context.obj.debug = True


debug = click.option(
    "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_debug, help="Show the traceback of an error."
)


def several(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator that adds ``options`` in the order in which --help lists them."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
