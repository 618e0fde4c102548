"""Steps of the commands that keep a lock: count a target as it was locked, find the lock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from flopscan.cli import capturing
from flopscan.errors import FlopscanError, UsageError

if TYPE_CHECKING:
    from flopscan.budget.check import Outcome
    from flopscan.budget.lock import Entry, Lock
    from flopscan.core.ledger import Ledger

_LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}

path = click.option(
    "--lock", "path", type=click.Path(), default="flops.lock", metavar="PATH", help="The lock. [default: flops.lock]"
)


def counted(entry: Entry, *, lines: bool) -> Ledger:
    """The price of the target of ``entry``, on its inputs, in its way."""
    from flopscan import analysis

    flags = (flag in entry.flags for flag in ("backward", "train", "run"))
    return analysis.price(capturing.capture(entry.target, entry.inputs, entry.arguments, *flags, lines))


def outcome(lock: Lock, name: str) -> Outcome:
    """What checking ``name`` finds; a target that cannot be built or counted is one that failed."""
    from flopscan.budget import check

    entry = lock.entries[name]
    try:
        ledger = counted(entry, lines=True)
        return check.check(name, entry, lock.tolerance_of(name), ledger, versions(entry, ledger))
    except FlopscanError as error:
        return check.Outcome(name, entry, str(error))
    except Exception as error:  # as `main` tells it; the other targets are checked all the same
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return check.Outcome(name, entry, f"{text}; see flopscan count {entry.target} --debug")


def versions(entry: Entry, ledger: Ledger) -> Mapping[str, str]:
    """The versions that the numbers depend on: flopscan's, torch's, Python's, and that of the model's library."""
    from importlib import metadata

    found = dict(ledger.trace.origin.get("versions", {}))
    library = _LIBRARIES.get(entry.target.partition(":")[0])
    if library:
        found[library] = metadata.version(library)
    return found


def load(path: str) -> Lock:
    """The lock in ``path``. Raises UsageError where there is none."""
    from flopscan.budget import lockfile

    if not os.path.exists(path):
        raise UsageError(f"there is no {path}; make one, as in flopscan lock vmamba_tiny, or say where with --lock")
    return lockfile.load(path)
