"""The conventions: one file each, discovered by being here. `get` finds one by name."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import re

from flopscan.core.convention import Convention
from flopscan.errors import UsageError


@functools.cache
def names() -> list[str]:
    """The names of all conventions, `flops` first."""
    return sorted(_all(), key=lambda name: (name != "flops", name))


@functools.cache
def get(name: str) -> Convention:
    """The convention called ``name`` (``-``, ``_`` and ``.`` are alike). Raises UsageError, which lists near ones."""
    file = _plain(name)
    if file in _files():
        convention = _load(file)
        if _plain(convention.name) == file:
            return convention
    for known, convention in _all().items():  # a file cannot always be named as its convention is: 6nd
        if _plain(known) == file:
            return convention
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()
    raise UsageError(f"there is no convention {name!r}; did you mean {' or '.join(near)}?")


@functools.cache
def _files() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


@functools.cache
def _all() -> dict[str, Convention]:
    return {convention.name: convention for convention in map(_load, sorted(_files()))}


def _load(file: str) -> Convention:
    convention = importlib.import_module(f"{__name__}.{file}").CONVENTION
    assert isinstance(convention, Convention)
    return convention


def _plain(name: str) -> str:
    return re.sub(r"[-.]", "_", name)
