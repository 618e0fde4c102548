"""thop's calls, counted by flopscan: ``from flopscan.compat.thop import profile, clever_format`` and nothing else.

>>> from torch import nn, zeros
>>> profile(nn.Sequential(nn.Linear(10, 20)), (zeros(1, 10),), verbose=False)
(200.0, 220.0)

thop need not be installed, and the model is run on shapes alone. Numbers are those of the convention ``thop`` (0.1.1),
with what thop makes of a layer under several parents, and of a model that is one layer: no parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from flopscan import conventions
from flopscan.capture.build import unwrapped
from flopscan.compat import _counting

Hook = Callable[[nn.Module, Any, Any], Any]
Layer = tuple[float, float, dict[str, Any]]
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))
_FREE = (  # classes that it knows to cost nothing
    "ZeroPad2d", "ReLU", "ReLU6", "LeakyReLU", "MaxPool1d", "MaxPool2d", "MaxPool3d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "Dropout", "Sequential", "PixelShuffle",
)  # fmt: skip
_CONVENTION = conventions.get("thop")
_KNOWN = frozenset(getattr(nn, name) for name in (*_FREE, *(op.rpartition(".")[2] for op in _CONVENTION.handles)))


def profile(
    model: nn.Module,
    inputs: tuple[Any, ...],
    custom_ops: Mapping[type[nn.Module], Hook] | None = None,
    verbose: bool = True,
    ret_layer_info: bool = False,
    report_missing: bool = False,
) -> tuple[float, float] | Layer:
    """Multiply-adds and parameters of ``model(*inputs)`` in evaluation mode; with ``ret_layer_info`` also by layer.

    ``custom_ops`` are hooks by class, which add to ``total_ops`` of the module that they are called with; its operands
    have shapes and no values. ``verbose`` prints the classes that have a rule, ``report_missing`` those without.
    """
    model, custom = unwrapped(model), custom_ops or {}
    with _counting.watched([m for m in model.modules() if type(m) in custom]) as seen:
        ledger = _counting.ledger_of(model, tuple(inputs), training=False, begin=seen.clear)
    own, called = _counting.by_module(model, ledger, replace(_CONVENTION, settle={}).counts(ledger))
    hooked = {id(m) for m in model.modules() if type(m) in custom}
    ops: dict[int, float] = {key: count for key, count in own.items() if key not in hooked}
    for key, count in _customized(seen, custom).items():
        ops[key] = count
    if verbose or report_missing:
        _report(model, custom, report_missing)
    times = _counting.visits(model)

    def walk(module: nn.Module) -> Layer:
        total, params, layers = float(ops.get(id(module), 0) * times[id(module)]), 0.0, {}
        for name, child in module.named_children():
            ends = (type(child) in custom or type(child) in _KNOWN) and not isinstance(
                child, (nn.Sequential, nn.ModuleList)
            )
            layers[name] = alone(child) if ends else walk(child)
            total += layers[name][0]
            params += layers[name][1]
        return total, params or 0, layers

    def alone(module: nn.Module) -> Layer:
        params = sum(p.numel() for p in module.parameters()) if id(module) in called else 0
        return float(ops.get(id(module), 0) * times[id(module)]), float(params), {}

    found = walk(model)
    return found if ret_layer_info else found[:2]


def _customized(seen: list[_counting.Seen], custom: Mapping[type[nn.Module], Hook]) -> dict[int, float]:
    """What the user's hooks add for each module (by id)."""
    counts: dict[int, float] = {}
    with contextlib.ExitStack() as stack, torch.no_grad():
        for call in seen:
            if id(call.module) not in counts:
                counts[id(call.module)] = 0.0
                stack.enter_context(_totals(call.module))
            _counting.asked(custom[type(call.module)], call)
        for call in seen:
            counts[id(call.module)] = float(call.module.total_ops)
    return counts


@contextlib.contextmanager
def _totals(module: nn.Module) -> Iterator[None]:
    """Inside, ``module`` has the buffers ``total_ops`` and ``total_params`` that a hook adds to."""
    names = [name for name in ("total_ops", "total_params") if not hasattr(module, name)]
    saved, unsaved = dict(module._buffers), set(module._non_persistent_buffers_set)
    for name in names:
        module.register_buffer(name, torch.zeros(1, dtype=torch.float64))
    try:
        yield
    finally:
        module._buffers.clear()
        module._buffers.update(saved)
        module._non_persistent_buffers_set.clear()
        module._non_persistent_buffers_set.update(unsaved)


def _report(model: nn.Module, custom: Mapping[type[nn.Module], Hook], missing: bool) -> None:
    for cls in dict.fromkeys(type(module) for module in model.modules()):
        name = f"{cls.__module__}.{cls.__qualname__}"
        if cls in custom:
            print(f"[INFO] {name} counts by {getattr(custom[cls], '__qualname__', custom[cls])}")
        elif cls in _KNOWN:
            print(f"[INFO] {name} counts by the rule of thop {_CONVENTION.version}")
        elif missing:
            print(f"[WARN] {name} has no rule in thop: no multiply-adds and no parameters of its own")


def clever_format(nums: Any, format: str = "%.2f") -> str | tuple[str, ...]:
    """Numbers with the letter of their unit, T, G, M, K or B: one as a string, several as a tuple."""
    numbers = list(nums) if hasattr(nums, "__iter__") else [nums]
    texts = tuple(_short(number, format) for number in numbers)
    return texts[0] if len(texts) == 1 else texts


def _short(number: float, digits: str) -> str:
    scale, letter = next(((scale, letter) for scale, letter in _UNITS if number > scale), (1, "B"))
    return digits % (number / scale) + letter


__all__ = ["clever_format", "profile"]
