"""ptflops' calls, counted by flopscan: ``from flopscan.compat.ptflops import get_model_complexity_info``.

>>> from torch import nn
>>> get_model_complexity_info(nn.Linear(10, 20), (10,), as_strings=False, print_per_layer_stat=False)
(220, 220)

ptflops need not be installed, and the model is run on shapes alone, in evaluation mode; it is in its own mode
afterwards. Numbers are those of the conventions ``ptflops`` and ``ptflops-aten``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TextIO

import torch
from torch import nn

from flopscan import conventions
from flopscan.capture.build import unwrapped
from flopscan.compat import _counting, _units
from flopscan.compat._dispatched import dispatched
from flopscan.compat._shown import shown
from flopscan.core.trace import Call
from flopscan.errors import FlopscanError, UsageError

Stage = Callable[..., Any]
_LAYERS = conventions.get("ptflops")
_ALWAYS = {name: step for name, step in _LAYERS.settle.items() if name not in {bug.name for bug in _LAYERS.bugs}}


class FLOPS_BACKEND(Enum):
    """What is counted: layers and functions, or operators as they are dispatched."""

    PYTORCH = "pytorch"
    ATEN = "aten"


@dataclass(frozen=True)
class _Wish:
    """What the caller wants counted otherwise, and where and how to print."""

    ignored: Sequence[Any]
    hooks: Mapping[Any, Callable[..., Any]]
    functions: bool
    verbose: bool
    layers: bool
    ost: TextIO
    flops: Callable[[float], str]
    params: Callable[[float], str]


def get_model_complexity_info(
    model: nn.Module,
    input_res: tuple[int, ...],
    print_per_layer_stat: bool = True,
    as_strings: bool = True,
    input_constructor: Callable[[tuple[int, ...]], Any] | None = None,
    ost: TextIO | None = None,
    verbose: bool = False,
    ignore_modules: Sequence[Any] = (),
    custom_modules_hooks: Mapping[Any, Callable[..., Any]] | None = None,
    backend: str | FLOPS_BACKEND = FLOPS_BACKEND.PYTORCH,
    flops_units: str | None = None,
    param_units: str | None = None,
    output_precision: int = 2,
    backend_specific_config: Mapping[str, Any] | None = None,
) -> tuple[str | int | None, str | int | None]:
    """Multiply-adds and trainable parameters of ``model`` on one input of the sizes ``input_res``, without the batch.

    ``input_constructor`` makes the input from ``input_res``: a dictionary is given by name, anything else by place.
    ``custom_modules_hooks`` are hooks by class that add to ``__flops__`` of the module that they are called with (for
    the backend ``aten``: functions of operands and results, by operator); their tensors have shapes and no values.
    Like ptflops, it prints why a count failed and returns (None, None).
    """
    if type(input_res) is not tuple or not input_res:
        raise UsageError(f"input_res is a tuple of sizes without the batch, as in (3, 224, 224); got {input_res!r}")
    if not isinstance(model, nn.Module):
        raise UsageError(f"model is a torch.nn.Module, got {type(model).__name__}")
    ost = sys.stdout if ost is None else ost
    flops = _formatter(flops_to_string, flops_units, output_precision)
    wish = _Wish(
        ignored=ignore_modules, hooks=custom_modules_hooks or {}, verbose=verbose, layers=print_per_layer_stat, ost=ost,
        functions=(backend_specific_config or {}).get("count_functional", True), flops=flops,
        params=_formatter(params_to_string, param_units, output_precision),
    )  # fmt: skip
    count = _of_layers if FLOPS_BACKEND(backend) is FLOPS_BACKEND.PYTORCH else _of_operators
    try:
        macs = count(unwrapped(model), _operands(model, input_res, input_constructor), wish)
    except FlopscanError as error:
        print(f"nothing was counted: {error}", file=ost)
        return None, None
    params = _trainable(model)
    return (wish.flops(macs), wish.params(params)) if as_strings else (macs, params)


def _operands(
    model: nn.Module, input_res: tuple[int, ...], constructor: Callable[[tuple[int, ...]], Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The model's arguments by place and by name."""
    if constructor:
        made = constructor(input_res)
        return ((), made) if isinstance(made, dict) else ((made,), {})
    parameter = next(model.parameters(), None)
    return (torch.empty(1, *input_res, dtype=None if parameter is None else parameter.dtype, device="meta"),), {}


def _of_layers(model: nn.Module, operands: tuple[tuple[Any, ...], dict[str, Any]], wish: _Wish) -> int:
    """The sum over layers divided by the batch, and that over functions."""
    with _counting.watched([m for m in model.modules() if type(m) in wish.hooks]) as seen:
        ledger = _counting.ledger_of(model, *operands, training=False, begin=seen.clear)
    counts = replace(_LAYERS, settle=_ALWAYS).counts(ledger)
    own, _ = _counting.by_module(model, ledger, counts)
    calls = (ledger.trace.calls[record.call] for record in ledger.trace.records)
    functions = sum(count for call, count in zip(calls, counts, strict=True) if not call.op.startswith("module::"))
    layers: dict[int, float] = {**own, **_by_hooks(seen, wish)}
    batch = len(operands[0][0]) if operands[0] and hasattr(operands[0][0], "__len__") else 1
    kept = {id(m): 0.0 if type(m) in wish.ignored else layers.get(id(m), 0) for m in model.modules() if _known(m, wish)}

    def walk(module: nn.Module) -> float:
        return kept[id(module)] if id(module) in kept else sum(map(walk, module.children()))

    total = walk(model) / batch + (functions if wish.functions else 0)
    if wish.verbose:
        for cls in dict.fromkeys(type(m) for m in model.modules() if not _known(m, wish)):
            if cls not in (nn.Sequential, nn.ModuleList, *wish.ignored):
                print(f"no multiply-adds for {cls.__name__}: ptflops does not know it", file=wish.ost)
    if wish.layers:
        _print_layers(model, wish, lambda module: walk(module) / batch, total)
    return int(total)


