"""ptflops 0.7.5, its default backend "pytorch": what it hooks by exact class, and what it patches, both added up.

Facts of each hook from ptflops/pytorch_ops.py, of the sum from ptflops/pytorch_engine.py (MIT). Multiply-adds of layers
with their biases; 1 or 2 an element of norms, activations and pools, and these again as the function in them. The sum
over modules is divided by the batch of the model's first positional operand, that over functions is not. `F.upsample`
counts twice, also as the `F.interpolate` in it, which a trace has alone.
"""

from __future__ import annotations

import math

from flopscan.conventions import _einsum, _functions, _patched, _products
from flopscan.conventions._frames import HELD, hidden, visits, without_held
from flopscan.conventions._modules import each, first, has, is_module, module, nothing, operands, per_input, setting
from flopscan.conventions._patched import POOLS, from_the_left, product, spelled, sum_with_product
from flopscan.conventions._rnn import cells, recurrent
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, TensorSpec, Trace

_OPS, _ENGINE = "ptflops 0.7.5, ptflops/pytorch_ops.py", "ptflops 0.7.5, ptflops/pytorch_engine.py"
_ACTIVATIONS, _CONVOLUTIONS = "ReLU PReLU ELU ReLU6 GELU", "Conv1d Conv2d Conv3d"
_TRANSPOSED = "ConvTranspose1d ConvTranspose2d ConvTranspose3d"
_MODULE_POOLS = " ".join(
    f"{k}{n}d" for k in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool") for n in (1, 2, 3)
)
_NORMS = "BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d GroupNorm LayerNorm"


def _linear(call: Call) -> int:
    """(k*n, and n for the bias) a row."""
    given, columns = first(call), call.out.shape[-1]
    return int((given.shape[-1] * columns + columns * has(call, "bias")) * math.prod(given.shape[:-1]))


