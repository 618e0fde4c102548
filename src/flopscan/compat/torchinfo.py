"""torchinfo's call, counted by flopscan: ``from flopscan.compat.torchinfo import summary``.

>>> from torch import nn
>>> summary(nn.Linear(10, 20), input_size=(1, 10), verbose=0).total_mult_adds
220

torchinfo need not be installed, and the model is run on shapes alone. Multiply-adds are those of the convention
``torchinfo``; a weight that is pruned by a mask counts as if it were whole.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flopscan.capture.build import unwrapped
from flopscan.capture.ends import leaves
from flopscan.compat import _counting
from flopscan.compat._layers import Layer, Listing
from flopscan.errors import UsageError

_TITLES = {
    "kernel_size": "Kernel Shape", "input_size": "Input Shape", "output_size": "Output Shape", "num_params": "Param #",
    "params_percent": "Param %", "mult_adds": "Mult-Adds", "trainable": "Trainable",
}  # fmt: skip
_OF_A_RUN = {"input_size", "output_size", "mult_adds"}
_ROWS = {"depth", "var_names", "ascii_only", "hide_recursive_layers"}


def summary(
    model: nn.Module,
    input_size: Any = None,
    input_data: Any = None,
    batch_dim: int | None = None,
    cache_forward_pass: bool | None = None,
    col_names: Iterable[str] | None = None,
    col_width: int = 25,
    depth: int = 3,
    device: Any = None,
    dtypes: Sequence[torch.dtype] | None = None,
    mode: str | None = None,
    row_settings: Iterable[str] | None = None,
    verbose: int | None = None,
    **kwargs: Any,
) -> ModelStatistics:
    """The layers of ``model`` with shapes, parameters and multiply-adds; printed unless ``verbose`` is 0.

    The input is ``input_size`` (one size or several; without the batch where ``batch_dim`` says where that goes) or
    ``input_data`` (a tensor, a list of arguments, a dictionary of named ones), and ``kwargs``. Without any, no shapes
    are known. ``mode`` is ``eval`` (the default) or ``train``. ``device`` and ``cache_forward_pass`` have no effect.
    """
    runs = input_size is not None or input_data is not None
    columns = [_plain(c) for c in col_names] if col_names is not None else ["output_size", "num_params"]
    columns = ["num_params"] if col_names is None and not runs else columns
    settings = {"depth"} if row_settings is None else {_plain(row) for row in row_settings}
    verbose = (0 if hasattr(sys, "ps1") and sys.ps1 else 1) if verbose is None else verbose
    mode = "eval" if mode is None else _plain(mode)
    _check(columns, settings, mode, verbose, col_width, input_size is not None, input_data is not None)
    model = unwrapped(model)
    sizes = _sizes(input_size) if input_size is not None else []
    listing, ledger = Listing(model, batch_dim), None
    given: tuple[Any, ...] = ()
    if runs:
        args, named = _operands(sizes, input_data, batch_dim, dtypes)
        given = (args, named)
        with listing.watching():
            ledger = _counting.ledger_of(
                model, args, {**named, **kwargs}, training=mode == "train", begin=listing.begin
            )
    shown = sizes or [tuple(t.shape) for t in leaves(given)]
    moved = sum(t.numel() * t.element_size() for t in leaves(given))
    found = ModelStatistics(
        listing.finished(ledger), shown, moved, Format(columns, col_width, depth, settings, verbose)
    )
    if verbose:
        print(found)
    return found


def _plain(name: Any) -> str:
    return str(getattr(name, "value", name))


def _check(
    columns: list[str], settings: set[str], mode: str, verbose: int, width: int, has_size: bool, has_data: bool
) -> None:
    """Raise UsageError for what the call cannot mean."""
    for what, known, given in (("col_names", set(_TITLES), set(columns)), ("row_settings", _ROWS, settings)):
        if given - known:
            raise UsageError(f"{what} knows {', '.join(sorted(known))}, got {', '.join(sorted(given - known))}")
    if mode not in ("eval", "train"):
        raise UsageError(f"mode is 'eval' or 'train', got {mode!r}")
    if verbose not in (0, 1, 2) or width <= 0:
        raise UsageError(f"verbose is 0, 1 or 2 and col_width above 0, got {verbose} and {width}")
    if has_size and has_data:
        raise UsageError("give input_size or input_data, and not both")
    if not (has_size or has_data) and _OF_A_RUN & set(columns):
        raise UsageError(f"the columns {', '.join(sorted(_OF_A_RUN & set(columns)))} need input_size or input_data")


def _sizes(given: Any) -> list[tuple[int, ...]]:
    """The sizes of each input."""
    if not isinstance(given, (list, tuple)) or not given:
        raise UsageError(f"input_size is a tuple of sizes, or several of them; got {given!r}")
    several = [tuple(given)] if isinstance(given[0], int) else [tuple(size) for size in given]
    if any(n <= 0 for size in several for n in size):
        raise UsageError(f"input_size has sizes above 0; got {given!r}")
    return several


def _operands(
    sizes: list[tuple[int, ...]], data: Any, batch_dim: int | None, dtypes: Sequence[torch.dtype] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The model's arguments by place and by name."""
    if isinstance(data, Mapping):
        return (), dict(data)
    if data is not None:
        return ((data,), {}) if isinstance(data, Tensor) or not isinstance(data, (list, tuple)) else (tuple(data), {})
    made = []
    for size, dtype in zip(sizes, dtypes or [torch.float] * len(sizes), strict=False):
        full = size if batch_dim is None else (*size[:batch_dim], 1, *size[batch_dim:])
        whole = not (dtype.is_floating_point or dtype.is_complex)
        made.append(torch.zeros(full, dtype=dtype) if whole else torch.empty(full, dtype=dtype, device="meta"))
    return tuple(made), {}


