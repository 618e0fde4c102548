"""Where a source line of a trace is in the repository: what code scanning needs, a path from its root."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath


def root(start: str | None = None) -> str:
    """The folder of the repository around ``start`` (default: the working directory); ``start`` where there is none."""
    start = folder = os.path.realpath(start or os.getcwd())
    while not os.path.exists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return start
        folder = parent
    return folder


def find(file: str, target: str) -> str | None:
    """The path of ``file``, as a trace shortens it, of the model ``target``; None where it cannot be told.

    The trace leaves away the folder that the file was imported from. Of several imported files that end alike, it is
    the target's own.
    """
    if os.path.isabs(file):
        return file
    known = {
        os.path.realpath(name)
        for module in list(sys.modules.values())
        if (name := getattr(module, "__file__", None)) and (name == file or name.endswith(os.sep + file))
    }
    own = os.path.realpath(target.rpartition(":")[0])
    if own in known:
        return own
    return known.pop() if len(known) == 1 else None


def relative(path: str | None, start: str) -> str | None:
    """``path`` from the folder ``start``, with ``/``; None where it is not below it, or is of an environment in it."""
    if path is None:
        return None
    found = PurePath(os.path.relpath(os.path.realpath(path), start))
    outside = found.is_absolute() or found.parts[:1] == ("..",)
    return None if outside or "site-packages" in found.parts else found.as_posix()
