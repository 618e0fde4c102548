"""ultralytics-thop 2.2.3: multiply-adds of layers and of products written as functions; a few of norms, means, softmax.

Every number here was observed on layers of known sizes; nothing of the package (AGPL-3.0) is copied. A class counts as
its nearest base with a rule. Functions inside of a module that has a rule do not count again, modules inside of it do.
"""

from __future__ import annotations

import math

from flopscan.conventions._frames import hidden
from flopscan.conventions._functions import PRODUCTS, einsum_of_two
from flopscan.conventions._gates import all_layers, step
from flopscan.conventions._modules import first, has, is_module, rows, setting, softmax_axis
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, Trace

_UPSAMPLED = {"linear": 5, "bilinear": 11, "bicubic": 259, "trilinear": 31}


def _convolution(call: Call) -> int:
    """c*k*(d // groups) a position of the output, or of the input where it is transposed."""
    given, out = first(call), call.out
    kernel, groups = setting(call, "kernel_size"), setting(call, "groups")
    channels, made = setting(call, "in_channels"), setting(call, "out_channels")
    spatial = (given if "ConvTranspose" in call.op or _transposed(call) else out).shape[-len(kernel) :]
    batch = math.prod(out.shape[: -len(kernel) - 1])
    return int(batch * math.prod(spatial) * math.prod(kernel) * channels * (made // groups))


def _transposed(call: Call) -> bool:
    return any(base.startswith("ConvTranspose") for base in call["bases"])


def _linear(call: Call) -> int:
    return setting(call, "in_features") * call.out.numel


def _bilinear(call: Call) -> int:
    """The left operand times the weight, and that times the right one."""
    left, right = setting(call, "in1_features"), setting(call, "in2_features")
    return call.out.numel * (left * right + right)


def _norm(call: Call) -> int:
    """2 an element, 4 where it has weights."""
    affine = setting(call, "affine", False) or setting(call, "elementwise_affine", False)
    return first(call).numel * (4 if affine else 2)


def _softmax(call: Call, *, more: int = 0) -> int:
    """f exponentials, f - 1 sums and f divisions a row; ``more`` of each row."""
    given = first(call)
    features = given.shape[softmax_axis(call)]
    return given.numel // features * (3 * features - 1 + more)


def _softmin(call: Call) -> int:
    return _softmax(call) + first(call).numel


def _softmax_of_channels(call: Call) -> int:
    given = first(call)
    return given.numel // given.shape[-3] * (3 * given.shape[-3] - 1)


def _mean(call: Call) -> int:
    """Every element of every window that there is, and 1 a window; padding is in it where it counts for the mean."""
    given, axes = first(call).shape, call.out.shape
    kernel = setting(call, "kernel_size")
    rank = len(kernel) if isinstance(kernel, tuple) else int(next(b for b in call["bases"] if b[-1] == "d")[-2])
    wide, steps, pads = (_spread(setting(call, name), rank) for name in ("kernel_size", "stride", "padding"))
    counted = setting(call, "count_include_pad", True)
    covered = 1
    for size, out, k, s, p in zip(given[-rank:], axes[-rank:], wide, steps, pads, strict=True):
        low, high = (-p, size + p) if counted else (0, size)
        covered *= sum(min(i * s - p + k, high) - max(i * s - p, low) for i in range(out))
    return math.prod(axes[:-rank]) * covered + call.out.numel


def _spread(value: object, rank: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * rank  # type: ignore[return-value]


def _adaptive_mean(call: Call) -> int:
    """Every element of every window, and 1 a window."""
    given, out = first(call).shape, call.out.shape
    rank = int(next(base for base in call["bases"] if base[-1] == "d")[-2])
    covered = 1
    for size, made in zip(given[-rank:], out[-rank:], strict=True):
        covered *= sum(-(-(i + 1) * size // made) - i * size // made for i in range(made))
    return math.prod(out[:-rank]) * covered + call.out.numel


def _resized(call: Call) -> int:
    """So many an element of the output; nearest is free."""
    return call.out.numel * _UPSAMPLED.get(setting(call, "mode"), 0)


def _recurrent(call: Call) -> int:
    """All layers and projections, all steps that there are, also of a packed sequence."""
    return all_layers(call, projected=True) * rows(call)


def _cell(call: Call) -> int:
    return step(call, setting(call, "input_size")) * math.prod(first(call).shape[:-1])


def _attention(call: Call) -> int:
    """Four projections, two products over all pairs, and a softmax a row; keys that are added need no projection."""
    shapes = {**dict(zip(("query", "key", "value"), (o.shape for o in call["operands"][:3]), strict=False))}
    shapes.update((name, o.shape) for name, o in call["named"] if name in ("query", "key", "value"))
    query, key = shapes["query"], shapes["key"]
    wide, heads = setting(call, "embed_dim"), setting(call, "num_heads")
    at = 1 if setting(call, "batch_first") and len(query) == 3 else 0
    batch, rows, keys = (query[1 - at] if len(query) == 3 else 1), query[at], key[at]
    projections = 2 * rows * wide * wide + keys * wide * (setting(call, "kdim") + setting(call, "vdim"))
    pairs = keys + has(call, "bias_k") + bool(setting(call, "add_zero_attn"))
    return int(batch * (projections + 2 * rows * pairs * wide + heads * rows * (3 * pairs - 1)))


def _families(names: str, *ranks: int) -> list[str]:
    return [f"{name}{rank}d" for name in names.split() for rank in ranks or (1, 2, 3)]


RULES: dict[str, Handle] = {
    **dict.fromkeys(_families("Conv ConvTranspose"), _convolution),
    "Linear": _linear,
    "Bilinear": _bilinear,
    **dict.fromkeys(
        (*_families("BatchNorm InstanceNorm"), "SyncBatchNorm", "LayerNorm", "GroupNorm", "RMSNorm"), _norm
    ),
    "PReLU": lambda call: first(call).numel,
    "Softmax": _softmax,
    "LogSoftmax": lambda call: _softmax(call, more=1),
    "Softmin": _softmin,
    "Softmax2d": _softmax_of_channels,
    **dict.fromkeys(_families("AvgPool"), _mean),
    **dict.fromkeys(_families("AdaptiveAvgPool"), _adaptive_mean),
    **dict.fromkeys(("Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"), _resized),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
    **dict.fromkeys(("RNNCell", "GRUCell", "LSTMCell"), _cell),
    "MultiheadAttention": _attention,
}


def _rule(call: Call) -> Handle | None:
    """The rule of the nearest of torch's classes that the module is one of."""
    if not is_module(call):
        return None
    return next((RULES[base] for base in call["bases"] if base in RULES), None)


def _outside_of_rules(trace: Trace, counts: list[int]) -> list[int]:
    return hidden(trace, counts, lambda around, call: not is_module(call) and _rule(around) is not None)


_SEEN: dict[str, Handle] = {
    **{name: PRODUCTS[name] for name in ("torch::matmul", "torch::bmm", "torch::linear")},
    "torch::einsum": einsum_of_two,
    "flopscan::scaled_dot_product_attention": PRODUCTS["flopscan::scaled_dot_product_attention"],
}
CONVENTION = Convention(
    name="ultralytics-thop",
    unit="MAC",
    summary="MACs of layers, attention and written products (not mm, addmm), 2 or 4 an element of norms, some others",
    source="ultralytics-thop 2.2.3, observed",
    version="2.2.3",
    handles=_SEEN,
    fallback=_rule,
    through=frozenset({"module::"}),
    phases=("forward",),
    written_out=WRITTEN_OUT,
    settle={"functions do not count inside of a module that has a rule": _outside_of_rules},
    bugs=(
        Bug(
            "mm",
            "mm, addmm and baddbmm are not seen",
            "observed: torch.mm of (3, 4) and (4, 5) gives 0",
            {name: PRODUCTS[name] for name in ("torch::mm", "torch::addmm", "torch::baddbmm")},
        ),
        Bug(
            "einsum",
            "an einsum of three operands is not seen",
            "observed: torch.einsum('ij,jk,kl->il') gives 0",
            {"torch::einsum": lambda call: einsum_of_two(call) or PRODUCTS["torch::einsum"](call)},
        ),
    ),
)
