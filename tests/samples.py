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


HOSTILE = (
    r"\input{/etc/passwd}", "a|b", "<script>alert(1)</script>", "__init__ *x* `y` [z](u)", "$&%#_{}~^\"'--``?`",
    "=cmd|'/C calc'!A0", "+1", "@SUM(A1)", "-2", "two\nlines\r\x1b[31m\u202e",
    "\u00e4\u00f1\u00df \u6a21\u578b \u2265 \u00d7 \u0416 \U0001f600",
    "http://a.b www.c.d", "&amp; &#124;", "{{r}}", "%s %d",
)  # fmt: skip


def hostile_ledger(*, known: bool = True, lines: bool = False) -> Ledger:
    """A model whose names (of modules, operators, files, the target) a format must not take for its own signs."""
    spec = TensorSpec((2, 3))
    modules = [
        Module("", HOSTILE[0]),
        *(Module(name.replace(".", "\u00b7"), name, i) for i, name in enumerate(HOSTILE)),
    ]
    calls = tuple(Call(name, {"x": spec}, (spec,)) for name in HOSTILE)
    prices = tuple(
        Price(Cost(fma=10**i, exp=i, add=1, read=8, written=9))
        if known or i % 3
        else Price(None, note="<no> rule | for _it_")
        for i in range(len(calls))
    )
    records = tuple(Record(i, i + 1, i + 1, line=i if lines else -1) for i in range(len(calls)))
    places = tuple(f"{name}.py:{i} f" for i, name in enumerate(HOSTILE)) if lines else ()
    origin = {
        "target": HOSTILE[4], "inputs": [HOSTILE[5]], "versions": {"flopscan": "0.1.0", "torch": "2.13.0"},
        "route": "shape-only", "notes": [HOSTILE[8]], "again": "flopscan count 'a|b`c``.py:make'",
    }  # fmt: skip
    return Ledger(Trace(calls, records, tuple(modules), places, sum(range(len(HOSTILE))), origin), prices)
