"""What can go wrong, with the exit code that the command line gives for it, and warnings that can be told apart.

Every text says three things: what was expected, what came, what to do.
"""

from __future__ import annotations

import warnings


class FlopscanError(Exception):
    """Something could not be counted, read or written (exit code 1)."""

    exit_code = 1


class UsageError(FlopscanError):
    """The request itself is wrong: an option, a target, an input that does not fit (exit code 2)."""

    exit_code = 2


class IncompleteError(FlopscanError):
    """A count under ``strict`` left operators uncounted (exit code 3)."""

    exit_code = 3


class ContractError(FlopscanError):
    """An operator's operands do not have the shapes that its rule states."""


class CaptureError(FlopscanError):
    """The model raised, or could not run, while it was being captured."""


class DataDependentError(CaptureError):
    """The model asked for a value that a shape-only tensor does not have."""


class SchemaError(FlopscanError):
    """A file is not what it should be: unreadable, truncated, of another kind or version."""


class RuleError(FlopscanError):
    """A rule or convention is declared wrongly: claimed twice, unnamed operands, a bad name."""


class FlopscanWarning(UserWarning):
    """A warning with a stable id, so that one can be silenced alone: ``filterwarnings("ignore", r".*\\[FS101\\]")``."""

    def __init__(self, identifier: str, text: str) -> None:
        super().__init__(f"{text} [{identifier}]")
        self.id = identifier


def warn(identifier: str, text: str) -> None:
    """Issue the warning ``identifier`` once per text."""
    warnings.warn(FlopscanWarning(identifier, text), stacklevel=3)
