"""The rules: one file per operator family, discovered by being here (elsewhere: entry point ``flopscan.rules``)."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.metadata
import pkgutil

from flopscan.core import composite as composites
from flopscan.core import pointwise as pointwises
from flopscan.core.rule import Registry, Rule
from flopscan.core.seam import Seam

REGISTRY = Registry()
SEAMS: list[Seam] = []  # where operators that the dispatcher does not show are called; declared beside their rules
rule = REGISTRY.rule
product = functools.partial(REGISTRY.rule, matrix="all")  # a rule whose multiply-adds may run on matrix units
pointwise = functools.partial(pointwises.declare, REGISTRY)
composite = functools.partial(composites.declare, REGISTRY)
seam = SEAMS.append


@functools.cache
def load() -> Registry:
    """The registry with every rule file of this package in it."""
    collecting = gc.isenabled()
    gc.disable()  # beside torch one look for cycles takes longer than all of these imports
    try:
        for _, name, _ in pkgutil.iter_modules(__path__):
            importlib.import_module(f"{__name__}.{name}")
    finally:
        if collecting:
            gc.enable()
    return REGISTRY


@functools.cache
def load_plugins() -> Registry:
    """The registry with the rules of other installed packages too; asked for only when an operator has no rule here."""
    for entry_point in importlib.metadata.entry_points(group="flopscan.rules"):
        entry_point.load()
    return REGISTRY


def find(op: str) -> Rule | None:
    """The rule for the operator ``op``, or None."""
    return load().find(op) or load_plugins().find(op)


def seams() -> tuple[Seam, ...]:
    """The seams of every rule file of this package."""
    load()
    return tuple(SEAMS)
