"""Trace: what a capture saw, folded, as plain frozen data. No torch, no prices.

A trace holds each distinct call once (`calls`) and says where and how often each was made (`records`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flopscan.core.document import expect, read_document, write_document

SCHEMA = "flopscan.trace/2"

_BITS = {
    "bool": 8, "uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "uint32": 32, "int32": 32, "uint64": 64, "int64": 64,
    "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "complex32": 32, "complex64": 64, "complex128": 128,
    "quint8": 8, "qint8": 8, "qint32": 32, "bits8": 8, "bits16": 16, "float4_e2m1fn_x2": 8,
}  # fmt: skip


def itemsize(dtype: str) -> int:
    """The bytes of one element of ``dtype``; every float8 form takes one."""
    return 1 if dtype.startswith("float8") else _BITS.get(dtype, 32) // 8


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The shape, dtype, strides and layout of a tensor; ``strides`` is None where it is contiguous or sparse."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    strides: tuple[int, ...] | None = None
    layout: str = "strided"

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that must be moved to read it once: a dimension expanded with stride 0 is stored once."""
        stored = self.numel
        if self.strides is not None and stored:
            stored = math.prod(s for s, step in zip(self.shape, self.strides, strict=True) if step or s < 2)
        return stored * itemsize(self.dtype)

    @property
    def is_float(self) -> bool:
        """Whether arithmetic on it is floating-point arithmetic (complex counts)."""
        return self.dtype.startswith(("float", "bfloat", "complex"))

    @property
    def is_complex(self) -> bool:
        """Whether an element is a pair of numbers."""
        return self.dtype.startswith("complex")

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Call:
    """One distinct call: operator name, operands by the names of its signature, results."""

    op: str
    args: Mapping[str, Any]
    outputs: tuple[TensorSpec, ...] = ()

    def tensors(self) -> Iterator[TensorSpec]:
        """The tensor operands, those inside lists included, in order of the signature."""
        for value in self.args.values():
            if isinstance(value, TensorSpec):
                yield value
            elif isinstance(value, (list, tuple)):
                yield from (v for v in value if isinstance(v, TensorSpec))

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The operand ``name``, or ``default`` where it was not given."""
        return self.args.get(name, default)

    @property
    def out(self) -> TensorSpec:
        """The first result."""
        return self.outputs[0]

    def shapes(self) -> str:
        """Operand and result shapes in one line, for people."""
        left = ", ".join("x".join(map(str, t.shape)) or "()" for t in self.tensors())
        right = ", ".join("x".join(map(str, t.shape)) or "()" for t in self.outputs)
        return f"{left} -> {right}"


@dataclass(frozen=True, slots=True)
class Module:
    """A module that was called: path from the root, class name, parameters of its own (without its children).

    ``same`` is the first path (by index) of a module that has several, as one layer under two parents; -1 elsewhere.
    """

    path: str
    cls: str
    params: int = 0
    same: int = -1


@dataclass(frozen=True, slots=True)
class Record:
    """``count`` identical calls from one place.

    ``inside`` is the frame (by index) that it was made in. An envelope (``envelope=True``) is a function as the user
    wrote it (``torch::adaptive_avg_pool2d``) or a call of a module (``module::torch.nn.modules.linear.Linear``): it
    is never priced, and conventions that count functions or modules read it. ``branch`` marks a record inside a
    conditional whose outcome is a value, as ``group.number`` (nested: joined by ``/``); the price keeps the larger
    branch of a group.
    """

    call: int
    module: int
    count: int
    phase: str = "forward"
    inside: int = -1
    line: int = -1
    envelope: bool = False
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """An envelope that operators were made in: its call, and the frame around it (-1 for none)."""

    call: int
    parent: int = -1


@dataclass(frozen=True)
class Trace:
    """Everything that a price needs: calls, where they were made, the modules, and where it all comes from."""

    calls: tuple[Call, ...]
    records: tuple[Record, ...]
    modules: tuple[Module, ...]
    lines: tuple[str, ...] = ()
    params: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()

    def save(self, path: str) -> None:
        """Write the trace as versioned JSON, atomically."""
        write_document(path, self.to_dict())

    @staticmethod
    def load(path: str) -> Trace:
        """The trace in ``path``. Raises SchemaError for a file of another kind or version."""
        return Trace.from_dict(read_document(path, SCHEMA), path)

    def to_dict(self) -> dict[str, Any]:
        """The trace as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "origin": dict(self.origin),
            "params": self.params,
            "modules": [[m.path, m.cls, m.params, *([m.same] if m.same >= 0 else [])] for m in self.modules],
            "lines": list(self.lines),
            "calls": [
                [c.op, {k: _encode(v) for k, v in c.args.items()}, [_encode(o) for o in c.outputs]] for c in self.calls
            ],
            "frames": [[f.call, f.parent] for f in self.frames],
            "records": [
                [r.call, r.module, r.count, r.phase, r.inside, r.line, r.envelope, r.branch] for r in self.records
            ],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any], source: str = "the data") -> Trace:
        """The trace that `to_dict` wrote."""
        with expect(source, SCHEMA):
            calls = tuple(
                Call(op, {k: _decode(v) for k, v in args.items()}, tuple(_decode(o) for o in outputs))
                for op, args, outputs in data["calls"]
            )
            trace = Trace(
                calls,
                tuple(Record(*r) for r in data["records"]),
                tuple(Module(*m) for m in data["modules"]),
                tuple(data["lines"]),
                int(data["params"]),
                dict(data["origin"]),
                tuple(Frame(*f) for f in data["frames"]),
            )
            for record in trace.records:  # an index out of range is a damaged file, found here and not in a report
                trace.calls[record.call], trace.modules[record.module]
                if record.inside >= 0:
                    trace.calls[trace.frames[record.inside].call]
        return trace


def _encode(value: Any) -> Any:
    if isinstance(value, TensorSpec):
        spec: dict[str, Any] = {"tensor": list(value.shape), "dtype": value.dtype}
        if value.strides is not None:
            spec["strides"] = list(value.strides)
        if value.layout != "strided":
            spec["layout"] = value.layout
        return spec
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, complex):
        return {"complex": [_encode(value.real), _encode(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if isinstance(value, dict):
        if "tensor" in value:
            strides = value.get("strides")
            steps = None if strides is None else tuple(strides)
            return TensorSpec(tuple(value["tensor"]), value["dtype"], steps, value.get("layout", "strided"))
        if "complex" in value:
            return complex(*(_decode(v) for v in value["complex"]))
        return float(value["float"])
    return value
