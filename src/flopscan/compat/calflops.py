"""calflops' call, counted by flopscan: ``from flopscan.compat.calflops import calculate_flops``.

>>> from torch import nn
>>> calculate_flops(nn.Linear(10, 20), input_shape=(1, 10), output_as_string=False, print_results=False)
(400, 200, 220)

calflops need not be installed, and the model is run on shapes alone, in evaluation mode; it is in its own mode
afterwards. Numbers are those of the conventions ``calflops`` and ``calflops-macs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from flopscan import conventions
from flopscan.capture.build import unwrapped
from flopscan.compat import _counting
from flopscan.compat._shown import shown
from flopscan.core.ledger import Ledger
from flopscan.errors import UsageError

_FLOPS, _MACS = conventions.get("calflops"), conventions.get("calflops-macs")
_SHARED = "a module under two parents counts for both"
_UNITS = {"T": 1e12, "G": 1e9, "M": 1e6, "K": 1e3, "": 1.0, "m": 1e-3, "u": 1e-6}


def calculate_flops(
    model: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    transformer_tokenizer: Any = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    forward_mode: str = "forward",
    include_backPropagation: bool = False,
    compute_bp_factor: float = 2.0,
    print_results: bool = True,
    print_detailed: bool = True,
    output_as_string: bool = True,
    output_precision: int = 2,
    output_unit: str | None = None,
    ignore_modules: Sequence[type[nn.Module]] | None = None,
) -> tuple[Any, Any, Any]:
    """FLOPs, multiply-adds and trainable parameters of one run of ``model``, as text with units or as numbers.

    The input is ``input_shape``, batch included, or ``args`` and ``kwargs``, or what ``transformer_tokenizer`` makes of
    nothing, padded to ``input_shape``. ``forward_mode="generate"`` counts ``model.generate``. The gradient, if it is
    included, is ``compute_bp_factor`` times the forward. Functions in classes of ``ignore_modules`` count for the
    module around them, as in calflops; a recurrent layer that is ignored counts nothing.
    """
    if forward_mode not in ("forward", "generate"):
        raise UsageError(f"forward_mode is 'forward' or 'generate', got {forward_mode!r}")
    model = unwrapped(model)
    given = _inputs(model, input_shape, transformer_tokenizer, args, kwargs or {})
    run = model if forward_mode == "forward" else _Generate(model)
    ledger = _counting.ledger_of(run, *given, training=False)
    counts = _Counts.of(run, ledger, frozenset(ignore_modules or ()) | {_Generate})
    flops, macs = counts.total(model, counts.flops), counts.total(model, counts.macs)
    params, backward = _trainable(model), 1 + compute_bp_factor
    if print_results:
        _print(model, counts, backward, output_unit, output_precision, print_detailed)
    results: list[Any] = [flops, macs]
    if include_backPropagation:
        results = [flops * backward, macs * backward]
    if not output_as_string:
        return results[0], results[1], params
    unit, digits = output_unit, output_precision
    texts = flops_to_string(results[0], unit, digits), macs_to_string(results[1], unit, digits)
    return *texts, params_to_string(params, unit, digits)


class _Generate(nn.Module):  # type: ignore[misc]  # torch is not followed
    """A model whose run is its ``generate``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model.generate(*args, **kwargs)


def _inputs(
    model: nn.Module, shape: tuple[int, ...] | None, tokenizer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The model's arguments by place and by name."""
    if shape is not None and (args or kwargs):
        raise UsageError("give input_shape, or args and kwargs, and not both")
    if shape is not None and (type(shape) is not tuple or not shape):
        raise UsageError(f"input_shape is a tuple of sizes with the batch, as in (1, 3, 224, 224); got {shape!r}")
    if tokenizer is not None:
        if shape is not None and len(shape) != 2:
            raise UsageError(f"with a tokenizer input_shape is (batch, length), got {shape}")
        return (), _tokens(tokenizer, *(shape or (1, 128)))
    if shape is None and not args and not kwargs:
        raise UsageError("there is no input: give input_shape, or args and kwargs")
    if shape is None:
        return tuple(args), dict(kwargs)
    parameter = next(model.parameters(), None)
    return (torch.empty(shape, dtype=None if parameter is None else parameter.dtype, device="meta"),), {}


def _tokens(tokenizer: Any, batch: int, length: int) -> dict[str, Any]:
    """What ``tokenizer`` makes of an empty text, padded to ``length``, ``batch`` times."""
    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)}
    found = {}
    for name, values in tokenizer("").items():
        if len(values) > length:
            raise UsageError(f"the tokenizer begins with {len(values)} tokens, more than the length {length}")
        row = [*values, *[padding.get(name, 0)] * (length - len(values))]
        found[name] = torch.tensor([row] * batch, dtype=torch.int64)
    return found


