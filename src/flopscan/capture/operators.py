"""What the capture needs to know of an operator, read once from its schema; and a call as plain data."""

from __future__ import annotations

import enum
from typing import Any

import torch
from torch import Tensor

from flopscan.core.trace import Call, TensorSpec


class Does(enum.Enum):
    """How the engine treats an operator."""

    COMPUTE = enum.auto()  # fresh outputs, a function of the shapes: answered from the cache
    VIEW = enum.auto()  # outputs alias inputs
    CREATE = enum.auto()  # no tensor operand
    MUTATE = enum.auto()  # writes its first operand in place and returns it
    READ = enum.auto()  # hands a value to Python
    OTHER = enum.auto()  # anything else: always executed


_RESIZES = {"aten::resize_", "aten::resize_as_", "aten::set_", "aten::set_data", "aten::_resize_output_"}
_SHAPE_FROM_VALUES = {
    "aten::nonzero", "aten::unique_consecutive", "aten::_unique2", "aten::unique_dim", "aten::masked_select",
    "aten::bincount", "aten::_unique",
}  # fmt: skip


class Operator:
    """One overload: its name, how to treat it, its argument names and defaults."""

    __slots__ = ("defaults", "does", "dynamic", "name", "names", "pointwise", "random")

    def __init__(self, func: Any) -> None:
        schema = func._schema
        self.name: str = schema.name
        self.names = [a.name for a in schema.arguments]
        self.defaults = {a.name: a.default_value for a in schema.arguments if a.default_value is not None}
        tags = getattr(func, "tags", ())
        self.random = torch.Tag.nondeterministic_seeded in tags or "rand" in self.name or "bernoulli" in self.name
        self.pointwise = torch.Tag.pointwise in tags
        self.dynamic = self.name != "aten::nonzero_static" and (
            self.name in _SHAPE_FROM_VALUES or getattr(torch.Tag, "dynamic_output_shape", None) in tags
        )
        self.does = self._classify(schema, tags)

    def _classify(self, schema: Any, tags: Any) -> Does:
        written = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        aliased = any(x.alias_info is not None for x in (*schema.arguments, *schema.returns))
        if self.name in ("aten::_local_scalar_dense", "aten::equal"):
            return Does.READ
        if self.name in ("aten::detach", "aten::alias", "aten::lift_fresh"):
            return Does.VIEW
        if written:
            in_place = written == [schema.arguments[0]] and self.name.endswith("_") and len(schema.returns) == 1
            resizes = self.name in _RESIZES or getattr(torch.Tag, "inplace_view", None) in tags
            return Does.MUTATE if in_place and not resizes else Does.OTHER
        if aliased:
            return Does.VIEW
        if not any("Tensor" in str(a.type) for a in schema.arguments):
            return Does.CREATE
        return Does.COMPUTE if schema.returns and not self.dynamic else Does.OTHER


class _Names(dict[torch.dtype, str]):
    """``float32`` for ``torch.float32``."""

    def __missing__(self, dtype: torch.dtype) -> str:
        name = self[dtype] = str(dtype).removeprefix("torch.")
        return name


_DTYPES = _Names()


def describe(tensor: Tensor) -> TensorSpec:
    """The shape, dtype, strides and layout of ``tensor`` as data."""
    shape, dtype = tuple(tensor.shape), _DTYPES[tensor.dtype]
    if tensor.layout is not torch.strided:
        return TensorSpec(shape, dtype, layout=str(tensor.layout).removeprefix("torch."))
    return TensorSpec(shape, dtype, None if tensor.is_contiguous() else tuple(tensor.stride()))


def plain(value: Any) -> Any:
    """An operand as data: tensors as specs, dtypes and the like as strings."""
    if isinstance(value, Tensor):
        return describe(value)
    if isinstance(value, (list, tuple)):
        return tuple(plain(v) for v in value)
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return int(value) if isinstance(value, torch.SymInt) else str(value)
    return str(value).removeprefix("torch.")


def call_of(operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, *, bare: bool) -> Call:
    """The call as data, operands by name, schema defaults filled in; ``bare`` keeps tensors alone."""
    values = dict(operator.defaults)
    values.update(zip(operator.names, args, strict=False))
    values.update(kwargs)
    if bare:
        values = {k: v for k, v in values.items() if isinstance(v, (Tensor, list, tuple))}
    named = {k: plain(v) for k, v in values.items() if v is not None}
    return Call(operator.name, named, outputs_of(output))


def outputs_of(output: Any) -> tuple[TensorSpec, ...]:
    """The specs of every tensor in ``output``, lists included."""
    if isinstance(output, Tensor):
        return (describe(output),)
    if isinstance(output, (list, tuple)):
        return tuple(spec for x in output for spec in outputs_of(x))
    return ()
