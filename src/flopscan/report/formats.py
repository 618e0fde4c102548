"""Where a report can be saved to: the suffix of the path says in which format."""

from __future__ import annotations

import os
from typing import Any

from flopscan.core.document import write_text
from flopscan.errors import UsageError
from flopscan.report import as_json, text
from flopscan.report.report import Report

SUFFIXES = (".json", ".json.gz", ".txt")
_WIDTH_IN_A_FILE = 120


def check(path: str | os.PathLike[str], suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Raise UsageError where `save` could not know the format or has no folder to write to; nothing is written."""
    name = os.fspath(path)
    if not name.endswith(suffixes) or os.path.basename(name) in suffixes:
        expected = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise UsageError(f"cannot tell the format of {name!r}; expected a name that ends in {expected}")
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {name}: there is no folder {folder}; make it first")
    if os.path.isdir(name):
        raise UsageError(f"cannot write {name}: it is a folder; give the name of a file")


def save(report: Report, path: str | os.PathLike[str], **presentation: Any) -> None:
    """Write ``report`` to ``path``, atomically; ``presentation`` goes to the text form (width, depth, by)."""
    check(path)
    if os.fspath(path).endswith(".txt"):
        content = text.render(report, **{**presentation, "width": presentation.get("width") or _WIDTH_IN_A_FILE})
    else:
        content = as_json.render(report)
    write_text(path, content + "\n")
