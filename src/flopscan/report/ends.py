"""What must cross the memory's bus whatever is fused: parameters, inputs and outputs, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flopscan.core.ledger import Ledger
from flopscan.core.trace import TensorSpec, Trace, itemsize
from flopscan.report.recast import REPLACED, STORED_AS

_TABLES = ("aten::embedding", "aten::_embedding_bag", "aten::_embedding_bag_forward_only")


def stored(ledger: Ledger, dtype: str = "") -> int:
    """The bytes of parameters, inputs and outputs, as if stored in ``dtype`` (empty: as they are).

    Parameters count where their module was called, a table that rows are looked up in by these rows. A backward writes
    the gradients that they ask for. A trace without a record of its ends (code that ran by itself) has parameters
    alone.
    """
    trace = ledger.trace
    held: Mapping[str, Any] = trace.origin.get("held", {})
    phases = {record.phase for record in trace.records}
    width = _width(held.get("parameters") or {_common(trace): 1}, dtype)
    written = min(_called(trace), sum(held.get("gradients", {}).values())) if "backward" in phases else 0
    ends = sum(
        elements * _stored(name, dtype) for end in ("inputs", "outputs") for name, elements in held.get(end, {}).items()
    )
    return (_read(trace) + written) * width + ends


def _called(trace: Trace) -> int:
    """The parameters of the modules that were called."""
    modules = {record.module for record in trace.records}
    return sum(trace.modules[index].params for index in modules)


def _read(trace: Trace) -> int:
    """The same, of each table only what is looked up."""
    spared: dict[int, int] = {}
    for record in trace.records:
        call = trace.calls[record.call]
        table = call.get("weight")
        indices = call.get("indices")
        if call.op not in _TABLES or not (isinstance(table, TensorSpec) and isinstance(indices, TensorSpec)):
            continue
        if trace.modules[record.module].params >= table.numel:
            rows = indices.numel * record.count * (table.shape[-1] if table.shape else 1)
            unread = max(0, table.numel - rows)
            spared[record.module] = min(spared.get(record.module, unread), unread)
    return _called(trace) - sum(spared.values())


def _width(elements: Mapping[str, int], dtype: str) -> int:
    """The bytes of a parameter: where there are several dtypes, of the narrowest, since no module says which is its."""
    return min((_stored(name, dtype) for name, count in elements.items() if count), default=0)


def _stored(name: str, dtype: str) -> int:
    return itemsize(STORED_AS[dtype] if dtype and name in REPLACED else name)


def _common(trace: Trace) -> str:
    """The narrowest floating dtype of the trace."""
    names = {t.dtype for call in trace.calls for t in (*call.tensors(), *call.outputs) if t.is_float}
    return min(sorted(names), key=itemsize, default="float32")
