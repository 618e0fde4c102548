"""Operators that accumulate where indices say. Each value that arrives is one addition, also the first on a zero."""

from __future__ import annotations

import itertools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array
from flopscan.core.trace import Call, TensorSpec, itemsize
from flopscan.errors import ContractError
from flopscan.rules import rule
from flopscan.rules.movement import scattered


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


def _i64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "int64")


def _twofold(cost: Cost) -> Cost:
    """The additions of complex numbers in real ones."""
    return Cost(add=2 * cost.add)


def _embedding_backward(
    grad_output: Array, indices: Array, num_weights: int, padding_idx: int = -1, scale_grad_by_freq: bool = False
) -> Array:
    d = grad_output.shape[-1]
    result = Array.make((num_weights, d), lambda *_: 0.0)
    rows = grad_output.reshape(len(indices.data), d)
    for row, index in zip(rows, indices.data, strict=True):
        for c in range(d):
            result[index, c] = result[index, c] + row[c]
    return result


def _example_embedding(m: int, n: int, d: int) -> dict[str, Any]:
    return {
        "grad_output": _f64(m, n, d), "indices": _i64(m, n), "num_weights": 3, "padding_idx": -1,
        "scale_grad_by_freq": False,
    }  # fmt: skip


def _sizes_embedding(call: Call) -> dict[str, Any]:
    grad = call.get("grad_output") or call["grad"]
    return {"arriving": grad.numel, "scaled": bool(call.get("scale_grad_by_freq"))}


@rule("aten::embedding_dense_backward", sizes=_sizes_embedding, reference=_embedding_backward,
      example=_example_embedding)  # fmt: skip
@rule("aten::embedding_backward", sizes=_sizes_embedding)
def embedding_backward(arriving: Any, scaled: bool) -> Cost:
    """One addition per element of the gradient, onto a table of zeros; scaling by frequency divides each first."""
    return Cost(add=arriving, div=arriving if scaled else 0)


def _sizes_bag(call: Call) -> dict[str, Any]:
    bags, d = call.out.shape[0], call["weight"].shape[-1]
    return {"n": call["indices"].numel, "bags": bags, "d": d, "weighted": call.get("per_sample_weights") is not None}


def _moved_bag(call: Call) -> tuple[int, int]:
    """The rows that the indices name and the other operands; the results."""
    weight = call["weight"]
    rest = sum(t.nbytes for t in call.tensors()) - weight.nbytes
    rows = call["indices"].numel * weight.shape[-1] * itemsize(weight.dtype)
    return rest + rows, sum(t.nbytes for t in call.outputs)


def _embedding_bag(weight: Array, indices: Array, offsets: Array, mode: int = 0) -> tuple[Array]:
    starts = [*offsets.data, len(indices.data)]
    rows = []
    for start, end in itertools.pairwise(starts):
        columns = zip(*(weight[i] for i in indices.data[start:end]), strict=True)
        rows += [_reduced(list(column), mode) for column in columns]
    return (Array((len(offsets.data), weight.shape[1]), rows),)


def _reduced(column: list[Any], mode: int) -> Any:
    result = column[0]
    for x in column[1:]:
        result = (x if x > result else result) if mode == 2 else result + x
    return result / len(column) if mode == 1 else result


def _example_bag(n: int, d: int, mode: Any = (0, 1, 2)) -> dict[str, Any]:
    return {"weight": _f64(3, d), "indices": _i64(n), "offsets": _i64(1), "mode": mode}


@rule("aten::_embedding_bag_forward_only", sizes=_sizes_bag, reference=_embedding_bag, example=_example_bag,
      moves=_moved_bag)  # fmt: skip
@rule("aten::_embedding_bag", sizes=_sizes_bag, moves=_moved_bag)
def embedding_bag(n: Any, bags: Any, d: Any, weighted: bool = False, mode: int = 0) -> Cost:
    """(n - bags)*d additions where no bag is empty (mode 2: comparisons); weighted n*d fma; a mean divides bags*d."""
    if weighted:
        return Cost(fma=n * d)
    steps = (n - bags) * d
    return Cost(cmp=steps) if mode == 2 else Cost(add=steps, div=bags * d if mode == 1 else 0)


