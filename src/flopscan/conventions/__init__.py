"""The conventions: one file each, discovered by being here. `get` finds one by name, with mistakes taken out by `~`."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import re
from collections.abc import Sequence

from flopscan.core.convention import Convention
from flopscan.errors import UsageError


@functools.cache
def names() -> list[str]:
    """The names of all conventions, `flops` first."""
    return sorted(_all(), key=lambda name: (name != "flops", name))


@functools.cache
def get(name: str) -> Convention:
    """The convention called ``name`` (``-``, ``_`` and ``.`` are alike); ``torch~groups`` is it without a mistake.

    Several mistakes are taken out one after the other, ``fvcore~einsum~broadcast``, and all by ``fvcore~all``. Raises
    UsageError, which lists near ones, for a name or mistake that there is not.
    """
    plain, *mistakes = name.split("~")
    convention = _named(plain)
    return _mended(convention, mistakes) if mistakes else convention


def _named(name: str) -> Convention:
    file = _plain(name)
    if file in _files():
        convention = _load(file)
        if _plain(convention.name) == file:
            return convention
    for known, convention in _all().items():  # a file cannot always be named as its convention is: 6nd
        if _plain(known) == file:
            return convention
    raise UsageError(f"there is no convention {name!r}; did you mean {_near(name, names())}?")


def _mended(convention: Convention, mistakes: list[str]) -> Convention:
    """The convention without these mistakes, each once."""
    keys = [bug.key for bug in convention.bugs]
    if not keys:
        raise UsageError(f"{convention.name} has no known mistakes to take out with ~; write {convention.name}")
    for word in mistakes:
        if word not in (*keys, "all"):
            text = f"{convention.name} has no mistake {word!r}; did you mean {_near(word, (*keys, 'all'))}?"
            raise UsageError(f"{text} (it has {', '.join((*keys, 'all'))})")
    return convention.without(*(keys if "all" in mistakes else dict.fromkeys(mistakes)))


def of_version(name: str, installed: str) -> str:
    """The name of the convention that reproduces version ``installed`` of the counter ``name``.

    Older behaviour of a counter has the convention ``name-VERSION``: of all, the newest that is not newer than what is
    installed; where every one is newer, the oldest.
    """
    pattern = re.compile(rf"{re.escape(name)}(-\d[\d.]*)?")
    versions = {known: digits(get(known).version) for known in names() if pattern.fullmatch(known)}
    ordered = sorted(versions, key=versions.__getitem__)
    fitting = [known for known in ordered if versions[known] <= digits(installed)]
    return fitting[-1] if fitting else (ordered or [name])[0]


def digits(version: str) -> tuple[int, ...]:
    """The release of a version, to be compared: (2, 13, 0) of ``2.13.0+cpu``."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _near(name: str, known: Sequence[str]) -> str:
    return " or ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known)


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
