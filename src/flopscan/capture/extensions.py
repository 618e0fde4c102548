"""Compiled extension modules without a rule: not to be reached with shape-only tensors, and uncounted in a real run.

A pybind function that is handed a meta tensor reads an address that is not there and ends the process. What such
functions take is written in the first line of their documentation, so they are known before they are called.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterator, Set
from importlib.machinery import ExtensionFileLoader
from types import BuiltinFunctionType, ModuleType
from typing import Any

from flopscan.capture.holders import Replaced
from flopscan.capture.leaves import active, numbered, on_shapes
from flopscan.errors import CaptureError

_seen: set[str] = set()
_jit_built: list[Any] = []  # what torch had compiled and loaded when it was last looked
_with_tensors: weakref.WeakSet[ModuleType] = weakref.WeakSet()
_KNOWN = {"torch", "numpy", "scipy", "pandas", "triton", "functorch", "torchgen"}
_NOT_LOOKED_AT = _KNOWN | sys.stdlib_module_names | {"flopscan"}  # most of what is loaded, by the name of the package


def taking_tensors() -> Iterator[tuple[ModuleType, tuple[str, ...]]]:
    """The extension modules that are loaded, with the functions of each that take tensors."""
    new = [name for name in list(sys.modules) if name not in _seen]
    _seen.update(new)
    loaded = (sys.modules.get(name) for name in new if name.partition(".")[0] not in _NOT_LOOKED_AT)
    for module in (*loaded, *_built_by_torch()):
        _look(module)
    for module in sorted(_with_tensors, key=lambda module: module.__name__):
        yield module, tuple(name for name, value in vars(module).items() if _takes_tensors(value))


def _look(module: Any) -> None:
    """Keep ``module`` if it is an extension with functions that take tensors."""
    foreign = _is_extension(module) and module.__name__.partition(".")[0] not in _KNOWN
    if foreign and any(_takes_tensors(value) for value in vars(module).values()):
        _with_tensors.add(module)


def _built_by_torch() -> list[Any]:
    """The modules that `torch.utils.cpp_extension.load` made since the last look: nobody need have a name for them."""
    cpp_extension = sys.modules.get("torch.utils.cpp_extension")
    versions = getattr(getattr(cpp_extension, "JIT_EXTENSION_VERSIONER", None), "entries", {})
    now = list(versions.items())
    if now == _jit_built:
        return []
    _jit_built[:] = now
    return [each for each in gc.get_objects() if issubclass(type(each), ModuleType)]


def _is_extension(module: Any) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), ExtensionFileLoader)


def _takes_tensors(value: Any) -> bool:
    if not isinstance(value, BuiltinFunctionType):
        return False
    document = value.__doc__ or ""
    return "torch.Tensor" in document or "at::Tensor" in document


@contextlib.contextmanager
def guarded(known: Set[tuple[str, str]]) -> Iterator[None]:
    """Inside, such a function raises CaptureError on a shape-only tensor, and is listed where it runs.

    Not those that are ``known``: module, name. A module that is imported inside is looked at as soon as it is there.
    """
    replaced = Replaced()
    executed = ExtensionFileLoader.exec_module

    def exec_module(loader: ExtensionFileLoader, module: ModuleType) -> None:
        executed(loader, module)
        _look(module)
        _take(replaced, known)

    with contextlib.ExitStack() as stack:
        stack.callback(replaced.put_back)
        _take(replaced, known)
        stack.callback(setattr, ExtensionFileLoader, "exec_module", executed)
        ExtensionFileLoader.exec_module = exec_module  # type: ignore[method-assign]
        yield


def _take(replaced: Replaced, known: Set[tuple[str, str]]) -> None:
    """Guard the functions of the loaded modules that are not guarded yet."""
    functions: list[Any] = []
    names: dict[int, tuple[str, str]] = {}
    for module, attributes in taking_tensors():
        for attribute in attributes:
            function = vars(module)[attribute]
            if (module.__name__, attribute) not in known and id(function) not in names:
                functions.append(function)
                names[id(function)] = module.__name__, attribute
    if functions:
        replaced.replace(functions, lambda f: _guard(*names[id(f)], f), lambda f: ".".join(names[id(f)]))


def _guard(module: str, attribute: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        if on_shapes(args, kwargs):
            raise CaptureError(
                f"{module}.{attribute} is a compiled kernel that flopscan has no seam for, and it was called with a"
                " shape-only tensor, which it cannot take; declare a seam and a rule for it (CONTRIBUTING.md), or count"
                " a real run: `with flopscan.counting() as c: model(...)`, or --run on the command line"
            )
        taker = active()
        if taker is not None and taker.runs:
            operands = numbered(args, kwargs)
            return taker.engine.leaf(
                lambda: original(*args, **kwargs), f"{module}::{attribute}", operands, gradient=lambda _: None
            )
        return original(*args, **kwargs)

    function.__name__ = attribute
    return function
