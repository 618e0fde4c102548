"""What a torch.jit graph says of one call: the class behind it, its operands with their names, its results.

A node of an autograd Function lists its tensors only; None and plain values are gone from its inputs, and the names of
its inputs are those of whatever Python frame the tracer looked at. What is kept beside them is enough: the calling
convention (``cconv``, one letter an argument: d a tensor, c a constant), the constants, and the function itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flopscan.core.trace import TensorSpec
from flopscan.errors import ContractError


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One call in a graph: its name, its class as ``module.Class``, operands in order, and the parameters they fill.

    ``qualified`` is empty where the graph holds no Python object. ``parameters`` are (name, default) pairs, None where
    nothing says what the operands are called; then ``operands`` may lack those that are not tensors.
    """

    name: str
    qualified: str
    operands: tuple[Any, ...]
    parameters: tuple[tuple[str, Any], ...] | None
    outputs: tuple[TensorSpec, ...]

    def named(self) -> dict[str, Any]:
        """The operands by parameter name, defaults where they were not given. Raises ContractError."""
        if self.parameters is None:
            raise ContractError(f"{self.name}: the graph does not say what its operands are called")
        if len(self.operands) > len(self.parameters):
            has = ", ".join(name for name, _ in self.parameters) or "no names that can be read"
            raise ContractError(f"{self.name}: {len(self.operands)} operands, but the signature has {has}")
        named = dict(self.parameters)
        named.update((name, value) for (name, _), value in zip(self.parameters, self.operands, strict=False))
        return named


def read(outputs: Sequence[Any]) -> GraphCall:
    """The call that computes the graph values ``outputs``. Raises ContractError where a shape is unknown.

    A node of another kind than prim::PythonOp has no Python object, and its schema, if any, says what its operands are.
    """
    node = outputs[0].node()
    results = tuple(spec for value in outputs for spec in _results(value.type()))
    if node.kind() != "prim::PythonOp":
        operands = tuple(_value(v) for v in node.inputs())
        return GraphCall(node.kind(), "", operands, _schema(node), results)
    tensors, constants = iter(list(node.inputs())), iter(node.scalar_args())
    # an argument that is itself a tensor is an input of the node; all others are kept as they were passed
    operands = tuple(_value(next(tensors)) if kind == "d" else next(constants) for kind in node.cconv())
    # Function.apply: a bound method where it is Python (until torch 2.13), a built-in where it is C (since 2.14)
    function = getattr(node.pyobj(), "__self__", None)
    if not inspect.isclass(function):
        return GraphCall(node.pyname(), "", operands, None, results)
    return GraphCall(
        node.pyname(), f"{function.__module__}.{function.__qualname__}", operands, _forward(function), results
    )


def _forward(function: Any) -> tuple[tuple[str, Any], ...]:
    """The parameters of ``forward`` without the context; those before a ``*args`` only."""
    try:
        parameters = list(inspect.signature(function.forward).parameters.values())
    except (TypeError, ValueError):
        return ()
    if function.setup_context is torch.autograd.Function.setup_context:  # else forward takes no context
        parameters = parameters[1:]
    empty = inspect.Parameter.empty
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple((p.name, None if p.default is empty else p.default) for p in parameters if p.kind in positional)


def _schema(node: Any) -> tuple[tuple[str, Any], ...] | None:
    """The parameters that an operator's schema names, or None where it has none."""
    text = node.schema()
    if "(" not in text or text.startswith("("):
        return None
    return tuple((argument.name, None) for argument in torch._C.parse_schema(text).arguments)


def _value(value: Any) -> Any:
    """The shape and dtype of a tensor in the graph; anything else as the constant that it is."""
    if value.type().kind() == "TensorType":
        return _spec(value.type(), value.debugName())
    return value.toIValue()


def _spec(kind: Any, name: str) -> TensorSpec:
    sizes, dtype = kind.sizes(), kind.dtype()
    if sizes is None or dtype is None or None in sizes:
        raise ContractError(f"the shape of %{name} is not in the graph; trace the model on example inputs")
    return TensorSpec(tuple(sizes), str(dtype).removeprefix("torch."))


def _results(kind: Any) -> Iterator[TensorSpec]:
    """The tensors of a result, those of a tuple one by one; what has no shape in the graph is left out."""
    if kind.kind() == "TupleType":
        for element in kind.elements():
            yield from _results(element)
    elif kind.kind() == "TensorType" and kind.sizes() is not None and kind.dtype() is not None:
        yield _spec(kind, "")