def _by_hooks(seen: list[_counting.Seen], wish: _Wish) -> dict[int, float]:
    """What the user's hooks add to ``__flops__`` of each module (by id)."""
    found: dict[int, float] = {}
    for call in seen:
        if type(call.module) in wish.ignored:
            continue
        attributes = call.module.__dict__
        before = dict(attributes)
        attributes["__flops__"] = found.get(id(call.module), 0)
        try:
            _counting.asked(wish.hooks[type(call.module)], call)
            found[id(call.module)] = attributes["__flops__"]
        finally:
            attributes.clear()
            attributes.update(before)
    return found


def _known(module: nn.Module, wish: _Wish) -> bool:
    cls = type(module)
    return cls in wish.hooks or f"module::{cls.__module__}.{cls.__qualname__}" in _LAYERS.through


def _print_layers(model: nn.Module, wish: _Wish, count: Callable[[nn.Module], float], total: float) -> None:
    """The model as it prints itself, with parameters and multiply-adds of each layer."""
    whole = max(_trainable(model), 1)

    def params(module: nn.Module) -> int:
        if _known(module, wish):
            return 0 if type(module) in wish.ignored else _trainable(module)
        return sum(map(params, module.children()))

    def lines(module: nn.Module, name: str) -> list[str]:
        macs, own = count(module), params(module)
        texts = [
            wish.params(own), f"{own / whole:.3%} Params", wish.flops(macs), f"{macs / max(total, 1):.3%} MACs",
            module.extra_repr(),
        ]  # fmt: skip
        return ", ".join(filter(None, texts)).split("\n")

    print(shown(model, lines), file=wish.ost)


def _of_operators(model: nn.Module, operands: tuple[tuple[Any, ...], dict[str, Any]], wish: _Wish) -> int:
    """The sum over operators as they are dispatched, forward alone."""
    ledger = _counting.ledger_of(model, *operands, training=False)
    convention = conventions.get("ptflops-aten")
    changed = {_name(op): _asked(hook) for op, hook in wish.hooks.items()}
    changed.update({_name(op): lambda call: 0 for op in wish.ignored})
    counts = replace(convention, handles={**convention.handles, **changed}).counts(ledger)
    if wish.layers:
        _print_operators(ledger, counts, wish)
    return sum(counts)


def _print_operators(ledger: Any, counts: list[int], wish: _Wish) -> None:
    """What each operator adds, in all and in each child of the model."""
    found: dict[str, dict[str, int]] = {"Global": {}}
    for record, count in zip(ledger.trace.records, counts, strict=True):
        top = ledger.trace.modules[record.module].path.partition(".")[0]
        for name in ("Global", top) if count else ():
            operators = found.setdefault(name or "Global", {})
            if name:
                op = ledger.trace.calls[record.call].op.replace("::", ".")
                operators[op] = operators.get(op, 0) + count
    print(f"Total: {wish.flops(sum(counts))}", file=wish.ost)
    for name, operators in found.items():
        print(f"Module: {name}", *(f"{op}: {wish.flops(n)}" for op, n in operators.items()), sep="\n", file=wish.ost)


def _asked(hook: Callable[..., Any]) -> Callable[[Call], int]:
    def count(call: Call) -> int:
        args, _, out = dispatched(call, True)
        return int(hook(tuple(args), out if isinstance(out, tuple) else (out,)))

    return count


def _name(op: Any) -> str:
    name = getattr(op, "_qualified_op_name", None)
    if not isinstance(name, str):
        raise UsageError(f"the backend aten takes hooks and ignored ones by operator, as torch.ops.aten.mm; got {op!r}")
    return name


def _trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _formatter(convert: Callable[..., str], units: str | None, precision: int) -> Callable[[float], str]:
    return lambda number: convert(number, units=units, precision=precision)


def flops_to_string(flops: float, units: str | None = None, precision: int = 2) -> str:
    """Multiply-adds as text, in ``GMac``, ``MMac``, ``KMac`` or ``Mac``."""
    return _units.rounded(flops, {"GMac": 10**9, "MMac": 10**6, "KMac": 10**3}, "Mac", units, precision)


def params_to_string(params_num: float, units: str | None = None, precision: int = 2) -> str:
    """Parameters as text: in ``M``, ``k`` or none by size, or in the unit asked for, ``B``, ``M`` or ``K``."""
    if units is None:
        return _units.rounded(params_num, {"M": 10**6, "k": 10**3}, "", None, precision)
    return _units.rounded(params_num, {"B": 10**9, "M": 10**6, "K": 10**3}, "", units, precision)


__all__ = ["FLOPS_BACKEND", "flops_to_string", "get_model_complexity_info", "params_to_string"]
