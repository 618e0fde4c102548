"""Data that several tests share."""

from __future__ import annotations

from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Frame, Module, Record, TensorSpec, Trace


def make_ledger() -> Ledger:
    """A small ledger with every kind of record: a product inside a function, and an operator without a rule."""
    calls = (
        Call("aten::mm", {"self": TensorSpec((2, 3)), "mat2": TensorSpec((3, 4))}, (TensorSpec((2, 4)),)),
        Call("torch::matmul", {"input": TensorSpec((2, 3)), "other": TensorSpec((3, 4))}),
        Call("x::unknown", {"x": TensorSpec((2, 4), "float16", (1, 2)), "f": float("inf"), "c": 1 + 2j}),
    )
    records = (Record(0, 1, 5, inside=0), Record(1, 1, 5, envelope=True), Record(2, 0, 2, "backward"))
    modules = Module("", "Net", 0), Module("a", "A", 12)
    trace = Trace(calls, records, modules, ("net.py:3 f",), 12, {"target": "net"}, (Frame(1),))
    return Ledger(trace, (Price(Cost(fma=24, read=72)), Price(None), Price(None, note="no rule for this operator")))