class Format:
    """How the table looks."""

    def __init__(self, columns: list[str], width: int, depth: int, settings: set[str], verbose: int) -> None:
        self.columns, self.width, self.depth, self.settings, self.verbose = columns, width, depth, settings, verbose

    def name(self, layer: Layer) -> str:
        """A layer by its class, and as asked for its name and number."""
        name = layer.class_name
        if "var_names" in self.settings and layer.var_name:
            name += f" ({layer.var_name})"
        return name + f": {layer.depth}-{layer.depth_index}" * ("depth" in self.settings and layer.depth > 0)

    def indent(self, depth: int) -> str:
        """The lines of the tree before a name."""
        bar, first, branch = ("|    ", "+ ", "+ ") if "ascii_only" in self.settings else ("│    ", "├─", "└─")
        return "" if not depth else first if depth == 1 else bar * (depth - 1) + branch

    def row(self, wide: int, name: str, values: Mapping[str, str]) -> str:
        """A line of the table."""
        cells = [f"{values.get(column, ''):<{self.width}}" for column in self.columns]
        return " ".join([f"{name:<{wide}}", *cells]).rstrip()

    def lines(self, layers: list[Layer], total: int) -> tuple[int, list[str]]:
        """The width of the table, and its title and rows."""
        longest = max((len(self.name(layer)) + 5 * layer.depth + 1 for layer in layers), default=0)
        wide = 40 if longest < 40 else math.ceil(longest / 5) * 5
        details = " (var_name)" * ("var_names" in self.settings) + ":depth-idx" * ("depth" in self.settings)
        lines = [self.row(wide, f"Layer (type{details})", _TITLES)]
        for layer in layers:
            hidden = layer.is_recursive and "hide_recursive_layers" in self.settings
            if layer.depth <= self.depth and not hidden:
                last = layer.depth == self.depth
                lines.append(self.row(wide, self.indent(layer.depth) + self.name(layer), _values(layer, last, total)))
                if self.verbose == 2:
                    lines += [self.row(wide, self.indent(layer.depth + 1) + n, v) for n, v in _inner(layer)]
        return wide + self.width * len(self.columns), lines


