"""Kernels of state-space models as transformers 5.23 writes them out in torch, for counters that see the functions.

Where no kernel package is installed, a model of transformers runs its own slow path: these are the products, the
convolutions, the gates and the multiplications in it, and how often each is called. In a trace it is one operator,
whose ``callee`` is transformers' function; of a package's kernel such a counter sees nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flopscan.core.convention import Handle, WrittenOut
from flopscan.core.trace import Call, TensorSpec

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


def _mul(*shape: int) -> Call:
    """A product of elements with this result, written as ``a * b``."""
    return _function("mul", "operator", ("input", TensorSpec(shape)), ("other", TensorSpec(shape)), out=shape)


def _gated(z: TensorSpec) -> Called:
    yield 1, _silu(z)
    yield 1, _mul(*z.shape)


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
    """dt A, dt B and (dt B) u of all steps; each step's decay of the states, and its read-out as a product."""
    (b, d, l), n = call["u"].shape, call["A"].shape[-1]
    yield 3, _mul(b, d, l, n)
    yield l, _mul(b, d, n)
    yield l, _product("matmul", "torch", (b, d, n), (b, n, 1))
    if call.get("D") is not None:
        yield 1, _mul(b, d, l)
    if call.get("z") is not None:
        yield from _gated(call["z"])


def _ssd(call: Call) -> Called:
    """Five einsums over chunks, and the decays before and after them."""
    b, length, h, p = call["x"].shape
    l, n = call["chunk_size"], call["B"].shape[-1]
    c = -(-length // l)
    sizes = {"b": b, "c": c, "l": l, "s": l, "h": h, "n": n, "p": p}
    for equation in ("bclhn,bcshn->bclsh", "bclsh,bcshp->bclhp", "bclhn,bclhp->bchpn", "bclhn,bchpn->bclhp"):
        yield 1, _einsum(equation, sizes)
    yield 1, _einsum("bzch,bzhpn->bchpn", {**sizes, "z": c + 1, "c": c + 1})
    for decayed in ((b, length, h, p), (b, length, h), (b, c, l, l, h), (b, c, l, h, n), (b, c, l, h, p)):
        yield 1, _mul(*decayed)
    if call.get("D") is not None:
        yield 1, _mul(b, c * l, h, p)


def _update(call: Call) -> Called:
    """dt A, dt B, (dt B) x and the decay; the read-out, of Mamba a matmul, of Mamba-2 a bmm of all heads; the gate."""
    x, n = call["x"].shape, call["state"].shape[-1]
    yield 4, _mul(*x, n)
    if len(x) == 2:
        yield 1, _product("matmul", "torch", (*x, n), (x[0], n, 1))
    else:
        yield 1, _product("bmm", "torch", (x[0] * x[1], x[2], n), (x[0] * x[1], n, 1))
    if call.get("D") is not None:
        yield 1, _mul(*x)
    if call.get("z") is not None:
        yield from _gated(call["z"])


def _delta_steps(call: Call) -> Called:
    """Step by step without a product: of each state the decay, two read-outs and the update; beta."""
    (b, length, h, v), k = call["value"].shape, call["query"].shape[-1]
    yield 4 * length, _mul(b, h, k, v)
    yield length, _mul(b, h, v)


def _normalised(call: Call) -> Called:
    """Squares and a scaling, of queries and of keys."""
    (b, length, h, _), k = call["value"].shape, call["query"].shape[-1]
    if call.get("use_qk_l2norm_in_kernel"):
        yield 4, _mul(b, h, length, k)


def _gated_delta_rule(call: Call) -> Called:
    """By chunks, written with @: two products of every chunk at once and four of each; two triangular solves."""
    yield from _normalised(call)
    c = call.get("chunk_size")
    if c is None:
        yield from _delta_steps(call)
        return
    (b, length, h, v), k = call["value"].shape, call["query"].shape[-1]
    chunks = -(-length // c)
    yield 2, _product("matmul", "operator", (b, h, chunks, c, k), (b, h, chunks, k, c))
    yield from _through_chunks(b, h, chunks, c, k, v)
    yield 1, _mul(b, h, length, k)
    yield 1, _mul(b, h, chunks * c, v)
    yield 4, _mul(b, h, chunks * c, k)
    yield 2, _mul(b, h, chunks, c, c)


def _kda(call: Call) -> Called:
    """The same with a decay a channel: scores by elements, and the inverse of a triangle row by row."""
    yield from _normalised(call)
    (b, length, h, v), k = call["value"].shape, call["query"].shape[-1]
    c = call.get("chunk_size")
    if c is None:
        yield 1, _mul(b, length, h, k)
        yield from _delta_steps(call)
        return
    chunks = -(-length // c)
    for columns in (v, k):
        yield 1, _product("matmul", "operator", (b, h, chunks, c, c), (b, h, chunks, c, columns))
    yield from _through_chunks(b, h, chunks, c, k, v)
    yield 1, _mul(b, h, chunks * c, v)
    yield 5, _mul(b, h, chunks * c, k)
    yield 4, _mul(b, h, chunks, c, c, k)
    for row in range(1, c):
        yield 1, _mul(b, h, chunks, row, row)


def _through_chunks(b: int, h: int, chunks: int, c: int, k: int, v: int) -> Called:
    """Of each chunk what the state predicts and gives, what the chunk gives, the state after it; its decay."""
    yield 2 * chunks, _product("matmul", "operator", (b, h, c, k), (b, h, k, v))
    yield chunks, _product("matmul", "operator", (b, h, c, c), (b, h, c, v))
    yield chunks, _product("matmul", "operator", (b, h, k, c), (b, h, c, v))
    yield chunks, _mul(b, h, k, v)


def is_written_out(call: Call) -> bool:
    """Whether it is transformers' own function that was called."""
    return str(call.get("callee", "")).startswith("transformers.")


def where_written_out(handle: Handle) -> Handle:
    """``handle`` where transformers' own function was called, and nothing elsewhere."""
    return lambda call: handle(call) if is_written_out(call) else 0


def _seen(functions: WrittenOut) -> WrittenOut:
    return lambda call: functions(call) if is_written_out(call) else ()


WRITTEN_OUT: dict[str, WrittenOut] = {
    "flopscan::causal_conv1d": _seen(_causal_convolution),
    "flopscan::selective_scan": _seen(_selective_scan),
    "flopscan::ssd": _seen(_ssd),
    "flopscan::selective_state_update": _seen(_update),
    "flopscan::gated_delta_rule": _seen(_gated_delta_rule),
    "flopscan::kda": _seen(_kda),
}
