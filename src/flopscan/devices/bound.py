"""The least time that an amount of work takes on a device: of its units the busiest, at peak rate and never waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flopscan.core.cost import TRANSCENDENTAL, Cost, Count
from flopscan.devices.device import Device, Figure
from flopscan.errors import UsageError

UNITS: Mapping[str, str] = {
    "memory": "memory",
    "matrix": "matrix units",
    "vector": "vector units",
    "special": "special functions",
}
_SPECIAL = (*TRANSCENDENTAL, "sqrt")
_VECTOR = ("add", "mul", "div", "cmp")

# A format that the units do not have is computed in the next that they have. A number of 8 bits goes by way of 16.
_MATRIX_AS: Mapping[str, tuple[str, ...]] = {
    "fp64": ("fp64",), "fp32": ("fp32",), "tf32": ("tf32", "fp32"), "fp16": ("fp16", "fp32"), "bf16": ("bf16", "fp32"),
    "fp8": ("fp8", "fp16", "bf16", "fp32"), "int8": ("int8", "fp16", "bf16", "fp32"),
}  # fmt: skip
_VECTOR_AS: Mapping[str, tuple[str, ...]] = {
    "fp64": ("fp64",), "fp32": ("fp32",), "tf32": ("fp32",), "fp16": ("fp16", "fp32"), "bf16": ("bf16", "fp32"),
    "fp8": ("fp16", "bf16", "fp32"), "int8": ("fp16", "bf16", "fp32"),
}  # fmt: skip
_DTYPES: Mapping[str, str] = {
    "float64": "fp64", "complex128": "fp64", "float32": "fp32", "complex64": "fp32", "float16": "fp16",
    "complex32": "fp16", "bfloat16": "bf16",
}  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Rates a second for one dtype: FLOP/s of matrix and vector units, special functions, bytes.

    A unit whose rate nobody gives is in ``unknown``, by its rate's name, and has no rate here. ``matrix`` may be
    missing without being unknown: then products run on the vector units. So may ``special``: then a special function
    counts as one operation of the vector units, the least that it can be.
    """

    memory: float | None = None
    matrix: float | None = None
    vector: float | None = None
    special: float | None = None
    products_on: str = "matrix"
    special_on: str = "special"
    unknown: tuple[str, ...] = ()


def rates(device: Device, dtype: str) -> Rates:
    """The rates of ``device`` for arithmetic in ``dtype``. Raises UsageError for a dtype that is none."""
    if dtype not in _MATRIX_AS:
        raise UsageError(f"there is no dtype {dtype!r} for a roofline; expected {', '.join(_MATRIX_AS)}")
    matrix = next(((d, device.matrix[d]) for d in _MATRIX_AS[dtype] if d in device.matrix), None)
    vector = next(((d, device.vector[d]) for d in _VECTOR_AS[dtype] if d in device.vector), None)
    asked = {
        "bandwidth": device.bandwidth,
        **({f"matrix {matrix[0]}": matrix[1]} if matrix else {}),
        **({f"vector {vector[0]}": vector[1]} if vector else {f"vector {dtype}": None}),
        **({"special": device.special} if device.special else {}),
    }
    return Rates(
        device.bandwidth.value,
        _value(matrix),
        _value(vector),
        None if device.special is None else device.special.value,
        "matrix" if matrix else "vector",
        "special" if device.special else "vector",
        tuple(name for name, figure in asked.items() if figure is None or figure.value is None),
    )


def _value(found: tuple[str, Figure] | None) -> float | None:
    return None if found is None else found[1].value


@dataclass(frozen=True, slots=True)
class Work:
    """Exact counts for one dtype, by the unit that they keep busy.

    ``memory`` in bytes, ``matrix`` and ``vector`` in FLOPs (a multiply-add is 2), ``special`` in functions.
    """

    dtype: str
    memory: Count = 0
    matrix: Count = 0
    vector: Count = 0
    special: Count = 0

    @staticmethod
    def of(cost: Cost, on_matrix: Count, dtype: str) -> Work:
        """The work of ``cost``, of whose multiply-adds ``on_matrix`` may run on matrix units."""
        others = sum(getattr(cost, kind) for kind in _VECTOR)
        special = sum(getattr(cost, kind) for kind in _SPECIAL)
        return Work(dtype, cost.read + cost.written, 2 * on_matrix, 2 * (cost.fma - on_matrix) + others, special)


@dataclass(frozen=True)
class Bound:
    """Seconds that each unit is busy at least; the time is that of the busiest, which is what it is bound by.

    The units work side by side. A unit whose rate is unknown is left out, which keeps it a bound: ``unknown``.
    """

    busy: Mapping[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The least time."""
        return max(self.busy.values(), default=0.0)

    @property
    def by(self) -> str:
        """The unit that takes it: ``memory``, ``matrix``, ``vector``, ``special``; empty where no unit has work."""
        return max(self.busy, key=lambda unit: self.busy[unit]) if self.seconds else ""


def bound(device: Device, *works: Work) -> Bound:
    """The bound of all ``works`` together, one dtype or several."""
    busy = dict.fromkeys(UNITS, 0.0)
    unknown: dict[str, None] = {}
    for work in works:
        known = rates(device, work.dtype)
        amounts = {"memory": work.memory, "matrix": 0, "vector": work.vector, "special": 0}
        amounts[known.products_on] += work.matrix
        amounts[known.special_on] += work.special
        for unit, amount in amounts.items():
            rate = getattr(known, unit)
            if amount and rate is not None:
                busy[unit] += amount / rate
            elif amount:
                name = "bandwidth" if unit == "memory" else unit
                unknown.update(dict.fromkeys(u for u in known.unknown if u.startswith(name)))
    return Bound({unit: seconds for unit, seconds in busy.items() if seconds}, tuple(unknown))


def arithmetic_dtype(dtypes: tuple[str, ...]) -> str:
    """What a call with tensors of these torch dtypes is computed in: in the narrowest floating one, which is fastest.

    Without a floating one it is integer arithmetic, ``int8``.
    """
    found = {"fp8" if dtype.startswith("float8") else _DTYPES[dtype] for dtype in dtypes if _is_float(dtype)}
    return next((dtype for dtype in ("fp8", "bf16", "fp16", "fp32", "fp64") if dtype in found), "int8")


def _is_float(dtype: str) -> bool:
    return dtype in _DTYPES or dtype.startswith("float8")