def _convolution(call: Call) -> int:
    """k*c*(d // groups) a position of the output, or of the input where it is transposed; the bias on the output."""
    given = first(call)
    positions = given.shape if "Transpose" in call.op else call.out.shape
    kernel = math.prod(setting(call, "kernel_size"))
    per_position = kernel * setting(call, "in_channels") * (setting(call, "out_channels") // setting(call, "groups"))
    bias = given.shape[0] * math.prod(call.out.shape[1:]) if has(call, "bias") else 0
    return int(per_position * given.shape[0] * math.prod(positions[2:]) + bias)


def _norm(call: Call) -> int:
    """2 an element where it says that it is affine, which a layer norm never does."""
    return first(call).numel * (2 if setting(call, "affine") else 1)


def _resized_module(call: Call) -> int:
    """The elements of the first image of the output."""
    return math.prod(call.out.shape[1:])


def _attention(call: Call) -> int:
    """Scale, projections with each operand's own width, two products, a softmax and the last projection with bias."""
    query, key, value = (v.shape for v in operands(call)[:3])
    at = 1 if setting(call, "batch_first") else 0
    rows, keys, values, batch = query[at], key[at], value[at], query[1 - at]
    wide, of_keys, of_values, heads = query[2], key[2], value[2], setting(call, "num_heads")
    projections = rows * wide * wide + keys * of_keys * of_keys + values * of_values * of_values
    biases = (rows + keys + values) * wide if has(call, "in_proj_bias") else 0
    pairs = heads * rows * keys * (wide // heads + 1 + of_values // heads)
    return int(batch * (rows * wide + projections + biases + pairs + rows * of_values * (of_values + 1)))


def _attention_of_timm(call: Call) -> int:
    """Scale, two products and a softmax; the linear layers inside are lost."""
    batch, rows, _ = first(call).shape
    wide, heads = setting(call, "head_dim"), setting(call, "num_heads")
    return int(batch * (rows * wide * heads + heads * rows * rows * (2 * wide + 1)))


def _deformable(call: Call) -> int:
    """As a convolution with 24 more a position of the kernel, and 1 for a mask."""
    given = first(call)
    more = 24 + (len(call["operands"]) == 3 and call["operands"][2] is not None)
    kernel, out = math.prod(setting(call, "kernel_size")), setting(call, "out_channels")
    per_position = kernel * (given.shape[1] * (out // setting(call, "groups")) + more)
    bias = call.out.numel if has(call, "bias") else 0
    return int(per_position * given.shape[0] * math.prod(call.out.shape[2:]) + bias)


def _resized(call: Call) -> int:
    """The elements of the output; a tuple of factors is cut to whole ones."""
    given, size, factor = call["input"], call.get("size"), call.get("scale_factor")
    axes, planes = len(given.shape) - 2, math.prod(given.shape[:2])
    pooled = given.numel if call.get("mode") == "area" else 0  # by a pool, which is patched too
    if size is not None:
        return int((math.prod(size) if isinstance(size, tuple) else size**axes) * planes) + pooled
    return int(given.numel * (math.prod(map(int, factor)) if isinstance(factor, tuple) else factor**axes)) + pooled


def _sum_with_product(call: Call) -> int:
    """The product, and what it is added to unless beta is 0."""
    _, macs = sum_with_product(call)
    return macs + (call["input"].numel if call.get("beta", 1) != 0 else 0)


def _only(handle: Handle, *ways: str) -> Handle:
    return lambda call: handle(call) if spelled(call, *ways) else 0


def _numel(call: Call) -> int:
    return _patched.first(call).numel


def _macs(call: Call) -> int:
    return product(call)[1]


HOOKS: dict[str, Handle] = {
    module("Linear"): _linear,
    **each(f"{_CONVOLUTIONS} {_TRANSPOSED}", _convolution),
    **each(f"{_ACTIVATIONS} LeakyReLU", lambda call: call.out.numel),
    **each(_MODULE_POOLS, per_input(1)),
    **each(_NORMS, _norm),
    module("Upsample"): _resized_module,
    **each("RNN GRU LSTM", lambda call: recurrent(call, lambda rows, columns: rows * columns)),
    **each("RNNCell GRUCell LSTMCell", lambda call: cells(call, lambda rows, columns: rows * columns)),
    module("MultiheadAttention"): _attention,
    "module::timm.layers.attention.Attention": _attention_of_timm,
    "module::torchvision.ops.deform_conv.DeformConv2d": _deformable,
}
PATCHES: dict[str, Handle] = {
    **{
        f"torch::{name}": _only(_numel, "functional")
        for name in ("relu", "prelu", "elu", "relu6", "gelu", "silu", *POOLS)
    },
    "torch::softmax": _only(_numel, "functional"),
    "torch::interpolate": _resized,
    **{f"torch::lp_pool{n}d": _patched.pooled_norm for n in (1, 2, 3)},
    "torch::local_response_norm": _patched.response_norm,
    **{f"torch::{name}": _only(_macs, "torch", "method") for name in ("matmul", "mm", "bmm")},
    "torch::rmatmul": lambda call: _macs(_patched.turned(call)),
    "torch::addmm": _sum_with_product,
    "torch::baddbmm": _only(_sum_with_product, "torch"),
    **{f"torch::{name}": _only(from_the_left, "torch", "method") for name in ("add", "mul")},
}


def _lost(trace: Trace, counts: list[int]) -> list[int]:
    """No count for a module inside of one that has a hook."""
    return hidden(trace, counts, lambda around, call: around.op in HOOKS and is_module(call))


def _multiplied(trace: Trace, counts: list[int]) -> list[int]:
    """The counts of each module as often as a walk over the parents meets it."""
    met = visits(trace)
    hooked = (is_module(trace.calls[record.call]) for record in trace.records)
    each = zip(trace.records, counts, hooked, strict=True)
    return [count * met[record.module] if is_hooked else count for record, count, is_hooked in each]


def _divided(trace: Trace, counts: list[int]) -> list[int]:
    """The sum over modules divided by the batch, that over functions as it is."""
    batch, divided, so_far = _batch(trace), [], 0
    for record, count in zip(trace.records, counts, strict=True):
        if is_module(trace.calls[record.call]):
            before, so_far = so_far, so_far + count
            count = so_far // batch - before // batch  # the sum is divided, not each
        divided.append(count)
    return divided


def _batch(trace: Trace) -> int:
    """The length of the first positional operand of the model, over all its calls; 1 where it has none."""
    total = 0
    for record in trace.records:
        call = trace.calls[record.call]
        if record.inside < 0 and is_module(call):
            given = call["operands"][0] if call["operands"] else None
            size = given.shape[0] if isinstance(given, TensorSpec) else len(given) if isinstance(given, tuple) else 1
            total += size * record.count
    return total or 1


LOST = Bug(
    "lost", "layers inside of a module with a hook are lost, as in timm's attention", f"{_ENGINE}, accumulate_flops"
)
SHARED = Bug("shared", "a module under two parents counts for both", f"{_ENGINE}, accumulate_flops")
DIVIDED = Bug("batch", "modules are divided by the batch, functions are not", f"{_ENGINE}, compute_average_flops_cost")
BUGS = (
    LOST,
    SHARED,
    DIVIDED,
    Bug(
        "twice",
        "an activation or pool counts as a module and again as the function in it",
        "sovrasov/flops-counter.pytorch issue 139",
        each(f"{_ACTIVATIONS} {_MODULE_POOLS} Upsample", nothing),
    ),
    Bug(
        "broadcast",
        "what matmul broadcasts is lost",
        f"{_OPS}, _matmul_tensor_flops_hook",
        {"torch::matmul": _only(_functions.product, "torch", "method")},
    ),
    Bug(
        "unseen",
        "@, einsum and attention are not seen",
        "sovrasov/flops-counter.pytorch issues 77 and 101",
        {
            "torch::matmul": _functions.product,
            "torch::einsum": _einsum.macs,
            _products.ATTENTION: _products.attention,
        },
    ),
    Bug(
        "elementwise",
        "add and mul broadcast from the left",
        f"{_OPS}, _elementwise_tensor_flops_hook",
        {f"torch::{name}": _only(lambda call: call.out.numel, "torch", "method") for name in ("add", "mul")},
    ),
    Bug(
        "layer-norm",
        "a layer norm is never affine",
        f"{_OPS}, bn_flops_counter_hook",
        {module("LayerNorm"): lambda call: first(call).numel * (2 if has(call, "weight") else 1)},
    ),
)
CONVENTION = Convention(
    name="ptflops",
    unit="MAC",
    summary="MACs and biases of layers, 1 or 2 an element of norms, activations and pools, these again as functions",
    source=f"{_OPS} and pytorch_engine.py, backend pytorch",
    version="0.7.5",
    handles={**HOOKS, **PATCHES},
    phases=("forward",),
    through=frozenset(HOOKS),
    written_out=WRITTEN_OUT,
    settle={
        HELD: without_held,
        LOST.name: _lost,
        SHARED.name: _multiplied,
        DIVIDED.name: _divided,
    },
    bugs=BUGS,
)
