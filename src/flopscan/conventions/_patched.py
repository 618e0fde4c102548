"""What counters that put their own functions in place of torch's add for each: (FLOPs, multiply-adds).

DeepSpeed's profiler and calflops, which began as a copy of it. Facts from deepspeed/profiling/flops_profiler/
profiler.py 0.19.8 (Apache-2.0) and calflops/pytorch_ops.py 0.3.2 (MIT). Where the two differ stands in their files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from flopscan.conventions import _einsum, _functions
from flopscan.conventions._modules import module
from flopscan.conventions._rnn import cells, recurrent
from flopscan.core.convention import Handle
from flopscan.core.trace import Call, TensorSpec

Pair = Callable[[Call], tuple[int, int]]
Pairs = Mapping[str, Pair]


def first(call: Call) -> TensorSpec:
    """The first operand, whatever it is called."""
    found = next(iter(call.args.values()))
    assert isinstance(found, TensorSpec)
    return found


def spelled(call: Call, *ways: str) -> bool:
    """Whether it was written in one of these ways: functional, torch, method, operator."""
    return call.get("spelled") in ways


def linear(call: Call) -> tuple[int, int]:
    """2 * b*l*k*n, no bias."""
    macs = call["input"].numel * call["weight"].shape[0]
    return 2 * macs, macs


def convolution(call: Call) -> tuple[int, int]:
    """2 * the output's positions * k * c * (d // groups), and the bias on the output; its own output size."""
    weight = call["weight"]
    batch, channels, *spatial = batched(call)
    out, groups, kernel = weight.shape[0], call.get("groups", 1), weight.shape[2:]
    strides, dilations = (spread(call.get(name, 1), kernel) for name in ("stride", "dilation"))
    paddings = _paddings(call.get("padding", 0), dilations, kernel)
    sized = zip(spatial, paddings, dilations, kernel, strides, strict=True)
    positions = batch * math.prod((n + 2 * p - (d * (k - 1) + 1)) // s + 1 for n, p, d, k, s in sized)
    macs = math.prod(kernel) * channels * (out // groups) * positions
    return 2 * macs + (out * positions if call.get("bias") is not None else 0), macs


def batched(call: Call) -> tuple[int, ...]:
    """The input of a convolution as one of several: at one alone the counters stop with an error."""
    given: tuple[int, ...] = call["input"].shape
    return given if len(given) == len(call["weight"].shape) else (1, *given)


def spread(value: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """A setting of a convolution for each axis of its kernel."""
    return tuple(value) if isinstance(value, tuple) else (value,) * len(kernel)


def _paddings(padding: Any, dilations: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
    if padding == "valid":
        return (0,) * len(kernel)
    if padding == "same":
        return tuple(d * (k - 1) // 2 for d, k in zip(dilations, kernel, strict=True))
    return spread(padding, kernel)


def per_element(affine: int | None, plain: int) -> Pair:
    """So many an element of the input: ``affine`` where there is a weight."""
    return lambda call: (first(call).numel * (affine if affine and call.get("weight") is not None else plain), 0)


def _batch_norm(call: Call) -> tuple[int, int]:
    return per_element(5, 4)(call) if call.get("training", False) else per_element(2, 1)(call)


def product(call: Call) -> tuple[int, int]:
    """2 * the left operand's elements * the right one's last axis: what is broadcast to the left is lost."""
    right = call.get("other", call.get("mat2"))
    macs = call["input"].numel * right.shape[-1]
    return 2 * macs, macs


def turned(call: Call) -> Call:
    """``a.__rmatmul__(b)`` as what it does: ``torch.matmul(b, a)``."""
    return Call("torch::matmul", {"input": call["other"], "other": call["input"]}, call.outputs)


def sum_with_product(call: Call) -> tuple[int, int]:
    """As `product`, and what it is added to."""
    macs = _functions.with_sum(call)
    return 2 * macs + call["input"].numel, macs


def einsum(call: Call) -> tuple[int, int]:
    """numpy's FLOPs, and no multiply-adds."""
    return _einsum.printed_flops(call), 0


def from_the_left(call: Call) -> int:
    """The elements of a sum of two operands whose axes are paired from the left, as nobody broadcasts."""
    shapes = [v.shape for v in (call["input"], call.get("other")) if isinstance(v, TensorSpec)]
    if not shapes:
        return 1
    longest = max(map(len, shapes))
    padded = [(*shape, *(1,) * (longest - len(shape))) for shape in shapes]
    return math.prod(map(max, zip(*padded, strict=True)))


def broadcast(call: Call) -> int:
    """The elements of the result."""
    return call.out.numel


def only(pair: Pair, *ways: str) -> Pair:
    """``pair`` where the function was written in one of these ways, and nothing elsewhere."""
    return lambda call: pair(call) if spelled(call, *ways) else (0, 0)


_ACTIVATIONS = "relu prelu elu leaky_relu relu6 silu gelu softmax"
_KINDS = ("avg_pool{}d", "max_pool{}d", "max_pool{}d_with_indices", "adaptive_avg_pool{}d", "adaptive_max_pool{}d",
          "adaptive_max_pool{}d_with_indices")  # fmt: skip
POOLS = [kind.format(n) for kind in _KINDS for n in (1, 2, 3)]


def pooled_norm(call: Call) -> int:
    """A pool of norms is written with three functions: avg_pool of the input, relu and mul of the output."""
    power = abs(call.get("norm_type", 0))
    return call["input"].numel + (0 if power == math.inf else 2 * call.out.numel)


def response_norm(call: Call) -> int:
    """It is written with four: mul twice and add of the input, and avg_pool of the channels, padded."""
    shape, more = call["input"].shape, call["size"] // 2 + (call["size"] - 1) // 2
    padded = (shape[0], shape[1] + more, *shape[2:])
    return 3 * call["input"].numel + math.prod(padded)


def _recurrent(call: Call) -> tuple[int, int]:
    return recurrent(call, lambda rows, columns: 2 * rows * columns - rows), 0


def _cell(call: Call) -> tuple[int, int]:
    return cells(call, lambda rows, columns: 2 * rows * columns - rows), 0


PAIRS: dict[str, Pair] = {
    "torch::linear": linear,
    **{f"torch::conv{n}d": convolution for n in (1, 2, 3)},
    **{f"torch::{name}": only(per_element(None, 1), "functional") for name in (*_ACTIVATIONS.split(), *POOLS)},
    "torch::batch_norm": only(_batch_norm, "functional"),
    **{f"torch::{kind}_norm": only(per_element(5, 4), "functional") for kind in ("layer", "group", "instance")},
    **{f"torch::lp_pool{n}d": lambda call: (pooled_norm(call), 0) for n in (1, 2, 3)},
    "torch::local_response_norm": lambda call: (response_norm(call), 0),
    "torch::matmul": only(product, "torch", "method"),
    "torch::rmatmul": lambda call: product(turned(call)),
    "torch::addmm": sum_with_product,
    "torch::baddbmm": only(sum_with_product, "torch"),
    "torch::einsum": einsum,
    **{module(name): _recurrent for name in ("RNN", "GRU", "LSTM")},
    **{module(f"{name}Cell"): _cell for name in ("RNN", "GRU", "LSTM")},
}


def flops(pairs: Pairs) -> dict[str, Handle]:
    """The handles that add the FLOPs of each."""
    return {name: lambda call, pair=pair: int(pair(call)[0]) for name, pair in pairs.items()}  # type: ignore[misc]


def macs(pairs: Pairs) -> dict[str, Handle]:
    """The handles that add the multiply-adds of each."""
    return {name: lambda call, pair=pair: int(pair(call)[1]) for name, pair in pairs.items()}  # type: ignore[misc]


def exactly(count: Handle) -> Pair:
    """The FLOPs and multiply-adds of a product whose multiply-adds ``count`` gives."""
    return lambda call: (2 * count(call), count(call))


def exact_convolution(call: Call) -> tuple[int, int]:
    """As `convolution`, at the positions of the output that there are."""
    weight = call["weight"]
    macs = call.out.numel // weight.shape[0] * weight.numel
    return 2 * macs + (call.out.numel if call.get("bias") is not None else 0), macs


def transposed(call: Call) -> tuple[int, int]:
    """2 * the input's positions * the weight, and the bias on the output."""
    given, weight = call["input"], call["weight"]
    macs = given.numel // weight.shape[0] * weight.numel
    bias = given.shape[0] * weight.shape[1] * call.get("groups", 1) * math.prod(call.out.shape[2:])
    return 2 * macs + (bias if call.get("bias") is not None else 0), macs


def exact_einsum(call: Call) -> tuple[int, int]:
    """numpy's FLOPs with all digits, and the multiply-adds of the products."""
    return _einsum.flops(call), _einsum.macs(call)


def output(call: Call) -> tuple[int, int]:
    """1 an element of the output."""
    return call.out.numel, 0


def recurrent_macs(call: Call) -> tuple[int, int]:
    """The products of a recurrent module as multiply-adds."""
    count = cells if "Cell" in call.op else recurrent
    return 0, count(call, lambda rows, columns: rows * columns, sums=False)


RECURRENT: Pairs = {module(name): recurrent_macs for name in ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")}
