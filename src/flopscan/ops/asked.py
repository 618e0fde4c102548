"""The form that every operator takes while somebody asks for it: `flopscan.ops.selective_scan.forms.use`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_form: str | None = None


def form() -> str | None:
    """The name of the form, None where nobody asks for one."""
    return _form


@contextlib.contextmanager
def asking(name: str) -> Iterator[None]:
    """Within, ``name`` is asked for."""
    global _form
    before, _form = _form, name
    try:
        yield
    finally:
        _form = before
