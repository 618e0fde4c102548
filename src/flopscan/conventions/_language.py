"""What the formulas for training a language model need of a trace: tokens, parameters by module, attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, TensorSpec, Trace
from flopscan.errors import UsageError

_SOFTMAX = ("aten::_softmax", "aten::_safe_softmax")


@dataclass(frozen=True, slots=True)
class Attention:
    """``count`` attentions from one record: pairs of positions over all heads, and how wide keys and values are."""

    record: int
    count: int
    pairs: int
    keys: int
    values: int


def tokens(ledger: Ledger, name: str) -> int:
    """The tokens of the input: what is looked up first. Raises UsageError where nothing is."""
    trace = ledger.trace
    for record in trace.records:
        if trace.calls[record.call].op == "aten::embedding":
            return int(trace.calls[record.call]["indices"].numel)
    raise UsageError(
        f"{name} is a formula for language models, in parameters and tokens; expected a model that looks up tokens in"
        " an embedding, got none; use a convention that counts operators, as flops"
    )


def first_operand(ledger: Ledger, name: str) -> TensorSpec:
    """The first tensor that the model was called with. Raises UsageError where no module was called with one."""
    trace = ledger.trace
    for record in trace.records:
        call = trace.calls[record.call]
        if record.envelope and call.op.startswith("module::"):
            for value in (*call["operands"], *(value for _, value in call["named"])):
                if isinstance(value, TensorSpec):
                    return value
    raise UsageError(f"{name} counts a module by its first tensor operand; expected a module called with one, got none")


def spread(
    ledger: Ledger, *, per_parameter: int, but: Callable[[str, Call | None, int], int], per_pair: Callable[..., int]
) -> list[int]:
    """What each record adds: ``per_parameter`` for the parameters of a module, ``per_pair`` for its attention.

    A module's parameters are added where it is called first, or at the root where it is not called. ``but`` says how
    many of them are left out, of a path, a call and the parameters; ``per_pair`` is asked for keys' and values' width.
    """
    trace = ledger.trace
    found = [0] * len(trace.records)
    called: dict[int, int] = {}
    for i, record in enumerate(trace.records):
        if record.envelope and trace.calls[record.call].op.startswith("module::"):
            called.setdefault(record.module, i)
    for index, module in enumerate(trace.modules):
        if module.params:
            at = called.get(index)
            call = None if at is None else trace.calls[trace.records[at].call]
            left_out = but(module.path, call, module.params)
            found[at or 0] += per_parameter * (module.params - left_out)
    for one in attentions(trace):
        found[one.record] += one.count * one.pairs * per_pair(one.keys, one.values)
    return found


def embeddings(trace: Trace) -> Callable[[str, Call | None, int], int]:
    """Leaves the parameters of `nn.Embedding` out, called or not."""
    tables = {module.path for module in trace.modules if module.cls == "Embedding"}

    def left_out(path: str, call: Call | None, params: int) -> int:
        return params if path in tables or (call is not None and "Embedding" in call["bases"]) else 0

    return left_out


def attentions(trace: Trace) -> Iterator[Attention]:
    """The attention of a forward pass, as one operator or as the products around a softmax."""
    products: dict[int, list[Call]] = {}
    for record in trace.records:
        if trace.calls[record.call].op in ("aten::bmm", "aten::baddbmm"):
            products.setdefault(record.module, []).append(trace.calls[record.call])
    for i, record in enumerate(trace.records):
        call = trace.calls[record.call]
        if record.phase != "forward":
            continue
        if call.op == "flopscan::scaled_dot_product_attention":
            width = call["value"].shape[-1]
            pairs = call.out.numel // width * call["key"].shape[-2]
            yield Attention(i, record.count, pairs, call["query"].shape[-1], width)
        elif call.op in _SOFTMAX:
            around = products.get(record.module, [])
            scores = [_left(p).shape[-1] for p in around if p.out.numel == call.out.numel]
            reads = [_right(p).shape[-1] for p in around if _left(p).numel == call.out.numel]
            if scores and reads:
                yield Attention(i, record.count, call.out.numel, scores[0], reads[-1])


def _left(call: Call) -> TensorSpec:
    found: TensorSpec = call.get("batch1") or call["self"]
    return found


def _right(call: Call) -> TensorSpec:
    found: TensorSpec = call.get("batch2") or call["mat2"]
    return found