@rule("aten::_embedding_bag_dense_backward", "aten::_embedding_bag_backward",
      sizes=lambda call: {"n": call["indices"].numel, "d": call["grad"].shape[-1], "bags": call["grad"].shape[0],
                          "weighted": call.get("per_sample_weights") is not None})  # fmt: skip
def embedding_bag_backward(n: Any, d: Any, bags: Any, mode: int = 0, weighted: bool = False) -> Cost:
    """n*d additions (a maximum: bags*d); a mean divides bags*d gradients first, weights multiply n*d."""
    if mode == 2:
        return Cost(add=bags * d)
    return Cost(add=n * d, div=bags * d if mode == 1 else 0, mul=n * d if weighted else 0)


@rule("aten::_embedding_bag_per_sample_weights_backward",
      sizes=lambda call: {"n": call["indices"].numel, "d": call["weight"].shape[-1]})  # fmt: skip
def embedding_bag_weights_backward(n: Any, d: Any) -> Cost:
    """One product of length d for each of the n weights."""
    return Cost(fma=n * d)


def _index_add(self: Array, dim: int, index: Array, source: Array, alpha: Any = 1) -> Array:
    result = Array(self.shape, self.data)
    for place in itertools.product(*map(range, source.shape)):
        target = (*place[:dim], index[place[dim]], *place[dim + 1 :])
        value = source[place] if alpha == 1 else alpha * source[place]
        result[target] = result[target] + value
    return result


def _example_index_add(m: int, n: int, k: int, dim: Any = (0, 1), alpha: Any = (1, 2)) -> dict[str, Any]:
    source = (k, n) if dim == 0 else (m, k)
    return {"self": _f64(m, n), "dim": dim, "index": _i64(k), "source": _f64(*source), "alpha": alpha}


@rule("aten::index_add", sizes=lambda call: {"arriving": call["source"].numel}, moves=scattered,
      reference=_index_add, example=_example_index_add, complex=_twofold)  # fmt: skip
def index_add(arriving: Any, alpha: Any = 1) -> Cost:
    """One addition per element of the source; alpha other than 1 a multiplication each."""
    return Cost(add=arriving, mul=0 if alpha == 1 else arriving)


def _scatter_add(self: Array, dim: int, index: Array, src: Array) -> Array:
    result = Array(self.shape, self.data)
    for place in itertools.product(*map(range, index.shape)):
        target = (*place[:dim], index[place], *place[dim + 1 :])
        result[target] = result[target] + src[place]
    return result


def _example_scatter(m: int, n: int, dim: Any = (0, 1)) -> dict[str, Any]:
    return {"self": _f64(m + 1, n + 1), "dim": dim, "index": _i64(m, n), "src": _f64(m, n)}


@rule("aten::scatter_add", sizes=lambda call: {"arriving": call["index"].numel}, moves=scattered,
      reference=_scatter_add, example=_example_scatter, complex=_twofold)  # fmt: skip
def scatter_add(arriving: Any) -> Cost:
    """One addition per index."""
    return Cost(add=arriving)


_REDUCE = {
    "add": Cost(add=1), "sum": Cost(add=1), "mean": Cost(add=1), "multiply": Cost(mul=1), "prod": Cost(mul=1),
    "amax": Cost(cmp=1), "amin": Cost(cmp=1),
}  # fmt: skip


def _sizes_scatter(call: Call) -> dict[str, Any]:
    values = call["index"] if call.op.startswith("aten::scatter") else call["source"]
    return {"arriving": values.numel, "targets": call["self"].numel, "reduce": call.get("reduce")}


@rule("aten::scatter", "aten::scatter_reduce", "aten::index_reduce", sizes=_sizes_scatter, moves=scattered,
      complex=lambda cost: cost if cost == Cost() else _no_complex())  # fmt: skip
