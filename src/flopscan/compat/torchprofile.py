"""torchprofile's call, counted by flopscan: ``from flopscan.compat.torchprofile import profile_macs``.

>>> from torch import nn, zeros
>>> profile_macs(nn.Linear(10, 20), zeros(1, 10))
200

torchprofile need not be installed, and the model is run on shapes alone, in the mode that it is in. Numbers are those
of the convention ``torchprofile``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.compat import _counting, _graph_nodes


@dataclass(frozen=True)
class Node:
    """An operator that was called: its name in a graph of torch.jit, the module that called it, shapes; its number."""

    operator: str
    scope: str
    shapes: str
    index: int

    def __str__(self) -> str:
        return f"{self.operator} ({self.shapes}) in {self.scope or 'the model'}"


def profile_macs(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    reduction: Callable[[Iterable[int]], Any] | None = sum,
) -> Any:
    """Multiply-adds of ``model(*args, **kwargs)``, one number an operator, put together by ``reduction``.

    ``args`` is a tensor or a tuple of arguments. Without ``reduction`` the result is a dictionary by `Node`.
    """
    ledger = _counting.ledger_of(model, tuple(args) if isinstance(args, (tuple, list)) else (args,), kwargs)
    trace = ledger.trace
    counts = conventions.get("torchprofile").counts(ledger)
    found: dict[Node, int] = {}
    for record, count, part in zip(trace.records, counts, _graph_nodes.parts(trace), strict=True):
        if part is None or not count:
            continue
        scope, shapes = trace.modules[record.module].path, trace.calls[record.call].shapes()
        for _ in range(record.count):
            found[Node(part.kind, scope, shapes, len(found))] = count // record.count
    return found if reduction is None else reduction(found.values())


__all__ = ["Node", "profile_macs"]
