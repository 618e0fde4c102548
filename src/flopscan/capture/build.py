"""Build a model without allocating its weights."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import random
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_FACTORIES = ("empty", "zeros", "ones", "full", "rand", "randn")
_LARGE = 2**26
_FILLS = ("normal_", "uniform_", "exponential_", "erfinv_", "clamp_")


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Inside, a parameter goes to the meta device as it is registered; buffers keep their (computed) values.

    Not ``torch.device("meta")``: constructors that compute with tensors (``linspace(...).item()`` for stochastic
    depth) must go on working. Only what is too large to be anything but a weight, as the experts of a layer in one
    tensor, is made there. The random state is afterwards what it was before.
    """
    original = nn.Module.register_parameter

    def register_parameter(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if type(parameter) is nn.Parameter and not parameter.is_meta:
            # a parameter keeps its identity where it is tied: the same object gives the same meta object
            swapped = parameter.__dict__.get("_flopscan_meta")
            if swapped is None:
                swapped = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
                swapped.__dict__.update(parameter.__dict__)
                parameter.__dict__["_flopscan_meta"] = swapped
            parameter = swapped
        original(module, name, parameter)

    with same_random_state(), _large_ones_on_meta(), _nothing_to_fill():
        nn.Module.register_parameter = register_parameter  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.register_parameter = original  # type: ignore[method-assign]


def needs_weights(error: BaseException | None) -> bool:
    """Whether a constructor failed because it computes with weights, which `without_weights` does not give it."""
    return isinstance(error, (NotImplementedError, RuntimeError)) and re.search(r"\bmeta\b", str(error)) is not None


@contextlib.contextmanager
def _large_ones_on_meta() -> Iterator[None]:
    """Inside, torch makes a tensor of `_LARGE` elements and more on the meta device, unless a device is named."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def without_memory(factory: Any) -> Any:
        @functools.wraps(factory)
        def make(*args: Any, **kwargs: Any) -> Any:
            size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
            if kwargs.get("device") is None and kwargs.get("out") is None and _elements(size) >= _LARGE:
                kwargs["device"] = "meta"
            return factory(*args, **kwargs)

        return make

    try:
        for name, factory in originals.items():
            setattr(torch, name, without_memory(factory))
        yield
    finally:
        for name, factory in originals.items():
            setattr(torch, name, factory)


@contextlib.contextmanager
def _nothing_to_fill() -> Iterator[None]:
    """Inside, a tensor without memory is not initialised: what torch does for it in Python takes 2 to 5 ms a time."""
    originals = {name: getattr(torch.Tensor, name) for name in _FILLS}

    def where_there_is_memory(fill: Any) -> Any:
        @functools.wraps(fill)
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return tensor if tensor.is_meta else fill(tensor, *args, **kwargs)

        return call

    try:
        for name, fill in originals.items():
            setattr(torch.Tensor, name, where_there_is_memory(fill))
        yield
    finally:
        for name in _FILLS:
            delattr(torch.Tensor, name)  # the class inherits them


def _elements(size: Any) -> int:
    """The elements of a tensor of that size; 0 where it is no size, which torch itself says."""
    try:
        return math.prod(map(int, size))
    except (TypeError, ValueError):
        return 0


@contextlib.contextmanager
def not_compiled() -> Iterator[None]:
    """Inside, what `torch.compile` wrapped runs as it was written: a compiler sees no operators through a count."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def unwrapped(model: Any) -> Any:
    """The module to count: that inside a compiled one, that of an exported program."""
    model = getattr(model, "_orig_mod", model)
    return model.module() if type(model).__name__ == "ExportedProgram" else model


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """Restore the random state of torch, Python and NumPy at the end; NumPy's where it is loaded, which takes 7 ms."""
    numpy_random: Any = sys.modules.get("numpy.random")
    states = torch.get_rng_state(), random.getstate(), numpy_random.get_state() if numpy_random else None
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        if numpy_random:
            numpy_random.set_state(states[2])


def too_large(model: Any) -> str:
    """Why the weights of ``model`` cannot be made here; empty where they can."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system says
        return ""
    weights = sum(p.numel() * p.element_size() for p in getattr(model, "parameters", list)())
    if 2 * weights < memory:
        return ""
    return f"its weights are {weights / 1e9:,.0f} GB, and what runs it needs more than this machine's memory"
