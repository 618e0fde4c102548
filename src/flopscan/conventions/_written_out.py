"""Kernels of state-space models as transformers 5.23 writes them out in torch, for counters that see the functions.

Where no kernel package is installed, a model of transformers runs its own slow path: these are the functions that it
calls, and how often. In a trace the kernel is one operator. Outside of a model of transformers it is a kernel of a
package, in which such a counter sees nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flopscan.core.convention import WrittenOut
from flopscan.core.trace import Call, TensorSpec, Trace

Called = Iterator[tuple[int, Call]]


def _function(name: str, spelled: str, *operands: tuple[str, TensorSpec], out: tuple[int, ...]) -> Call:
    return Call(f"torch::{name}", {**dict(operands), "spelled": spelled}, (TensorSpec(out),))


def _product(name: str, spelled: str, left: tuple[int, ...], right: tuple[int, ...]) -> Call:
    second = "mat2" if name == "bmm" else "other"
    operands = ("input", TensorSpec(left)), (second, TensorSpec(right))
    return _function(name, spelled, *operands, out=(*left[:-1], right[-1]))


def _silu(x: TensorSpec) -> Call:
    return _function("silu", "functional", ("input", x), out=x.shape)


def _einsum(equation: str, sizes: Mapping[str, int]) -> Call:
    left, _, result = equation.partition("->")
    operands, out = (tuple(TensorSpec(tuple(sizes[a] for a in term)) for term in t.split(",")) for t in (left, result))
    return Call("torch::einsum", {"equation": equation, "operands": operands, "spelled": "torch"}, out)


def _causal_convolution(call: Call) -> Called:
    """A convolution padded on both sides, or of the states before and the steps; the activation of what is kept."""
    x, weight, states = call["x"], call["weight"], call.get("initial_states")
    (b, d, l), w = x.shape, weight.shape[-1]
    length, padding = (l, w - 1) if states is None else (l + states.shape[-1], 0)
    operands = {"input": TensorSpec((b, d, length)), "weight": TensorSpec((d, 1, w)), "bias": call.get("bias")}
    settings = {"padding": padding, "groups": d, "spelled": "functional"}
    given = {name: value for name, value in {**operands, **settings}.items() if value is not None}
    yield 1, Call("torch::conv1d", given, (TensorSpec((b, d, length + 2 * padding - w + 1)),))
    if call.get("activation") is not None:
        yield 1, _silu(x)


def _selective_scan(call: Call) -> Called:
    """The read-out of each step as a product, and the gate."""
    (b, d, l), n = call["u"].shape, call["A"].shape[-1]
    yield l, _product("matmul", "torch", (b, d, n), (b, n, 1))
    if call.get("z") is not None:
        yield 1, _silu(call["z"])


def _ssd(call: Call) -> Called:
    """Five einsums over chunks."""
    b, length, h, p = call["x"].shape
    l, n = call["chunk_size"], call["B"].shape[-1]
    c = -(-length // l)
    sizes = {"b": b, "c": c, "l": l, "s": l, "h": h, "n": n, "p": p}
    for equation in ("bclhn,bcshn->bclsh", "bclsh,bcshp->bclhp", "bclhn,bclhp->bchpn", "bclhn,bchpn->bclhp"):
        yield 1, _einsum(equation, sizes)
    yield 1, _einsum("bzch,bzhpn->bchpn", {**sizes, "z": c + 1, "c": c + 1})


def _update(call: Call) -> Called:
    """The read-out of one step: of Mamba a matmul, of Mamba-2 a bmm of all heads; and the gate."""
    x, n = call["x"].shape, call["state"].shape[-1]
    if len(x) == 2:
        yield 1, _product("matmul", "torch", (*x, n), (x[0], n, 1))
    else:
        yield 1, _product("bmm", "torch", (x[0] * x[1], x[2], n), (x[0] * x[1], n, 1))
    if call.get("z") is not None:
        yield 1, _silu(call["z"])


def _delta_rule(call: Call, *, kda: bool = False) -> Called:
    """By chunks, written with @: two products of every chunk at once and four of each; step by step none."""
    c = call.get("chunk_size")
    if c is None:
        return
    (b, length, h, v), k = call["value"].shape, call["query"].shape[-1]
    chunks = -(-length // c)
    for columns in (v, k) if kda else (c, c):
        rows = c if kda else k
        yield 1, _product("matmul", "operator", (b, h, chunks, c, rows), (b, h, chunks, rows, columns))
    yield 2 * chunks, _product("matmul", "operator", (b, h, c, k), (b, h, k, v))
    yield chunks, _product("matmul", "operator", (b, h, c, c), (b, h, c, v))
    yield chunks, _product("matmul", "operator", (b, h, k, c), (b, h, c, v))


WRITTEN_OUT: dict[str, WrittenOut] = {
    "flopscan::causal_conv1d": _causal_convolution,
    "flopscan::selective_scan": _selective_scan,
    "flopscan::ssd": _ssd,
    "flopscan::selective_state_update": _update,
    "flopscan::gated_delta_rule": _delta_rule,
    "flopscan::kda": lambda call: _delta_rule(call, kda=True),
}
KERNELS = "kernels are seen where transformers writes them out"


def in_transformers(trace: Trace, counts: list[int]) -> list[int]:
    """No count for a kernel that is not called by a model of transformers."""
    inside: list[bool] = []  # per frame
    for frame in trace.frames:
        around = frame.parent >= 0 and inside[frame.parent]
        inside.append(around or trace.calls[frame.call].op.startswith("module::transformers."))
    return [
        0 if trace.calls[record.call].op in WRITTEN_OUT and (record.inside < 0 or not inside[record.inside]) else count
        for record, count in zip(trace.records, counts, strict=True)
    ]
