"""A call of a trace in the form that fvcore's handles read: values of a torch.jit graph."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from flopscan.core.trace import Call, TensorSpec

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups",
                "benchmark", "deterministic", "cudnn_enabled", "allow_tf32")  # fmt: skip
_CALLED = {"self": ("input",), "input": ("self",), "mat2": ("other",), "other": ("mat2",)}


class Type:
    """The type of a value: sizes and dtype of a tensor."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def kind(self) -> str:
        """TensorType, ListType, NoneType, IntType, FloatType, BoolType or StringType."""
        if isinstance(self._value, TensorSpec):
            return "TensorType"
        names = {bool: "BoolType", int: "IntType", float: "FloatType", str: "StringType", tuple: "ListType"}
        return names.get(type(self._value), "NoneType")

    def sizes(self) -> list[int] | None:
        """The sizes of a tensor."""
        return list(self._value.shape) if isinstance(self._value, TensorSpec) else None

    def dim(self) -> int | None:
        """How many axes a tensor has."""
        return len(self._value.shape) if isinstance(self._value, TensorSpec) else None

    def dtype(self) -> Any:
        """The dtype of a tensor."""
        return getattr(torch, self._value.dtype) if isinstance(self._value, TensorSpec) else None

    def scalarType(self) -> str | None:
        """The dtype as torch.jit calls it, for a float tensor ``Float``."""
        names = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "int32": "Int"}
        return names.get(self._value.dtype, self._value.dtype) if isinstance(self._value, TensorSpec) else None

    def __str__(self) -> str:
        return str(self._value) if isinstance(self._value, TensorSpec) else self.kind()


class Node:
    """What made a value."""

    def __init__(self, kind: str, inputs: list[Value]) -> None:
        self._kind, self._inputs = kind, inputs

    def kind(self) -> str:
        """The name of the operator."""
        return self._kind

    def schema(self) -> str:
        """A schema that names the operands."""
        return f"{self._kind}({', '.join(f'Tensor? {value.debugName()}' for value in self._inputs)}) -> Tensor"

    def inputs(self) -> Iterator[Value]:
        """The values that went in."""
        return iter(self._inputs)


class Value:
    """An operand or result of a call, by the methods of ``torch._C.Value`` that handles use."""

    def __init__(self, value: Any, name: str, node: Node | None = None) -> None:
        self._value, self._name = value, name
        self._node = node or Node("prim::Param", [])

    def type(self) -> Type:
        """The type, with the sizes of a tensor."""
        return Type(self._value)

    def isCompleteTensor(self) -> bool:
        """Whether it is a tensor: its sizes are known then."""
        return isinstance(self._value, TensorSpec)

    def toIValue(self) -> Any:
        """A constant; None for a tensor."""
        return None if isinstance(self._value, TensorSpec) else self._value

    def debugName(self) -> str:
        """The name of the operand."""
        return self._name

    def node(self) -> Node:
        """What made it."""
        return self._node


def values_of(kind: str, call: Call) -> tuple[list[Value], list[Value]]:
    """The operands and results of ``call`` as the node ``kind`` of a graph has them, in the order of its schema."""
    named = dict(_operands(kind, call))
    inputs = [_value(value, name) for name, value in named.items()]
    node = Node(kind, inputs)
    return inputs, [Value(spec, f"out{i or ''}", node) for i, spec in enumerate(call.outputs)]


def _value(value: Any, name: str) -> Value:
    if isinstance(value, tuple) and any(isinstance(v, TensorSpec) for v in value):
        elements = [Value(v, f"{name}{i}") for i, v in enumerate(value)]
        return Value(value, name, Node("prim::ListConstruct", elements))
    return Value(value, name, Node("prim::Constant", []) if not isinstance(value, TensorSpec) else None)


def _operands(kind: str, call: Call) -> Iterator[tuple[str, Any]]:
    if kind == "aten::_convolution":
        transposed = call.get("transposed", "transpose" in call.op)
        given: Mapping[str, Any] = {**call.args, "transposed": transposed}
        yield from ((name, given.get(name)) for name in _CONVOLUTION)
    elif kind == "aten::einsum":
        operands = call["operands"]
        yield "equation", call["equation"]
        yield "tensors", operands[0] if len(operands) == 1 and isinstance(operands[0], tuple) else operands
    else:
        names = _schema(kind, tuple(name for name, v in call.args.items() if isinstance(v, (TensorSpec, tuple))))
        for name in names or [name for name in call.args if name != "spelled"]:
            aliases = (name, *_CALLED.get(name, ()))
            yield name, next((call.args[alias] for alias in aliases if alias in call.args), None)


@functools.cache
def _schema(kind: str, given: tuple[str, ...]) -> list[str]:
    """The names of an operator's operands, of the overload that has all the tensors ``given``; [] for no operator."""
    found: list[list[str]] = []
    for schema in torch._C._jit_get_schemas_for_operator(kind):
        found.append([a.name for a in schema.arguments])

    def known(names: list[str]) -> int:
        return sum(any(alias in names for alias in (name, *_CALLED.get(name, ()))) for name in given)

    return max(found, key=lambda names: (known(names), -len(names)), default=[])
