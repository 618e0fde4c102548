"""A group whose commands are the files of a package: only the one that is asked for is loaded."""

from __future__ import annotations

import importlib
import pkgutil

import click

from flopscan.cli import commands


class Discovered(click.Group):
    """The group of the files in `flopscan.cli.commands`; a command is called as its file, with ``-`` for ``_``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the alphabet."""
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called ``cmd_name``; None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{commands.__name__}.{cmd_name.replace('-', '_')}")
        found = module.command
        assert isinstance(found, click.Command) and found.name == cmd_name
        return found
