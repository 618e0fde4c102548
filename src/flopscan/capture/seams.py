"""Seams taken: functions of packages that compute out of the dispatcher's sight are recorded as operators.

A package that is not there gets a stand-in; in one that is there the function is redirected for the time of the
capture: a Python function by its code, so that whoever imported it by name is seen too, a compiled one by the name in
its module. Everything is put back at the end.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from flopscan.capture.holders import Replaced
from flopscan.capture.leaves import Recording, active, answered, call_of, numbered, on_shapes, ran, recording
from flopscan.capture.signatures import Forms, bind, by_module, named
from flopscan.capture.stand_ins import MARK, StandIns, is_stand_in
from flopscan.capture.swap import Swapped
from flopscan.core.seam import Seam
from flopscan.core.trace import Call
from flopscan.errors import FlopscanError, warn

_MISSING = object()
_modules_of = functools.lru_cache(maxsize=8)(by_module)


@contextlib.contextmanager
def installed(seams: Sequence[Seam], engine: Any = None) -> Iterator[None]:
    """Inside, imports find stand-ins for missing packages; with ``engine``, calls of the seams are recorded by it."""
    if not seams:
        yield
        return
    modules = _modules_of(tuple(seams))
    finder = StandIns(modules)
    with contextlib.ExitStack() as stack:
        stack.callback(finder.forget)
        sys.meta_path.append(finder)
        stack.callback(sys.meta_path.remove, finder)
        if engine is not None:
            taken = _Taken(modules)
            stack.callback(taken.put_back)
            taken.take(list(sys.modules))
            watcher = _Watcher(taken)
            sys.meta_path.insert(0, watcher)
            stack.callback(sys.meta_path.remove, watcher)
            stack.enter_context(recording(engine))
        yield


class _Taken:
    """The functions that were redirected, and how to put them back."""

    def __init__(self, modules: Mapping[str, dict[str, Forms]]) -> None:
        self._exact = {name: found for name, found in modules.items() if not name.endswith(".*")}
        self._below = {name[:-1]: found for name, found in modules.items() if name.endswith(".*")}
        self._swapped: dict[int, Swapped] = {}
        self._replaced = Replaced()

    def seams_in(self, name: str) -> Iterable[tuple[str, Forms]]:
        """The attributes of the module ``name`` that may be seams."""
        found = dict(self._exact.get(name, ()))
        for prefix, attributes in self._below.items():
            if name.startswith(prefix):
                found.update(attributes)
        return found.items()

    def take(self, names: Iterable[str]) -> None:
        """Redirect the seams of those of the modules ``names`` that are imported and real."""
        prefixes = tuple(self._below)
        at_hand = [name for name in names if name in self._exact or name.startswith(prefixes)]
        compiled: list[Any] = []
        known: dict[int, Forms] = {}
        for name in at_hand:
            module = sys.modules.get(name)
            if module is None or is_stand_in(module):
                continue
            for attribute, forms in self.seams_in(name):
                original = module.__dict__.get(attribute, _MISSING)
                if original is _MISSING or id(original) in self._swapped or hasattr(original, MARK):
                    continue
                if isinstance(original, type):  # it runs as it is written: what it calls has seams of its own
                    continue
                if isinstance(original, FunctionType):
                    self._swap(original, forms)
                elif callable(original) and id(original) not in known:
                    compiled.append(original)
                    known[id(original)] = forms
        if compiled:
            self._replace(compiled, known)

    def _swap(self, original: FunctionType, forms: Forms) -> None:
        shown = inspect.signature(original)
        holder: list[Swapped] = []

        def run(*args: Any, **kwargs: Any) -> Any:
            return holder[0].original(*args, **kwargs)

        made_of_parts = all(seam.parts for seam in forms)
        swapped = Swapped(original, _around(forms, run) if made_of_parts else _replacement(forms, run, python=True))
        holder.append(swapped)
        swapped.show(shown)
        self._swapped[id(original)] = swapped

    def _replace(self, compiled: Sequence[Any], known: Mapping[int, Forms]) -> None:
        """Put the replacements of compiled functions where they are held, under whatever name."""
        self._replaced.replace(
            compiled,
            lambda f: named(_replacement(known[id(f)], f, python=False), known[id(f)], MARK),
            lambda f: f"{known[id(f)][0].module}.{known[id(f)][0].attribute}",
        )

    def put_back(self) -> None:
        """Make everything what it was, also after an exception."""
        for swapped in self._swapped.values():
            swapped.restore()
        self._replaced.put_back()


class _Watcher:
    """The first finder: a module with seams that is imported during the capture is taken as soon as it is there."""

    def __init__(self, taken: _Taken) -> None:
        self._taken = taken

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that the other finders give, its loader told to report; None for a module without seams."""
        if not self._taken.seams_in(name):
            return None
        for finder in sys.meta_path:
            if isinstance(finder, (_Watcher, StandIns)) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._report(name, spec.loader)
                return spec
        return None

    def _report(self, name: str, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            self._taken.take([name])

        loader.exec_module = exec_module


def _replacement(forms: Forms, original: Callable[..., Any], *, python: bool) -> Callable[..., Any]:
    """``original`` as it is called during a capture: on shapes it is recorded, on real tensors it runs besides.

    A call that no known signature takes runs as it is written; a compiled kernel cannot do so on shapes, and raises.
    """

    def function(*args: Any, **kwargs: Any) -> Any:
        taker = active()
        if taker is None:
            return original(*args, **kwargs)
        shapes = not taker.runs and on_shapes(args, kwargs)
        if not shapes and not taker.runs:
            return original(*args, **kwargs)
        try:
            seam, bound = bind(forms, args, kwargs)
        except TypeError as error:
            if shapes and not python:
                raise
            return _unrecognised(taker, forms[0], error, original, args, kwargs, python)
        if shapes:
            return _on_shapes(taker, seam, bound, original, args, kwargs, python)
        return ran(taker, seam, bound, lambda: original(*args, **kwargs))

    return function


def _around(forms: Forms, original: Callable[..., Any]) -> Callable[..., Any]:
    """``original``, which is made of parts: it runs as it is written, and its parts are recorded inside of it."""

    def function(*args: Any, **kwargs: Any) -> Any:
        taker = active()
        if taker is None:
            return original(*args, **kwargs)
        try:
            call, _ = call_of(*bind(forms, args, kwargs))
        except (TypeError, FlopscanError) as error:
            return _unrecognised(taker, forms[0], error, original, args, kwargs, python=True)
        with taker.inside(call):
            return original(*args, **kwargs)

    return function


def _on_shapes(
    taker: Recording, seam: Seam, bound: dict[str, Any], original: Any, args: Any, kwargs: Any, python: bool
) -> Any:
    try:
        return answered(taker, seam, bound)
    except FlopscanError as error:
        if not python:
            raise
        return _unrecognised(taker, seam, error, original, args, kwargs, python)


def _unrecognised(
    taker: Recording, seam: Seam, error: Exception, original: Any, args: Any, kwargs: Any, python: bool
) -> Any:
    """Run ``original``: what it dispatches is counted where it is Python; a compiled kernel is listed as uncounted."""
    if python:
        warn("FS201", f"a call is not recognised, and counted by what it dispatches: {error}")
    else:
        warn("FS202", f"a call is not recognised, and not counted: {error}")
        taker.record(Call(f"{seam.module}::{seam.attribute}", numbered(args, kwargs)))
    return original(*args, **kwargs)
