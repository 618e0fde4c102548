"""Targets: a name on the command line becomes a model and its default input."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flopscan.capture import cuda, factories, libraries, transformers_models
from flopscan.capture.build import needs_weights, same_random_state, without_weights
from flopscan.capture.target_names import FORMS, names
from flopscan.core.trace import TensorSpec
from flopscan.errors import FlopscanError, UsageError

_SOURCES = {"timm": libraries.timm, "torchvision": libraries.torchvision, "hf": transformers_models.build}


@dataclass(frozen=True)
class Target:
    """A model, its default input (none: empty ``args`` and ``kwargs``), and a note that its report carries."""

    model: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def build(name: str, options: Mapping[str, Any], *, with_weights: bool) -> Target:
    """The model that ``name`` stands for, made with ``options``; its weights are allocated only if wanted.

    A constructor that computes with its own weights, as Swin V2's on their device, gets them all the same.
    Raises UsageError for a name that stands for nothing or options that do not fit, FlopscanError where making fails.
    """
    if with_weights:
        return _built(name, options)
    try:
        with without_weights():
            return _built(name, options)
    except FlopscanError as error:
        if not needs_weights(error.__cause__):
            raise
    with same_random_state():
        return _built(name, options)


def _built(name: str, options: Mapping[str, Any]) -> Target:
    source, _, rest = name.partition(":")
    if source in _SOURCES and rest:
        return Target(*_SOURCES[source](rest, options))
    if ":" in name:
        with cuda.building():
            return Target(factories.build(name, options))
    if name in names():
        return _from_zoo(name, options)
    raise UsageError(_unknown(name))


def _from_zoo(name: str, options: Mapping[str, Any]) -> Target:
    from flopscan.models import vmamba

    model = factories.made(name, lambda **given: vmamba.build(name, **given), options)
    channels, *sizes = vmamba.INPUT_SHAPE[1:]
    note = ""
    if name.endswith("_v0"):
        note = (
            "the published totals of the v0 forms differ in their last digits, since numpy rounds the cost of an"
            " einsum to four digits; here the sums are exact"
        )
    return Target(model, (TensorSpec((1, int(options.get("in_chans", channels)), *sizes)),), note=note)


def _unknown(name: str) -> str:
    if name.endswith(".py"):
        return f"{name} names no factory; write {name}:NAME with the function or class that makes the model"
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    forms = ", ".join(form for form, _ in FORMS)
    if near:
        return f"there is no target {name!r}; did you mean {' or '.join(near)}? (or one of the forms {forms})"
    return f"there is no target {name!r}; expected {', '.join(names())}, or one of the forms {forms}"
