"""``flopscan completion``: the script that teaches a shell to complete command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from flopscan.cli import presenting, settings

SHELLS = ("bash", "zsh", "fish")
_EXAMPLES = """
\b
Examples:
  eval "$(flopscan completion bash)"                                            # in ~/.bashrc
  eval "$(flopscan completion zsh)"                                             # in ~/.zshrc
  flopscan completion fish > ~/.config/fish/completions/flopscan.fish
"""


@click.command("completion", short_help="Print a shell's completion script.", epilog=_EXAMPLES + settings.EXITS)
@click.argument("shell", type=click.Choice(SHELLS))
@settings.shared
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, targets, conventions, devices and formats in a shell."""
    found = get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, "flopscan", "_FLOPSCAN_COMPLETE")
    presenting.show((script.source_template % script.source_vars()).strip())