def scatter(arriving: Any, targets: Any, reduce: str | None = None) -> Cost:
    """Without ``reduce`` values are only put; else one addition, multiplication or comparison per index.

    A mean also divides each element of the result.
    """
    if reduce is None:
        return Cost()
    if reduce not in _REDUCE:
        raise ContractError(f"reduce={reduce!r} has no formula; expected one of {', '.join(_REDUCE)}")
    return _REDUCE[reduce] * arriving + Cost(div=targets if reduce == "mean" else 0)


def _no_complex() -> Cost:
    raise ContractError("no formula for complex numbers")


def _sizes_put(call: Call) -> dict[str, Any]:
    """How many elements the indices name: their broadcast shape and the axes that they leave alone."""
    if not call.get("accumulate", call.op.endswith("_accumulate")):
        return {"arriving": 0}
    target = call["self"].shape
    indices = [i for i in call["indices"] if isinstance(i, TensorSpec)]
    if any(i.dtype in ("bool", "uint8") for i in indices):
        return {"arriving": call["values"].numel}
    named = math.prod(_broadcast(i.shape for i in indices))
    rest = math.prod(s for n, s in enumerate(target) if n >= len(call["indices"]) or call["indices"][n] is None)
    return {"arriving": named * rest}


def _broadcast(shapes: Any) -> tuple[int, ...]:
    aligned = itertools.zip_longest(*(reversed(s) for s in shapes), fillvalue=1)
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in aligned)


def _index_put(self: Array, indices: list[Any], values: Array, accumulate: bool = False) -> Array:
    result = Array(self.shape, self.data)
    rows, rest = indices[0].data, self.shape[1:]
    for n, row in enumerate(rows):
        for place in itertools.product(*map(range, rest)):
            target, source = (row, *place), (n, *place)
            value = values[source]
            result[target] = result[target] + value if accumulate else value
    return result


def _example_put(m: int, n: int, k: int, accumulate: Any = (False, True)) -> dict[str, Any]:
    return {"self": _f64(m, n), "indices": [_i64(k)], "values": _f64(k, n), "accumulate": accumulate}


@rule("aten::index_put", sizes=_sizes_put, moves=scattered, reference=_index_put, example=_example_put,
      complex=_twofold)  # fmt: skip
@rule("aten::_unsafe_index_put", "aten::_index_put_impl", "aten::_unsafe_masked_index_put_accumulate",
      sizes=_sizes_put, moves=scattered, complex=_twofold)  # fmt: skip
def index_put(arriving: Any) -> Cost:
    """Values are put; with ``accumulate`` each is one addition. A boolean mask names as many as there are values."""
    return Cost(add=arriving)


@rule("aten::put", sizes=lambda call: {"arriving": call["source"].numel if call.get("accumulate") else 0},
      moves=scattered, complex=_twofold)  # fmt: skip
def put(arriving: Any) -> Cost:
    """Values are put; with ``accumulate`` each is one addition."""
    return Cost(add=arriving)


@rule("aten::bincount", sizes=lambda call: {"n": call["self"].numel if call.get("weights") is not None else 0})
def bincount(n: Any) -> Cost:
    """With weights one addition each; counting is integer arithmetic."""
    return Cost(add=n)


def _sizes_histogram(call: Call) -> dict[str, Any]:
    """Elements; ``ranged`` where both ends are given: without them the least and the largest are looked for."""
    return {"n": call["self"].numel, "ranged": (call.get("min", 0), call.get("max", 0)) != (0, 0)}


@rule("aten::histc", sizes=_sizes_histogram)
def histogram(n: Any, ranged: bool) -> Cost:
    """Two comparisons with the ends, the bin by (x - min) * scale (add, mul) rounded (cmp); counting is integer."""
    return Cost(cmp=3, add=1, mul=1) * n + Cost(cmp=0 if ranged else 2 * (n - 1))


