"""Matrix products in groups, and with scaled, packed or sparse operands. The sums are those of a plain product."""

from __future__ import annotations

import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.trace import Call
from flopscan.rules import product


def _sizes_grouped(call: Call) -> dict[str, Any]:
    """Rows of the left, columns of the right, the contracted length, and how many whole products of these there are."""
    left, right = call["self"].shape, call["mat2"].shape
    if len(left) == 3 and len(right) == 3:
        return {"g": left[0], "m": left[1], "k": left[2], "n": right[2]}
    return {"g": 1, "m": left[-2], "k": left[-1], "n": right[-1]}


@product("aten::_grouped_mm", sizes=_sizes_grouped)
def grouped_mm(g: Any, m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds over all groups together (times g for 3-D by 3-D); how the offsets split them is immaterial.

    2-D by 3-D splits the rows, 3-D by 2-D the columns, 2-D by 2-D the contracted axis: each row, column or step
    belongs to one group, so the total does not depend on the sizes of the groups.
    """
    return Cost(fma=g * m * n * k)


@product("transformers::grouped_mm_fallback", contract="input: m k, weight: _ k n")
def grouped_mm_fallback(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds: each row is multiplied by the matrix of its group."""
    return Cost(fma=m * n * k)


@product("transformers::grouped_mm_fallback_backward", contract="grad_output: m n, input: m k")
def grouped_mm_fallback_backward(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds for the gradient of the input and as many for the weights."""
    return Cost(fma=2 * m * n * k)


@product("aten::_int_mm", contract="self: m k, mat2: k n", integers=True)
def int_mm(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k integer multiply-adds."""
    return Cost(fma=m * n * k)


_BLOCK = {"float8_e8m0fnu": 32, "float8_e4m3fn": 16, "float32": 128}  # one scale for so many steps: MX, NVFP4, DeepSeek


def _sizes_scaled(call: Call) -> dict[str, Any]:
    left, right = call["self"], call["mat2"]
    scale_a, scale_b = call["scale_a"], call["scale_b"]
    if isinstance(scale_a, tuple):
        scale_a, scale_b = scale_a[0], scale_b[0]
    packed = 2 if left.dtype == "float4_e2m1fn_x2" else 1
    sizes = {"m": left.shape[-2], "k": left.shape[-1] * packed, "n": right.shape[-1], "g": 1}
    if len(left.shape) == 3 and len(right.shape) == 3:
        sizes["g"] = left.shape[0]
    whole = scale_a.dtype == "float32"
    if whole and scale_a.numel == scale_b.numel == 1:
        return {**sizes, "scales": 1, "blocks": 1}
    if whole and (scale_a.numel <= left.numel // max(left.shape[-1], 1)):
        return {**sizes, "scales": 2, "blocks": 1}
    return {**sizes, "scales": 1, "blocks": -(-sizes["k"] // _BLOCK.get(scale_a.dtype, 128))}


@product("aten::_scaled_mm", "aten::_scaled_mm_v2", "aten::_scaled_grouped_mm", "aten::_scaled_grouped_mm_v2",
      sizes=_sizes_scaled)  # fmt: skip
def scaled_mm(g: Any, m: Any, k: Any, n: Any, scales: Any, blocks: Any, scale_result: Any = None) -> Cost:
    """m*n*k multiply-adds; a scale per tensor is 1 mul per output, per row and column 2; none depends on the bias.

    With a scale per block of the contracted axis, each block's partial product is scaled (1 mul for the two scales)
    and accumulated (1 fma).
    """
    rescaled = Cost() if scale_result is None else Cost(mul=g * m * n)
    if blocks == 1:
        return Cost(fma=g * m * n * k, mul=g * m * n * scales) + rescaled
    return Cost(fma=g * m * n * (k + blocks), mul=g * m * n * blocks) + rescaled


def _sizes_packed(call: Call) -> dict[str, Any]:
    left = call.get("self") or call["inp"]
    return {"m": math.prod(left.shape[:-1]), "k": left.shape[-1], "n": call.out.shape[-1]}


@product("aten::_weight_int4pack_mm", "aten::_weight_int4pack_mm_for_cpu",
      "aten::_weight_int4pack_mm_with_scales_and_zeros", sizes=_sizes_packed)  # fmt: skip
def int4_mm(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds; each of the n*k weights is unpacked once: scale * q + zero, a mul and an add."""
    return Cost(fma=m * n * k, mul=n * k, add=n * k)


@product("aten::_weight_int8pack_mm", sizes=_sizes_packed)
def int8_mm(m: Any, k: Any, n: Any) -> Cost:
    """m*n*k multiply-adds; the scale of the output channel is 1 mul per output."""
    return Cost(fma=m * n * k, mul=m * n)


@product("aten::_cslt_sparse_mm", sizes=lambda call: {"outputs": call.out.numel, "k": call["dense_B"].shape[0]})
def semi_structured_mm(outputs: Any, k: Any) -> Cost:
    """k/2 multiply-adds per output: two of every four weights are stored."""
    return Cost(fma=outputs * k // 2)
