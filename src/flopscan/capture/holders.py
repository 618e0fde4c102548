"""Who holds a compiled function, and another function put in its place for the time of a capture.

A compiled function is looked up in its module; but another module, a class, a closure or a dictionary may hold it too,
and then its own is not asked. One look at all that Python tracks finds them: 0.03 s in a process with large libraries.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import CellType
from typing import Any

from flopscan.errors import warn

Put = Callable[[Any], None]


class Replaced:
    """Functions that are another one wherever they are held, until `put_back`."""

    def __init__(self) -> None:
        self._undo: list[tuple[Put, Any]] = []

    def replace(self, functions: Sequence[Any], made: Callable[[Any], Any], name: Callable[[Any], str]) -> None:
        """Put ``made(function)`` where each of ``functions`` is held; nothing else of the caller may hold them.

        What cannot be changed (a tuple, a partial) is warned of (FS203), by the function's ``name``.
        """
        places = list(_places(functions))  # before there are replacements, which hold the functions as well
        others = {id(function): made(function) for function in functions}
        for function, holder, put in places:
            if put is not None:
                put(others[id(function)])
                self._undo.append((put, function))
                continue
            warn(
                "FS203", f"a {type(holder).__name__} holds {name(function)} itself, and what is called through it is"
                f" not counted; call {name(function)}(...) through its module",
            )  # fmt: skip

    def put_back(self) -> None:
        """Make every holder what it was."""
        while self._undo:
            put, function = self._undo.pop()
            put(function)


def escaping(functions: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each of ``functions`` that something holds which cannot be changed, and what that is."""
    return ((function, holder) for function, holder, put in _places(functions) if put is None)


def _places(functions: Sequence[Any]) -> Iterator[tuple[Any, Any, Put | None]]:
    """Each function, each holder of it, and how to put another one there; None where that cannot be done."""
    ids = {id(function) for function in functions}
    for holder in gc.get_referrers(*functions):
        if holder is functions or inspect.isframe(holder):
            continue
        found: list[tuple[Any, Put]] = []
        if isinstance(holder, CellType):
            found = [(holder.cell_contents, partial(setattr, holder, "cell_contents"))]
        elif isinstance(holder, list):
            found = [(v, partial(holder.__setitem__, i)) for i, v in enumerate(holder) if id(v) in ids]
        else:
            names = holder if isinstance(holder, dict) else getattr(holder, "__dict__", None)
            if isinstance(names, dict):
                found = [(v, _attribute(names, k, v)) for k, v in list(names.items()) if id(v) in ids]
        if found:
            yield from ((function, holder, put) for function, put in found)
        else:
            held = {id(each) for each in gc.get_referents(holder)}
            yield from ((function, holder, None) for function in functions if id(function) in held)


def _attribute(names: dict[Any, Any], key: Any, value: Any) -> Put:
    """How to put something under ``key`` of ``names``; in the namespace of a class, as an attribute of the class."""
    if "__module__" in names and "__doc__" in names:
        for owner in gc.get_referrers(names):
            if isinstance(owner, type) and owner.__dict__.get(key) is value:
                return lambda new: setattr(owner, key, new if new is value else staticmethod(new))
    return partial(names.__setitem__, key)
