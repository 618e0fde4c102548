"""A call of a trace with the operands that torch would dispatch: shapes, or tensors without values."""

from __future__ import annotations

from typing import Any

import torch

from flopscan.core.trace import Call, TensorSpec

Operands = tuple[list[Any], dict[str, Any], Any]


def dispatched(call: Call, raw: bool) -> Operands:
    """The operands as torch dispatches them: in order, those at the end that are the default left out."""
    space, _, name = call.op.partition("::")
    packet = getattr(getattr(torch.ops, space), name)
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    fitting = [s for s in schemas if set(call.args) <= {a.name for a in s.arguments}]
    args: list[tuple[Any, Any]] = []
    kwargs = {}
    for argument in min(fitting or schemas, key=lambda schema: len(schema.arguments)).arguments:
        value = call.get(argument.name)
        if not argument.kwarg_only:
            args.append((value, argument))
        elif argument.name in call.args and value != argument.default_value:
            kwargs[argument.name] = as_operand(value, raw)
    while args and args[-1][1].has_default_value() and args[-1][0] in (args[-1][1].default_value, None):
        args.pop()
    outputs = [as_operand(spec, raw) for spec in call.outputs]
    return [as_operand(value, raw) for value, _ in args], kwargs, outputs[0] if len(outputs) == 1 else tuple(outputs)


def as_operand(value: Any, raw: bool) -> Any:
    """A value as a formula gets it: a tensor as its shape, or as a tensor without values where it is ``raw``."""
    if isinstance(value, TensorSpec):
        dtype = getattr(torch, value.dtype)
        return torch.empty(value.shape, dtype=dtype, device="meta") if raw else torch.Size(value.shape)
    if isinstance(value, tuple):
        return [as_operand(v, raw) for v in value]
    return value
