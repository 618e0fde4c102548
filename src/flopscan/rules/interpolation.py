"""Resampling. Coefficients that depend only on sizes (one per row and column) are index arithmetic, not counted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, dot, fma
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.movement import copied

_NEAREST = [
    *(f"aten::{prefix}{d}d" for prefix in ("upsample_nearest", "_upsample_nearest_exact") for d in (1, 2, 3)),
]
_TAPS = {  # taps along each axis, axes
    "aten::upsample_linear1d": (2, 1), "aten::upsample_bilinear2d": (2, 2), "aten::upsample_trilinear3d": (2, 3),
    "aten::upsample_bicubic2d": (4, 2),
}  # fmt: skip


@rule(*_NEAREST, moves=copied)
def nearest() -> Cost:
    """Nothing is computed: values are repeated."""
    return Cost()


def _sizes_nearest_backward(call: Call) -> dict[str, Any]:
    before, after = call["input_size"][2:], call["output_size"]
    planes = math.prod(call["input_size"][:2])
    covered = math.prod(min(n, m) for n, m in zip(before, after, strict=True))
    return {"arriving": planes * math.prod(after), "covered": planes * covered}


@rule(*(f"{op}_backward" for op in _NEAREST), sizes=_sizes_nearest_backward)
def nearest_backward(arriving: Any, covered: Any) -> Cost:
    """The copies of an element are added up: one addition for each but the first."""
    return Cost(add=arriving - covered)


def _taps_linear(size: int, out: int, align_corners: bool) -> list[list[tuple[int, float]]]:
    """For each output position the two positions it lies between, and their weights."""
    if align_corners:
        places = [i * (size - 1) / (out - 1) if out > 1 else 0.0 for i in range(out)]
    else:
        places = [max((i + 0.5) * size / out - 0.5, 0.0) for i in range(out)]
    low = [min(int(x), size - 1) for x in places]
    return [[(j, 1 - (x - j)), (min(j + 1, size - 1), x - j)] for x, j in zip(places, low, strict=True)]


def _resample(self: Array, output_size: Any, align_corners: bool) -> Array:
    sizes = self.shape[2:]
    taps = [_taps_linear(n, m, align_corners) for n, m in zip(sizes, output_size, strict=True)]

    def value(plane: Array, at: tuple[int, ...], axis: int) -> Any:
        if axis == len(sizes):
            return plane
        pairs = taps[axis][at[axis]]
        return dot([value(plane[j], at, axis + 1) for j, _ in pairs], [weight for _, weight in pairs])

    return Array.make((*self.shape[:2], *output_size), lambda b, c, *at: value(self[b, c], at, 0))


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


def _example(rank: int) -> Callable[..., Any]:
    def example(c: int, n: int, m: int, align_corners: Any = (False, True)) -> dict[str, Any]:
        return {"self": _f64(1, c, *[n] * rank), "output_size": [m + 1] * rank, "align_corners": align_corners}

    return example


def _sizes(taps: int, axes: int) -> Callable[[Call], dict[str, Any]]:
    return lambda call: {"outputs": call.out.numel, "t": taps, "axes": axes}


def upsample(outputs: Any, t: Any, axes: Any) -> Cost:
    """Axis within axis, t taps each: t + t^2 + .. fma per output (2 linear, 6 bilinear, 14 trilinear, 20 bicubic)."""
    return Cost(fma=outputs * sum(t**n for n in range(1, axes + 1)))


def _sizes_backward(taps: int, axes: int) -> Callable[[Call], dict[str, Any]]:
    return lambda call: {"outputs": call["grad_output"].numel, "t": taps, "axes": axes}


def upsample_backward(outputs: Any, t: Any, axes: Any) -> Cost:
    """The gradient is weighted axis by axis (t + .. + t^(axes-1) mul) and accumulated at its t^axes places (fma)."""
    return Cost(mul=outputs * sum(t**n for n in range(1, axes)), fma=outputs * t**axes)


def _resample_backward(grad_output: Array, output_size: Any, input_size: Any, align_corners: bool) -> Array:
    sizes = input_size[2:]
    taps = [_taps_linear(n, m, align_corners) for n, m in zip(sizes, output_size, strict=True)]
    result = Array.make(tuple(input_size), lambda *_: 0.0)

    def put(grad: Any, place: tuple[int, ...], at: tuple[int, ...]) -> None:
        axis = len(place) - 2
        for j, weight in taps[axis][at[axis]]:
            if axis == len(sizes) - 1:
                here = (*place, j)
                result[here] = fma(grad, weight, result[here])
            else:
                put(grad * weight, (*place, j), at)

    for b, c, *at in itertools.product(*map(range, grad_output.shape)):
        put(grad_output[b, c][tuple(at)], (b, c), tuple(at))
    return result


def _example_backward(rank: int) -> Callable[..., Any]:
    def example(c: int, n: int, m: int, align_corners: Any = (False, True)) -> dict[str, Any]:
        return {
            "grad_output": _f64(1, c, *[m + 1] * rank), "output_size": [m + 1] * rank,
            "input_size": [1, c, *[n] * rank], "align_corners": align_corners,
        }  # fmt: skip

    return example


for _op, (_taps, _axes) in _TAPS.items():
    _linear = _taps == 2
    rule(_op, sizes=_sizes(_taps, _axes), reference=_resample if _linear else None,
         example=_example(_axes) if _linear else None)(upsample)  # fmt: skip
    rule(f"{_op}_backward", sizes=_sizes_backward(_taps, _axes), reference=_resample_backward if _linear else None,
         example=_example_backward(_axes) if _linear else None)(upsample_backward)  # fmt: skip


def _antialias_taps(size: int, out: int, width: int) -> int:
    """The taps of all outputs along one axis: the filter widens with the reduction (as Pillow does)."""
    scale = size / out
    support = width / 2 * max(scale, 1.0)
    taps = 0
    for i in range(out):
        center = scale * (i + 0.5)
        taps += min(int(center + support + 0.5), size) - max(int(center - support + 0.5), 0)
    return taps


def _sizes_antialias(call: Call) -> dict[str, Any]:
    """Taps of both passes over all planes, without ``align_corners``: first along the width, then along the height."""
    width = {"bilinear": 2, "bicubic": 4, "lanczos": 6}[call.op.split("_upsample_")[1].split("2d")[0]]
    if call.op.endswith("backward"):
        (*batch, h, w), (_, _, out_h, out_w) = call["input_size"], call["grad_output"].shape
    else:
        *batch, h, w = (call.get("self") or call["input"]).shape
        _, _, out_h, out_w = call.out.shape
    planes = math.prod(batch)
    return {"taps": planes * (h * _antialias_taps(w, out_w, width) + out_w * _antialias_taps(h, out_h, width))}


_ANTIALIASED = [f"aten::_upsample_{mode}2d_aa" for mode in ("bilinear", "bicubic", "lanczos")]


@rule(*_ANTIALIASED, *(f"{op}_backward" for op in _ANTIALIASED), sizes=_sizes_antialias)
def antialiased(taps: Any) -> Cost:
    """One multiply-add per tap of each of the two passes; the gradient runs the same taps the other way."""
    return Cost(fma=taps)


@rule("aten::affine_grid_generator", "aten::cudnn_affine_grid_generator",
      sizes=lambda call: {"outputs": call.out.numel, "d": call.out.shape[-1]},
      executed=lambda outputs, d: Cost(fma=outputs * (d + 1)))  # fmt: skip
def affine_grid(outputs: Any, d: Any) -> Cost:
    """d multiply-adds per coordinate onto the translation; torch multiplies that by one as well."""
    return Cost(fma=outputs * d)
