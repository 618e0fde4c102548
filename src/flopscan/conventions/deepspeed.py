"""DeepSpeed 0.19.8's FLOPS profiler: 2 per multiply-add of the functions that it patches, 1 to 5 an element of others.

Facts of each function from deepspeed/profiling/flops_profiler/profiler.py (Apache-2.0). It replaces functions of torch
and torch.nn.functional, so that it sees ``F.relu(x)`` and ``a @ b``, but not ``x.relu()`` and ``a + b``, nor a function
that a module keeps from before. Biases count in convolutions and in `addmm`, not in linear layers.
`einops.einsum` and `F.upsample` count twice there, also as the `torch.einsum` and `F.interpolate` in them; a trace
has the second alone.
"""

from __future__ import annotations

import math

from flopscan.conventions import _functions, _patched, _products
from flopscan.conventions._frames import HELD, without_held
from flopscan.conventions._patched import PAIRS, Pair, Pairs, exactly, only, product
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.core.convention import Bug, Convention
from flopscan.core.trace import Call

SOURCE = "DeepSpeed 0.19.8, deepspeed/profiling/flops_profiler/profiler.py"


def _resized(call: Call) -> tuple[int, int]:
    """By a size: the product of the size alone, without batch and channels. By a factor: the output's elements."""
    given, size, factor = call["input"], call.get("size"), call.get("scale_factor")
    pooled = given.numel if call.get("mode") == "area" else 0  # by a pool, which is patched too
    if size is not None:
        return (math.prod(size) if isinstance(size, tuple) else size) + pooled, 0
    axes = len(given.shape) - 2
    return int(given.numel * (math.prod(factor) if isinstance(factor, tuple) else factor**axes)) + pooled, 0


THEIRS: dict[str, Pair] = {
    **PAIRS,
    **{f"torch::conv_transpose{n}d": _patched.transposed for n in (1, 2, 3)},
    "torch::interpolate": _resized,
    **dict.fromkeys(("torch::matmul", "torch::mm", "torch::bmm"), product),
    **dict.fromkeys(("torch::add", "torch::mul"), only(_patched.output, "torch", "method")),
    _products.ATTENTION: exactly(_products.attention),
}
WRONG: tuple[tuple[str, str, str, Pairs], ...] = (
    (
        "broadcast",
        "what matmul broadcasts is lost",
        "_matmul_flops_compute",
        {"torch::matmul": exactly(_functions.product)},
    ),
    (
        "interpolate",
        "a size given to interpolate is the whole output",
        "_upsample_flops_compute",
        {"torch::interpolate": _patched.output},
    ),
    (
        "same-padding",
        "an even kernel with same padding is one position short",
        "_conv_flops_compute",
        {f"torch::conv{n}d": _patched.exact_convolution for n in (1, 2, 3)},
    ),
    (
        "einsum",
        "einsum with four digits and no multiply-adds",
        "_einsum_flops_compute",
        {"torch::einsum": _patched.exact_einsum},
    ),
)
CONVENTION = Convention(
    name="deepspeed",
    unit="FLOP",
    summary="2 per multiply-add of the functions that it patches, biases of convolutions, 1 to 5 an element of others",
    source=SOURCE,
    version="0.19.8",
    handles=_patched.flops(THEIRS),
    phases=("forward",),
    written_out=WRITTEN_OUT,
    settle={HELD: without_held},
    bugs=tuple(Bug(key, name, f"{SOURCE}, {where}", _patched.flops(right)) for key, name, where, right in WRONG),
)