def _values(layer: Layer, last: bool, total: int) -> dict[str, str]:
    """The columns of a row; the ``last`` level stands for what is below it too."""
    whole = last or layer.is_leaf_layer
    params = layer.num_params if whole else layer.leftover[0]
    number = f"{params:,}" if layer.trainable_params or not whole else f"({params:,})"
    share = f"{params / total:>7.2%}" if total and params else f"{'':5}--"
    macs = layer.macs if layer.is_leaf_layer else layer.macs_below if last and layer.has_weights() else None
    repeated = layer.is_recursive and "(recursive)"
    return {
        "kernel_size": str(layer.kernel_size or "--"),
        "input_size": str(layer.input_size or "--"),
        "output_size": str(layer.output_size or "--"),
        "num_params": "--" if not layer.num_params else repeated or (number if whole or params > 0 else "--"),
        "params_percent": share if not total else repeated or share,
        "mult_adds": "--" if macs is None or (layer.is_leaf_layer and not macs) else f"{macs:,}",
        "trainable": layer.trainable,
    }


def _inner(layer: Layer) -> list[tuple[str, dict[str, str]]]:
    """A row for each parameter; of the model itself its own alone."""
    rows = []
    for name, parameter in layer.parameters.items():
        if layer.depth or "." not in name:
            size = list(parameter.shape)
            if name == "weight" and len(size) > 1:
                size[:2] = size[1], size[0]
            rows.append((name, {"kernel_size": str(size), "num_params": f"├─{parameter.numel():,}"}))
    if rows:
        rows[-1][1]["num_params"] = rows[-1][1]["num_params"].replace("├", "└")
    return rows


class ModelStatistics:
    """What `summary` found: totals, the layers in ``summary_list``, and as text the table."""

    def __init__(
        self, layers: list[Layer], input_size: list[tuple[int, ...]], input_bytes: int, format: Format
    ) -> None:
        self.summary_list, self.input_size, self.total_input, self.formatting = layers, input_size, input_bytes, format
        leaves = [layer for layer in layers if layer.is_leaf_layer]
        own = [layer for layer in layers if not layer.is_recursive]
        params = [(x.num_params, x.trainable_params) if x.is_leaf_layer else x.leftover for x in own]
        self.total_params = sum(max(n, 0) for n, _ in params)
        self.trainable_params = sum(max(n, 0) for _, n in params)
        self.total_mult_adds = sum(layer.macs for layer in leaves)
        self.total_param_bytes = sum(layer.param_bytes for layer in leaves if not layer.is_recursive)
        self.total_output_bytes = sum(2 * layer.output_bytes for layer in leaves if layer.num_params)

    def __repr__(self) -> str:
        width, (title, *rows) = self.formatting.lines(self.summary_list, self.total_params)
        rule, frozen = "=" * width, self.total_params - self.trainable_params
        lines = [rule, title, rule, *rows, rule, f"Total params: {self.total_params:,}"]
        lines += [f"Trainable params: {self.trainable_params:,}", f"Non-trainable params: {frozen:,}"]
        if self.input_size:
            sizes = {
                "Input": self.total_input, "Forward/backward pass": self.total_output_bytes,
                "Params": self.total_param_bytes,
            }  # fmt: skip
            lines += [f"Total mult-adds{_short(self.total_mult_adds)}", rule]
            lines += [f"{name} size (MB): {size / 1e6:.2f}" for name, size in sizes.items()]
            lines.append(f"Estimated Total Size (MB): {sum(sizes.values()) / 1e6:.2f}")
        return "\n".join([*lines, rule])


def _short(count: int) -> str:
    """`` (G): 4.11``."""
    size, letter = next(((s, unit) for s, unit in ((1e12, "T"), (1e9, "G")) if count >= s), (1e6, "M"))
    number = count / size
    return f" ({letter}): {int(number):,}" if number.is_integer() else f" ({letter}): {number:,.2f}"


__all__ = ["ModelStatistics", "summary"]
