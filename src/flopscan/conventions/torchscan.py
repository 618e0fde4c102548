"""torchscan 0.2.0, its module formulas ("module_flops"): FLOPs, 2 k - 1 a sum of k products, of leaf modules by class.

Facts of each formula from torchscan/modules/flops.py and _pooling.py, of who is asked from crawler.py (Apache-2.0). Of
functions nothing is seen, nor of softmax, GELU, group norms and recurrent layers; a size of a window that is one number
is taken for one axis. The operator count beside these is torch's FlopCounterMode. Not reproduced: `nn.Transformer` as
the whole model, which has a formula of its own.
"""

from __future__ import annotations

import math

from flopscan.conventions._modules import first, has, is_a, is_module, module, setting
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, TensorSpec

_SOURCE = "torchscan 0.2.0, torchscan/modules/flops.py"
_RANKS = (1, 2, 3)
_ATTENTION = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")


def _linear(call: Call) -> int:
    rows = math.prod(first(call).shape[:-1])
    return int(rows * setting(call, "out_features") * (2 * setting(call, "in_features") - 1 + has(call, "bias")))


def _convolution(call: Call) -> int:
    """2 k - 1 an element of the output, of the second axis of the input; 1 for a bias."""
    k = math.prod(setting(call, "kernel_size")) * (first(call).shape[1] // setting(call, "groups"))
    return int(call.out.numel * (2 * k - 1 + has(call, "bias")))


def _transposed(call: Call) -> int:
    """As if it were no transposed one, and 8 an axis for the padding."""
    return _convolution(call) + 8 * len(setting(call, "kernel_size"))


def _transposed_right(call: Call) -> int:
    """Twice the input's positions times the weight, and the bias."""
    given = first(call).shape
    kernels = math.prod(setting(call, "kernel_size")) * (setting(call, "out_channels") // setting(call, "groups"))
    return int(2 * given[0] * math.prod(given[1:]) * kernels + has(call, "bias") * call.out.numel)


def _batch_norm(call: Call) -> int:
    """2 a channel, and 2 an element; 2 more where it is affine."""
    return int(2 * setting(call, "num_features") + first(call).numel * (4 if setting(call, "affine") else 2))


def _layer_norm(call: Call) -> int:
    """6 an element and 2 a row; 1 for each parameter."""
    n = first(call).numel
    rows = n // math.prod(setting(call, "normalized_shape"))
    return int(n * (6 + has(call, "weight") + has(call, "bias")) + 2 * rows)


def _window(call: Call, spread: int) -> int:
    size = setting(call, "kernel_size")
    return math.prod(size) if isinstance(size, tuple) else size**spread


def _largest(call: Call, spread: int = 1) -> int:
    return call.out.numel * (_window(call, spread) - 1)


def _mean(call: Call, spread: int = 1) -> int:
    """The sum of a window, and a quotient an axis."""
    return call.out.numel * (_window(call, spread) - 1 + len(first(call).shape) - 2)


def _adaptive(call: Call) -> tuple[int, int]:
    """The elements of a window, by the remainder where sizes do not divide, and its axes."""
    spatial = list(zip(first(call).shape[2:], call.out.shape[2:], strict=False))
    return math.prod(n // m if n % m == 0 else n % m + 1 for n, m in spatial), len(spatial)


def _adaptive_largest(call: Call) -> int:
    return call.out.numel * (_adaptive(call)[0] - 1)


def _adaptive_mean(call: Call) -> int:
    return call.out.numel * (sum(_adaptive(call)) - 1)


def _attention(call: Call) -> int:
    """Projections, a scale, scores, masks, a softmax, the weighted sum, the last projection, the mean of weights.

    Nothing for one sequence alone, or with keys added: it has no formula for these.
    """
    given = {**dict(zip(_ATTENTION, call["operands"], strict=False)), **dict(call["named"])}
    q, k, v = (given[name].shape for name in _ATTENTION[:3])
    if {len(q), len(k), len(v)} != {3} or has(call, "bias_k") or setting(call, "add_zero_attn"):
        return 0
    at = 1 if setting(call, "batch_first") else 0
    b, rows, keys, wide, heads = q[1 - at], q[at], k[at], setting(call, "embed_dim"), setting(call, "num_heads")
    d, biased = wide // heads, has(call, "in_proj_bias")
    projections = sum(math.prod(x[:-1]) * wide * (2 * x[-1] - 1 + biased) for x in (q, k, v))
    masks = sum(isinstance(given.get(name), TensorSpec) for name in ("key_padding_mask", "attn_mask"))
    weights = len(call.outputs) > 1 and len(call.outputs[1].shape) == 3
    a_row = d + keys * (2 * d - 1 + masks + weights) + 3 * keys - 1 + d * (2 * keys - 1)
    last = b * rows * wide * (2 * wide - 1 + biased)
    return int(projections + 1 + b * heads * rows * a_row + last)


def _each(factor: int) -> Handle:
    return lambda call: factor * first(call).numel


def _dropout(call: Call) -> int:
    """1 an element, also in evaluation mode."""
    return first(call).numel if setting(call, "p") > 0 else 0


RULES: tuple[tuple[tuple[str, ...], Handle], ...] = (
    (("Linear",), _linear),
    (("ReLU",), _each(1)),
    (("ELU",), _each(6)),
    (("LeakyReLU",), _each(4)),
    (("ReLU6",), _each(2)),
    (("Tanh",), _each(6)),
    (("Sigmoid",), _each(4)),
    (tuple(f"ConvTranspose{n}d" for n in _RANKS), _transposed),
    (tuple(f"Conv{n}d" for n in _RANKS), _convolution),
    ((*(f"BatchNorm{n}d" for n in _RANKS), "SyncBatchNorm"), _batch_norm),
    (tuple(f"MaxPool{n}d" for n in _RANKS), _largest),
    (tuple(f"AvgPool{n}d" for n in _RANKS), _mean),
    (tuple(f"AdaptiveMaxPool{n}d" for n in _RANKS), _adaptive_largest),
    (tuple(f"AdaptiveAvgPool{n}d" for n in _RANKS), _adaptive_mean),
    (("Dropout",), _dropout),
    (("MultiheadAttention",), _attention),
    (("LayerNorm",), _layer_norm),
)


def _rule(call: Call) -> Handle | None:
    """The first rule that fits a leaf, or attention."""
    if not is_module(call) or not (call["leaf"] or is_a(call, "MultiheadAttention")):
        return None
    return next((handle for names, handle in RULES if is_a(call, *names)), None)


CONVENTION = Convention(
    name="torchscan",
    unit="FLOP",
    summary="2k - 1 a sum of k products, by leaf modules; 4 an element of batch norms, 8 of layer norms, 1 of ReLU",
    source=f"{_SOURCE}, the formulas of modules",
    version="0.2.0",
    fallback=_rule,
    phases=("forward",),
    bugs=(
        Bug("transposed", "a transposed convolution counts on the output's size", f"{_SOURCE}, flops_convtransposend",
            {module(f"ConvTranspose{n}d"): _transposed_right for n in _RANKS}),
        Bug("windows", "windows given by one number", f"{_SOURCE}, flops_maxpool and flops_avgpool",
            {**{module(f"MaxPool{n}d"): lambda call, n=n: _largest(call, n) for n in _RANKS},  # type: ignore[misc]
             **{module(f"AvgPool{n}d"): lambda call, n=n: _mean(call, n) for n in _RANKS}}),  # type: ignore[misc]
        Bug("dropout", "dropout counts in evaluation mode", f"{_SOURCE}, flops_dropout",
            {"module::torch.nn.modules.dropout.Dropout": lambda call: 0}),
    ),
)  # fmt: skip