def _sizes_search(call: Call) -> dict[str, Any]:
    edges = call.get("sorted_sequence") or call["boundaries"]
    return {"values": call.out.numel, "length": edges.shape[-1]}


@rule("aten::searchsorted", "aten::bucketize", sizes=_sizes_search)
def search(values: Any, length: Any) -> Cost:
    """A binary search each: at most ceil(log2(length + 1)) comparisons."""
    return Cost(cmp=values * int(length).bit_length())


def _unfold_backward(grad_in: Array, input_sizes: list[int], dim: int, size: int, step: int) -> Array:
    result = Array.make(tuple(input_sizes), lambda *_: 0.0)
    for place in itertools.product(*map(range, grad_in.shape)):
        target = (*place[:dim], place[dim] * step + place[-1], *place[dim + 1 : -1])
        old = result[target]
        result[target] = grad_in[place] if isinstance(old, float) else old + grad_in[place]
    return result


def _example_unfold(m: int, n: int, size: int, step: int) -> dict[str, Any]:
    windows = n
    length = (windows - 1) * step + size
    return {"grad_in": _f64(m, windows, size), "input_sizes": [m, length], "dim": 1, "size": size, "step": step}


def _sizes_unfold(call: Call) -> dict[str, Any]:
    windows, size, step = call["grad_in"].shape[call["dim"]], call["size"], call["step"]
    return {"values": call["grad_in"].numel, "covered": size + (windows - 1) * min(step, size), "each": windows * size}


@rule("aten::unfold_backward", sizes=_sizes_unfold, reference=_unfold_backward, example=_example_unfold)
def unfold_backward(values: Any, covered: Any, each: Any) -> Cost:
    """The windows are laid over each other: an addition for each value but the first to arrive at its place."""
    return Cost(add=values - values // each * covered)


def _sizes_pad_backward(call: Call) -> dict[str, Any]:
    return {"arriving": call["grad_output"].numel, "places": _kept(call)}


def _kept(call: Call) -> int:
    """The elements of the operand that the padded result shows: all of them, unless the padding is negative."""
    shape, pads = list(call["self"].shape), call["padding"]
    for n in range(len(pads) // 2):
        shape[-1 - n] -= sum(max(0, -p) for p in pads[2 * n : 2 * n + 2])
    return math.prod(shape)


def _pad_backward(grad_output: Array, self: Array, padding: Any, reflect: bool) -> Array:
    (rows, n), left = self.shape, padding[0]
    result: Array = Array.make((rows, n), lambda *_: 0.0)
    for i, j in itertools.product(*map(range, grad_output.shape)):
        at = j - left
        at = (-at if at < 0 else 2 * (n - 1) - at if at >= n else at) if reflect else min(max(at, 0), n - 1)
        result[i, at] = grad_output[i, j] if isinstance(result[i, at], float) else result[i, at] + grad_output[i, j]
    return result


def _example_pad(m: int, n: int, left: Any = (0, 1, 2), right: Any = (0, 1)) -> dict[str, Any]:
    return {"grad_output": _f64(m, n + 2 + left + right), "self": _f64(m, n + 2), "padding": [left, right]}


def _reflected(grad_output: Array, self: Array, padding: Any) -> Array:
    return _pad_backward(grad_output, self, padding, reflect=True)


def _replicated(grad_output: Array, self: Array, padding: Any) -> Array:
    return _pad_backward(grad_output, self, padding, reflect=False)


@rule("aten::reflection_pad1d_backward", sizes=_sizes_pad_backward, reference=_reflected, example=_example_pad)
@rule("aten::replication_pad1d_backward", sizes=_sizes_pad_backward, reference=_replicated, example=_example_pad)
@rule("aten::reflection_pad2d_backward", "aten::reflection_pad3d_backward", "aten::replication_pad2d_backward",
      "aten::replication_pad3d_backward", sizes=_sizes_pad_backward)  # fmt: skip
def pad_backward(arriving: Any, places: Any) -> Cost:
    """An addition for each element of the gradient but the first at its place: the padding's share."""
    return Cost(add=arriving - places)
