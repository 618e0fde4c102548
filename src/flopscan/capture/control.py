"""Control flow as operators: what a higher-order operator runs, and which of its bodies counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from flopscan.core.trace import Call
from flopscan.errors import CaptureError


def dispatched(engine: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """The result of a higher-order operator that was dispatched; the engine is off while it handles one."""
    if func is torch.ops.higher_order.cond:
        with engine:
            return conditional(engine, *args, **kwargs)
    output = func(*args, **kwargs)
    engine.record(engine.recorder.call(Call(f"higher_order::{getattr(func, '_name', func)}", {})))
    return output


@contextlib.contextmanager
def intercepted(engine: Any) -> Iterator[None]:
    """Inside, `torch.cond` comes here and not to the compiler, which would trace it with the engine off."""
    original = torch.cond

    def cond(pred: Any, true_fn: Any, false_fn: Any, operands: Any = ()) -> Any:
        return conditional(engine, pred, true_fn, false_fn, operands)

    torch.cond = cond
    try:
        yield
    finally:
        torch.cond = original


def conditional(engine: Any, pred: Any, true_fn: Any, false_fn: Any, operands: Any = ()) -> Any:
    """The output of a conditional.

    On shapes both branches are recorded, each with a mark, and the price takes the larger: which one would run is a
    value. In a real run the one that runs is recorded.
    """
    if not isinstance(pred, Tensor) or not pred.is_meta:
        return (true_fn if bool(pred) else false_fn)(*operands)
    recorder = engine.recorder
    outer, group = recorder.branch, recorder.new_group()
    outputs = []
    for number, body in enumerate((true_fn, false_fn)):
        recorder.branch = f"{outer}/{group}.{number}" if outer else f"{group}.{number}"
        try:
            outputs.append(body(*operands))
        finally:
            recorder.branch = outer
    shapes = [[tuple(t.shape) for t in torch.utils._pytree.tree_leaves(o) if isinstance(t, Tensor)] for o in outputs]
    if shapes[0] != shapes[1]:
        raise CaptureError(f"cond: its branches give {shapes[0]} and {shapes[1]}; expected the same shapes from both")
    return outputs[0]
