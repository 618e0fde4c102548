"""The formats of a report, one file each: a file with a ``FORMAT`` in it is found by being here."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from collections.abc import Collection
from typing import TYPE_CHECKING

from flopscan.core.document import write_text
from flopscan.errors import UsageError
from flopscan.report.format import Format, Shown

if TYPE_CHECKING:
    from flopscan.report.report import Report

_WIDTH_IN_A_FILE = 120


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all formats, ``text`` first."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(found, key=lambda name: (name != "text", name)))


@functools.cache
def get(name: str) -> Format:
    """The format called ``name``. Raises UsageError for another."""
    if name not in names():
        raise UsageError(f"there is no format {name!r}; expected {_listed(names())}")
    found = importlib.import_module(f"{__name__}.{name}").FORMAT
    assert isinstance(found, Format) and found.name == name
    return found


def of(path: str | os.PathLike[str]) -> Format:
    """The format that the suffix of ``path`` asks for. Raises UsageError where none has it."""
    name = os.fspath(path)
    for form in map(get, names()):
        if name.endswith(form.suffixes) and os.path.basename(name) not in form.suffixes:
            return form
    suffixes = [suffix for form in map(get, names()) for suffix in form.suffixes]
    raise UsageError(f"cannot tell the format of {name!r}; expected a name that ends in {_listed(suffixes)}")


def check(path: str | os.PathLike[str], suffixes: tuple[str, ...] | None = None) -> None:
    """Raise UsageError where nothing could be written: no format (or none of ``suffixes``), or no folder for it."""
    name = os.fspath(path)
    if suffixes is None:
        of(path)
    elif not name.endswith(suffixes) or os.path.basename(name) in suffixes:
        raise UsageError(f"cannot tell the format of {name!r}; expected a name that ends in {_listed(suffixes)}")
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {name}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(
            f"cannot write {name}: the folder {folder} is closed to you; choose a path that can be written"
        )
    if os.path.isdir(name):
        raise UsageError(f"cannot write {name}: it is a folder; give the name of a file")


def save(report: Report, path: str | os.PathLike[str], shown: Shown | None = None) -> None:
    """Write ``report`` to ``path``, atomically, in the format of its suffix; ``shown`` is how."""
    check(path)
    shown = shown or Shown()
    in_a_file = shown.but(width=shown.width or _WIDTH_IN_A_FILE, color=False)
    write_text(path, of(path).render(report, in_a_file) + "\n")


def _listed(words: Collection[str]) -> str:
    """``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
