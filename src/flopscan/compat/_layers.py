"""The layers of a model as torchinfo lists them: one row a call, in order, and the containers around."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from flopscan import conventions
from flopscan.core.ledger import Ledger


@dataclass(frozen=True, eq=False)
class Place:
    """Where a module stands in the model; of several places the last."""

    name: str
    module: nn.Module
    depth: int
    parent: Place | None

    def around(self) -> list[Place]:
        """The modules around it, without the model itself, from the outside."""
        if self.parent is None or not self.parent.depth:
            return []
        return [*self.parent.around(), self.parent]


@dataclass(eq=False)
class Layer:
    """A call of a module, or a container that is not called: a row of the table."""

    place: Place
    is_recursive: bool
    input_size: list[int] = field(default_factory=list)
    output_size: list[int] = field(default_factory=list)
    output_bytes: int = 0
    macs: int = 0
    depth_index: int = 0
    children: list[Layer] = field(default_factory=list)  # all that is below it

    @property
    def module(self) -> nn.Module:
        """The module that was called."""
        return self.place.module

    @property
    def var_name(self) -> str:
        """The attribute that holds it."""
        return self.place.name

    @property
    def depth(self) -> int:
        """How deep it is in the model, which is 0."""
        return self.place.depth

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return type(self.module).__name__

    @property
    def is_leaf_layer(self) -> bool:
        """Whether nothing is below it."""
        return not any(True for _ in self.module.children())

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name, those below it too."""
        uninitialized = nn.parameter.UninitializedTensorMixin
        return {n: p for n, p in self.module.named_parameters() if not isinstance(p, uninitialized)}

    @functools.cached_property
    def num_params(self) -> int:
        """The elements of all parameters."""
        return sum(p.numel() for p in self.parameters.values())

    @functools.cached_property
    def trainable_params(self) -> int:
        """Of these, those that need a gradient."""
        return sum(p.numel() for p in self.parameters.values() if p.requires_grad)

    @property
    def param_bytes(self) -> int:
        """The bytes of all parameters."""
        return sum(p.numel() * p.element_size() for p in self.parameters.values())

    @property
    def trainable(self) -> str:
        """``True``, ``False``, ``Partial``, or ``--`` without parameters."""
        if not self.num_params:
            return "--"
        part = self.trainable_params
        return "False" if not part else "True" if part == self.num_params else "Partial"

    @property
    def kernel_size(self) -> int | list[int] | None:
        """The setting of this name, where there is one."""
        size = getattr(self.module, "kernel_size", None)
        return list(size) if isinstance(size, (tuple, list)) else size

    @functools.cached_property
    def leftover(self) -> tuple[int, int]:
        """The parameters, and those trained, that no row below it has: what is below twice is taken away twice."""
        below = [(c.num_params, c.trainable_params) if c.is_leaf_layer else c.leftover for c in self._counted_below()]
        return self.num_params - sum(n for n, _ in below), self.trainable_params - sum(n for _, n in below)

    def _counted_below(self) -> list[Layer]:
        return [child for child in self.children if not child.is_recursive]

    @property
    def macs_below(self) -> int:
        """The multiply-adds of all leaves below it."""
        return sum(child.macs for child in self.children if child.is_leaf_layer)

    def has_weights(self) -> bool:
        """Whether torchinfo takes it for something that multiplies."""
        made = bool(self.output_size) and math.prod(self.output_size) > 0
        return made and any("weight" in name or "bias" in name for name in self.parameters)


class Listing:
    """The rows of a model, filled while it runs inside of `watching`."""

    def __init__(self, model: nn.Module, batch_dim: int | None = None) -> None:
        self.rows: list[Layer] = []
        self._batch_dim = batch_dim
        self._places: dict[int, Place] = {}
        self._all: list[Place] = []
        self._met: set[int] = set()
        self._running: dict[int, Layer] = {}
        self._place(Place(type(model).__name__, model, 0, None))

    def _place(self, place: Place) -> None:
        self._places[id(place.module)] = place
        self._all.append(place)
        for name, child in place.module._modules.items():
            if child is not None:
                self._place(Place(name, child, place.depth + 1, place))

    def begin(self) -> None:
        """Forget what was written down."""
        self.rows, self._met, self._running = [], set(), {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, every call is written down; the hooks for that are gone afterwards, also on an error."""
        with contextlib.ExitStack() as stack:
            for place in self._places.values():
                stack.callback(place.module.register_forward_pre_hook(self._enter).remove)
                stack.callback(place.module.register_forward_hook(self._leave).remove)
            yield

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._running[id(module)] = self._row(self._places[id(module)])
        self.rows.append(self._running[id(module)])

    def _row(self, place: Place) -> Layer:
        layer = Layer(place, id(place.module) in self._met)
        self._met.add(id(place.module))
        return layer

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        layer = self._running[id(module)]
        layer.input_size, _ = _size(args)
        if self._batch_dim is not None and self._batch_dim < len(layer.input_size):
            layer.input_size[self._batch_dim] = 1
        layer.output_size, width = _size(output)
        layer.output_bytes = math.prod(layer.output_size) * width

    def finished(self, ledger: Ledger | None) -> list[Layer]:
        """All rows, with containers and multiply-adds; without a ledger those of a model that did not run."""
        if ledger is None:
            self.rows = [self._row(place) for place in self._all]
        else:
            self._count(ledger)
            self.rows = self._with_containers()
        numbers: dict[int, int] = {}
        for i, layer in enumerate(self.rows):
            layer.depth_index = numbers[layer.depth] = numbers.get(layer.depth, 0) + 1
            end = next((j for j in range(i + 1, len(self.rows)) if self.rows[j].depth <= layer.depth), len(self.rows))
            layer.children = self.rows[i + 1 : end]
        return self.rows

    def _count(self, ledger: Ledger) -> None:
        """What the convention gives for each call, by module and size of the result."""
        root = self._all[0].module
        named = {name: id(module) for name, module in root.named_modules(remove_duplicate=False)}
        found: dict[tuple[int, tuple[int, ...]], int] = {}
        counts = conventions.get("torchinfo").counts(ledger)
        for record, count in zip(ledger.trace.records, counts, strict=True):
            call, path = ledger.trace.calls[record.call], ledger.trace.modules[record.module].path
            if count and path in named:
                found[named[path], tuple(call.out.shape)] = count // record.count
        for layer in self.rows:
            layer.macs = found.get((id(layer.module), tuple(layer.output_size)), 0)

    def _with_containers(self) -> list[Layer]:
        """The rows, and before each the modules around it that are not in the list above it."""
        rows: list[Layer] = []
        current: dict[int, Place] = {}
        for layer in self.rows:
            for place in layer.place.around():
                if place.depth not in current or current[place.depth].module is not place.module:
                    rows.append(self._row(place))
                    current[place.depth] = place
            current[layer.depth] = layer.place
            current = {depth: place for depth, place in current.items() if depth <= layer.depth}
            rows.append(layer)
        return rows


def _size(value: Any) -> tuple[list[int], int]:
    """The sizes of the first tensor in ``value``, of a dictionary the last, and the bytes of an element."""
    if isinstance(value, Tensor):
        return list(value.shape), value.element_size()
    if isinstance(value, dict):
        return _size(list(value.values())[-1]) if value else ([], 0)
    if isinstance(value, (list, tuple)) and value:
        return _size(value[0])
    return [], 0


__all__ = ["Layer", "Listing", "Place"]
