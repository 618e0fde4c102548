"""Which seam a call is: the same path may have had several signatures in the versions of a package."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

from flopscan.core.seam import Seam

Forms = tuple[Seam, ...]


def by_module(seams: tuple[Seam, ...]) -> dict[str, dict[str, Forms]]:
    """Module name (or ``package.*``) -> attribute -> the seams that it may be."""
    found: dict[str, dict[str, Forms]] = {}
    for seam in seams:
        forms = found.setdefault(seam.module, {})
        forms[seam.attribute] = (*forms.get(seam.attribute, ()), seam)
    return found


def bind(forms: Forms, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Seam, dict[str, Any]]:
    """The form that takes these arguments, and the arguments by name. Raises TypeError where none does."""
    problems = []
    for seam in forms:
        try:
            bound = parameters(seam).bind(*args, **kwargs)
        except TypeError as error:
            versions = f" of {seam.package} {seam.version}" if seam.version else ""
            problems.append(f"{error}; expected ({seam.signature}){versions}")
            continue
        bound.apply_defaults()
        return seam, dict(bound.arguments)
    raise TypeError(f"{forms[0].path}{_installed(forms[0].package)}: {', or '.join(problems)}")


def _installed(package: str) -> str:
    """`` of mamba-ssm 1.2`` where the distribution that has the top-level module ``package`` is installed."""
    found = distribution_of(package)
    return f" of {found[0]} {found[1]}" if found else ""


@functools.lru_cache(maxsize=64)
def distribution_of(package: str) -> tuple[str, str] | None:
    """The installed distribution that has the top-level module ``package``, and its version; None where none has.

    A compiled module is one of a distribution with another name; to find that out takes 0.7 s, for an error's sake.
    """
    try:
        return package, importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = importlib.metadata.packages_distributions().get(package)
    return (found[0], importlib.metadata.version(found[0])) if found else None


@functools.lru_cache(maxsize=512)
def parameters(seam: Seam) -> Any:
    """The callee's signature."""
    return seam.parameters()


def named(function: Any, forms: Forms, mark: str) -> Callable[..., Any]:
    """``function`` with the name and signature of what it stands for."""
    seam = forms[0]
    function.__name__ = function.__qualname__ = seam.attribute
    function.__module__ = seam.module
    function.__doc__ = f"What flopscan records as {seam.op}."
    function.__signature__ = parameters(seam)
    setattr(function, mark, True)
    return function  # type: ignore[no-any-return]
