"""Models that a function or class of the user makes: ``package.module:factory`` and ``path/to/file.py:factory``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from flopscan.errors import FlopscanError, UsageError

_ARGUMENTS = re.compile(r"unexpected keyword argument|required .*argument")


def build(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The model that the factory called ``name`` makes with ``options``; a module that is there already is taken."""
    from torch import nn

    place, _, attribute = name.rpartition(":")
    folder = os.path.dirname(os.path.abspath(place)) if place.endswith(".py") else os.getcwd()
    with _importing_from(folder):
        module = _from_file(place) if place.endswith(".py") else _from_name(place)
        factory = _found(module, place, attribute)
        if isinstance(factory, nn.Module) and not options:
            return factory
        model = made(name, factory, options)
    if not callable(model):
        raise UsageError(f"{name} returned {type(model).__name__}; expected an nn.Module or a function of tensors")
    return model  # type: ignore[no-any-return]


def made(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What ``factory(**options)`` returns. Raises UsageError for options that do not fit, else FlopscanError."""
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    try:
        return factory(**options)
    except FlopscanError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if isinstance(error, TypeError) and _ARGUMENTS.search(text):
            raise UsageError(f"{name} does not take these arguments ({given or 'none'}): {text}; see --arg") from error
        call = f"{name} with {given}" if given else name
        raise FlopscanError(f"cannot make {call}: {type(error).__name__}: {text}") from error


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """Inside, modules beside the factory can be imported; a failure leaves neither the path nor half-made modules."""
    before = set(sys.modules)
    path = list(sys.path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        yield
    except BaseException:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and os.path.abspath(file).startswith(folder + os.sep):
                del sys.modules[name]
        raise


def _from_file(file: str) -> ModuleType:
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}; expected a target such as path/to/file.py:factory")
    path = os.path.abspath(file)
    name = os.path.basename(path)[:-3]
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != path:
        name = f"flopscan_target_{abs(hash(path)):x}"  # a module of that name is there: leave it
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if before is not None:
            sys.modules[name] = before
        _raise(file, error)
    return module


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(
                f"there is no module {missing!r} to import; expected a target such as package.module:factory,"
                " installed or below the working directory"
            ) from error
        _raise(name, error)
    except BaseException as error:
        _raise(name, error)


def _raise(place: str, error: BaseException) -> Any:
    if isinstance(error, (FlopscanError, KeyboardInterrupt)) or not isinstance(error, (Exception, SystemExit)):
        raise error
    text = " ".join(str(error).split())
    raise FlopscanError(f"cannot import {place}: {type(error).__name__}: {text}") from error


def _found(module: ModuleType, place: str, attribute: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            public = [name for name in vars(module) if not name.startswith("_") and callable(getattr(module, name))]
            near = difflib.get_close_matches(part, public, n=3, cutoff=0.5) or public[:5]
            hint = f"did you mean {' or '.join(near)}?" if near else "it defines no function or class"
            raise UsageError(f"{place} has no {attribute!r}; {hint}")
        value = getattr(value, part)
    if not callable(value):
        raise UsageError(f"{place}:{attribute} is of type {type(value).__name__}; expected a function or class")
    return value