@dataclass(frozen=True)
class _Counts:
    """What each module (by id) counts by itself."""

    flops: dict[int, int]
    macs: dict[int, int]

    @staticmethod
    def of(model: nn.Module, ledger: Ledger, ignored: frozenset[type]) -> _Counts:
        """The counts of a ledger. A function counts for the module that calls it, or the first around with a hook."""
        owners = [_owner(model, m.path, ignored) for m in ledger.trace.modules]
        tables: list[dict[int, int]] = []
        for convention in (_FLOPS, _MACS):
            table: dict[int, int] = {}
            settle = {name: step for name, step in convention.settle.items() if name != _SHARED}
            counts = replace(convention, settle=settle).counts(ledger)
            for record, count in zip(ledger.trace.records, counts, strict=True):
                owner, call = owners[record.module], ledger.trace.calls[record.call]
                if count and owner is not None and not (call.op.startswith("module::") and _names(call.op, ignored)):
                    table[id(owner)] = table.get(id(owner), 0) + count
            tables.append(table)
        return _Counts(*tables)

    def total(self, module: nn.Module, table: Mapping[int, int]) -> int:
        """A module with all below it; one under two parents counts for both."""
        return table.get(id(module), 0) + sum(self.total(child, table) for child in module.children())


def _owner(model: nn.Module, path: str, ignored: frozenset[type]) -> nn.Module | None:
    """The nearest module on ``path`` that is part of ``model`` and not ignored."""
    for above in _counting.above(path):
        try:
            module = model.get_submodule(above)
        except AttributeError:
            continue
        if type(module) not in ignored:
            return module
    return None


def _names(op: str, classes: frozenset[type]) -> bool:
    return any(op == f"module::{cls.__module__}.{cls.__qualname__}" for cls in classes)


def _print(model: nn.Module, counts: _Counts, backward: float, unit: str | None, digits: int, detailed: bool) -> None:
    """Totals, and the model with the numbers of each module."""
    flops, macs, params = counts.total(model, counts.flops), counts.total(model, counts.macs), _trainable(model)
    rows = {
        "parameters that are trained": params_to_string(params),
        "forward MACs": macs_to_string(macs, unit, digits),
        "forward FLOPs": flops_to_string(flops, unit, digits),
        "forward and backward MACs": macs_to_string(macs * backward, unit, digits),
        "forward and backward FLOPs": flops_to_string(flops * backward, unit, digits),
    }
    print(f"FLOPs and MACs as calflops counts them; a gradient is taken for {backward - 1:.2f} times the forward")
    for title, text in rows.items():
        print(f"{title + ':':<72}{text}")

    def lines(module: nn.Module, name: str) -> list[str]:
        own = _trainable(module), counts.total(module, counts.macs), counts.total(module, counts.flops)
        written = zip(
            (params_to_string, macs_to_string, flops_to_string), own, (params, macs, flops),
            ("Params", "MACs", "FLOPs"), strict=True,
        )  # fmt: skip
        texts = [
            f"{convert(part)} = {round(100 * part / whole, digits) if whole else 0:g}% {title}"
            for convert, part, whole, title in written
        ]
        return ", ".join(filter(None, [*texts, module.extra_repr()])).split("\n")

    if detailed:
        print(shown(model, lines))


def _trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def number_to_string(num: float, units: str | None = None, precision: int = 2) -> str:
    """``num`` in units of T, G, M or K, or in the unit asked for."""
    if units is None:
        fitting = (name for name, size in _UNITS.items() if num >= size)
        units = next(fitting, "u") if num else ""
    return f"{round(num / _UNITS.get(units, 1), precision):g} {units}"


def flops_to_string(flops: float, units: str | None = None, precision: int = 2) -> str:
    """``1.5 GFLOPS``."""
    return f"{number_to_string(flops, units, precision)}FLOPS"


def macs_to_string(macs: float, units: str | None = None, precision: int = 2) -> str:
    """``1.5 GMACs``."""
    return f"{number_to_string(macs, units, precision)}MACs"


def params_to_string(params_num: float, units: str | None = None, precision: int = 2) -> str:
    """``1.5 M``."""
    unit = units.replace("B", "G") if units else units
    return number_to_string(params_num, unit, precision).replace("G", "B").strip()


__all__ = ["calculate_flops", "flops_to_string", "macs_to_string", "number_to_string", "params_to_string"]
