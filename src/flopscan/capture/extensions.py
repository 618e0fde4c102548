"""Compiled extension modules without a rule: not to be reached with shape-only tensors, and uncounted in a real run.

A pybind function that is handed a meta tensor reads an address that is not there and ends the process. What such
functions take is written in the first line of their documentation, so they are known before they are called.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from types import BuiltinFunctionType, ModuleType
from typing import Any

from flopscan.capture.leaves import active, numbered, on_shapes
from flopscan.errors import CaptureError

_seen: set[str] = set()
_taking_tensors: dict[str, tuple[str, ...]] = {}  # module -> its functions that take tensors
_KNOWN = ("torch", "numpy", "scipy", "pandas", "triton", "functorch", "torchgen")


def taking_tensors() -> Mapping[str, tuple[str, ...]]:
    """The functions of imported extension modules that take tensors, by module; new modules are looked at once."""
    new = [name for name in list(sys.modules) if name not in _seen]
    _seen.update(new)
    for name in new:
        module = sys.modules.get(name)
        if name.partition(".")[0] in _KNOWN or not _is_extension(module):
            continue
        found = tuple(a for a, v in vars(module).items() if _takes_tensors(v))
        if found:
            _taking_tensors[name] = found
    return {name: found for name, found in _taking_tensors.items() if name in sys.modules}


def _is_extension(module: Any) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), importlib.machinery.ExtensionFileLoader)


def _takes_tensors(value: Any) -> bool:
    if not isinstance(value, BuiltinFunctionType):
        return False
    document = value.__doc__ or ""
    return "torch.Tensor" in document or "at::Tensor" in document


@contextlib.contextmanager
def guarded(known: Set[tuple[str, str]]) -> Iterator[None]:
    """Inside, such a function raises CaptureError on a shape-only tensor, and is listed where it runs.

    Not those that are ``known``: module, name.
    """
    replaced: list[tuple[ModuleType, str, Any]] = []
    try:
        for name, functions in taking_tensors().items():
            module = sys.modules[name]
            for attribute in functions:
                original = getattr(module, attribute, None)
                if isinstance(original, BuiltinFunctionType) and (name, attribute) not in known:
                    replaced.append((module, attribute, original))
                    setattr(module, attribute, _guard(name, attribute, original))
        yield
    finally:
        for module, attribute, original in replaced:
            setattr(module, attribute, original)


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
