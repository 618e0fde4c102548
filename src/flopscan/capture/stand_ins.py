"""Stand-ins: importable modules for packages that are not installed, with shapes only and only what has a rule."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Mapping
from typing import Any

from flopscan.capture.leaves import Unrecorded, active, answered, on_shapes
from flopscan.capture.signatures import Forms, bind, named
from flopscan.errors import FlopscanError

MARK = "__flopscan_stand_in__"
_FREEZING = "transformers."  # keeps for the life of the process what it finds on import: it gets no stand-ins


def is_stand_in(module: Any) -> bool:
    """Whether ``module`` is one of these."""
    return MARK in getattr(module, "__dict__", ())


class StandIns:
    """The last finder: modules that nothing else finds and that have seams, and the packages around them."""

    def __init__(self, modules: Mapping[str, dict[str, Forms]]) -> None:
        self._modules = {name: found for name, found in modules.items() if not name.endswith(".*")}
        self._made: list[str] = []

    def forget(self) -> None:
        """Take the stand-ins out of the imported modules; who holds one keeps it."""
        for name in self._made:
            if is_stand_in(sys.modules.get(name)):
                del sys.modules[name]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec of a stand-in, or None. Raises ModuleNotFoundError for a module that a stand-in does not have."""
        top, _, rest = name.partition(".")
        offered = [m for m in self._modules if m == name or m.startswith(name + ".")]
        if rest and not is_stand_in(sys.modules.get(top)):
            return None  # the package is installed: it has what it has
        if not offered:
            if rest:
                raise ModuleNotFoundError(f"{name} is not there: {top} is {_offer(top, self._modules)}", name=name)
            return None
        if _importer().startswith(_FREEZING):
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=_offer(name, self._modules), is_package=True)

    def create_module(self, spec: Any) -> None:
        """None: the usual kind of module."""

    def exec_module(self, module: Any) -> None:
        """Fill a stand-in."""
        self._made.append(module.__name__)
        for attribute, forms in self._modules.get(module.__name__, {}).items():
            function: Any = _function(forms)
            if forms[0].is_class:
                function.apply = function
            setattr(module, attribute, function)
        module.__version__ = "0+flopscan"
        module.__file__ = module.__spec__.origin  # Python quotes it where a name cannot be imported
        module.__dict__[MARK] = True
        offer = f"{module.__name__} is {module.__file__}"

        def __getattr__(name: str) -> Any:
            raise AttributeError(f"{module.__name__} has no {name!r}: {offer}", name=name, obj=module)

        module.__getattr__ = __getattr__


def _offer(name: str, modules: Mapping[str, dict[str, Forms]]) -> str:
    below = [
        f"{module[len(name) + 1 :]}.{attribute}".lstrip(".")
        for module, attributes in modules.items()
        if module == name or module.startswith(name + ".")
        for attribute in attributes
    ]
    return f"a stand-in of flopscan, which has rules for {', '.join(below)} alone"


def _importer() -> str:
    """The module whose code asked for the import that is going on."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name != __name__ and name.partition(".")[0] != "importlib":
            return str(name)
        frame = frame.f_back
    return ""


def _function(forms: Forms) -> Callable[..., Any]:
    """The function of a stand-in."""

    def function(*args: Any, **kwargs: Any) -> Any:
        seam, taker = forms[0], active() or Unrecorded()
        if taker.runs or not on_shapes(args, kwargs):
            raise FlopscanError(
                f"{seam.path} is a stand-in of flopscan: it has shapes only, and was called on real tensors; use meta"
                f" tensors, or install {seam.package} to compute with it"
            )
        return answered(taker, *bind(forms, args, kwargs))

    return named(function, forms, MARK)
