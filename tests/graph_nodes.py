"""What fvcore hands to a handle: nodes of Python functions in a traced graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from flopscan.compat import fvcore

Values = tuple[list[Any], list[Any]]
alive: list[Any] = []  # a value is void once its graph is gone


def nodes(function: Callable[..., Any], *inputs: Tensor) -> Iterator[Any]:
    """The nodes of Python functions in the trace of ``function``."""

    class Model(nn.Module):
        def forward(self, *args: Tensor) -> Any:
            return function(*args)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, _ = torch.jit._get_trace_graph(Model(), inputs)  # type: ignore[no-untyped-call]
    alive.append(graph)
    return (node for node in graph.nodes() if node.kind() == "prim::PythonOp")


def node(function: Callable[..., Any], *inputs: Tensor) -> Values:
    """What fvcore hands to a handle for the one Python function in ``function``."""
    (found,) = nodes(function, *inputs)
    return list(found.inputs()), list(found.outputs())


def count(values: Values, kind: str = "", convention: str = "vmamba") -> int:
    """What the handle for these values says."""
    name = kind or f"prim::PythonOp.{values[1][0].node().pyname()}"
    handle = fvcore.supported_ops(convention)[name]
    assert handle is not None
    return handle(*values)
