"""``flopscan``: the group of commands, and how a failure is told: one sentence on stderr and an exit code."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from flopscan import __version__
from flopscan.cli.discovered import Discovered
from flopscan.cli.settings import Settings
from flopscan.errors import FlopscanError, FlopscanWarning

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
_EXAMPLES = """
\b
Examples:
  flopscan count vmamba_tiny
  flopscan count timm:resnet50 --backward --by operator
  flopscan count hf:gpt2 --input input_ids=1x1024:int64 -o gpt2.json
  flopscan count path/to/model.py:make --arg depth=12 --input 1x3x224x224

\b
Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 incomplete under --strict.
"""


@click.group(
    cls=Discovered, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="flopscan", message="%(prog)s %(version)s")
def commands() -> None:
    """Count exactly what a PyTorch model costs: FLOPs by kind, bytes, parameters; no GPU, no weights."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    settings = Settings()
    arguments = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    with warnings.catch_warnings():
        # torch says so at its import where NumPy is not installed; nothing here needs NumPy
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        shown = warnings.showwarning
        warnings.showwarning = lambda *what, **more: _warn(shown, *what, **more)
        try:
            code = commands.main(arguments, prog_name="flopscan", standalone_mode=False, obj=settings)
        except click.ClickException as error:
            return _explain(settings, error, _usage(error), WRONG_USAGE)
        except (click.Abort, KeyboardInterrupt):
            click.echo("flopscan: interrupted", err=True)
            return INTERRUPTED
        except FlopscanError as error:
            return _explain(settings, error, str(error), error.exit_code)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return _explain(settings, error, f"{text}; run again with --debug for the traceback", FAILED)
    return code if isinstance(code, int) else 0


def _explain(settings: Settings, error: BaseException, text: str, code: int) -> int:
    if settings.debug:
        traceback.print_exception(error)
    click.echo(f"flopscan: error: {text}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    """The parser's own sentence, and where the right usage is."""
    context = getattr(error, "ctx", None)
    text = error.format_message().rstrip(".")
    return f"{text[:1].lower()}{text[1:]} (see {context.command_path if context else 'flopscan'} --help)"


def _warn(otherwise: Any, message: Any, category: Any, *where: Any, **more: Any) -> None:
    """Our own warnings as one line without a source location; those of others as Python shows them."""
    if issubclass(category, FlopscanWarning):
        click.echo(f"flopscan: warning: {message}", err=True)
    else:
        otherwise(message, category, *where, **more)


if __name__ == "__main__":
    sys.exit(main())
