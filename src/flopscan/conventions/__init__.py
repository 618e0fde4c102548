"""The conventions: one file each, discovered by being here. `get` finds one by name."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil

from flopscan.core.convention import Convention
from flopscan.errors import UsageError


def names() -> list[str]:
    """The names of all conventions, `flops` first."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    found = sorted(name.replace("_", "-") for name in files if not name.startswith("_"))
    return ["flops", *(name for name in found if name != "flops")]


@functools.cache
def get(name: str) -> Convention:
    """The convention called ``name`` (``-`` and ``_`` are alike). Raises UsageError, which lists the near ones."""
    if name.replace("_", "-") not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()
        raise UsageError(f"there is no convention {name!r}; did you mean {' or '.join(near)}?")
    convention = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").CONVENTION
    assert isinstance(convention, Convention)
    return convention
