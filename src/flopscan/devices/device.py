"""Device: the peak rates of a machine, each with where it was read and when; what could not be sourced is None."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flopscan.core.document import expect, read_document, write_document
from flopscan.errors import SchemaError

SCHEMA = "flopscan.device/1"
DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure stands (an address, or a document by its title), the day that it was read, and in what quotation.

    ``through`` is empty where the source itself was read.
    """

    url: str
    read: str
    through: str = ""

    def __str__(self) -> str:
        return f"{self.url}, read {self.read}" + (f" as quoted at {self.through}" if self.through else "")


@dataclass(frozen=True, slots=True)
class Figure:
    """A rate or a size; ``value`` is None where the device has it and no source gives it.

    ``how`` tells how it was derived.
    """

    value: float | None
    source: Source
    how: str = ""


@dataclass(frozen=True)
class Device:
    """What a device can do a second at most.

    ``memory`` is in bytes, ``bandwidth`` in bytes a second. ``matrix`` and ``vector`` are FLOP/s by dtype (a
    multiply-add is 2), dense; a dtype that is missing is not one that these units have. ``special`` is how many
    exponentials, logarithms or roots a second the unit for them gives; None where the device has no such unit, or where
    nothing is known of it. ``measured`` are rates that were measured on one.
    """

    name: str
    title: str
    kind: str
    memory: Figure
    bandwidth: Figure
    matrix: Mapping[str, Figure] = field(default_factory=dict)
    vector: Mapping[str, Figure] = field(default_factory=dict)
    special: Figure | None = None
    measured: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, Figure]:
        """Every figure by its name: ``memory``, ``matrix bf16``, ``special`` ..."""
        found = {"memory": self.memory, "bandwidth": self.bandwidth}
        for unit, rates in (("matrix", self.matrix), ("vector", self.vector)):
            found.update({f"{unit} {dtype}": rates[dtype] for dtype in DTYPES if dtype in rates})
        if self.special is not None:
            found["special"] = self.special
        return {**found, **{f"measured {name}": figure for name, figure in self.measured.items()}}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the device as versioned JSON, atomically; ``--device PATH`` takes it."""
        write_document(path, self.to_dict())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Device:
        """The device in ``path``. Raises SchemaError for a file of another kind or version."""
        return Device.from_dict(read_document(path, SCHEMA), os.fspath(path))

    def to_dict(self) -> dict[str, Any]:
        """The device as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "memory": _to_dict(self.memory),
            "bandwidth": _to_dict(self.bandwidth),
            "matrix": {dtype: _to_dict(figure) for dtype, figure in self.matrix.items()},
            "vector": {dtype: _to_dict(figure) for dtype, figure in self.vector.items()},
            "special": None if self.special is None else _to_dict(self.special),
            "measured": {name: _to_dict(figure) for name, figure in self.measured.items()},
            "notes": list(self.notes),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any], source: str = "the data") -> Device:
        """The device that `to_dict` wrote."""
        with expect(source, SCHEMA):
            device = Device(
                str(data["name"]), str(data["title"]), str(data["kind"]),
                _from_dict(data["memory"]), _from_dict(data["bandwidth"]),
                {dtype: _from_dict(figure) for dtype, figure in data["matrix"].items()},
                {dtype: _from_dict(figure) for dtype, figure in data["vector"].items()},
                None if data["special"] is None else _from_dict(data["special"]),
                {name: _from_dict(figure) for name, figure in data["measured"].items()},
                tuple(map(str, data["notes"])),
            )  # fmt: skip
        for name, figure in device.figures().items():
            if figure.value is not None and not (figure.value > 0 and math.isfinite(figure.value)):
                raise SchemaError(f"{source}: {name} is {figure.value}; expected a number above 0, or null for unknown")
        unknown = sorted({*device.matrix, *device.vector} - {*DTYPES})
        if unknown:
            raise SchemaError(f"{source} has a rate for {unknown[0]!r}; expected {', '.join(DTYPES)}")
        return device


def _to_dict(figure: Figure) -> dict[str, Any]:
    data = {"value": figure.value, "source": figure.source.url, "read": figure.source.read}
    more = {"through": figure.source.through, "how": figure.how}
    return {**data, **{name: text for name, text in more.items() if text}}


def _from_dict(data: Mapping[str, Any]) -> Figure:
    value = None if data["value"] is None else float(data["value"])
    source = Source(str(data["source"]), str(data["read"]), str(data.get("through", "")))
    return Figure(value, source, str(data.get("how", "")))
