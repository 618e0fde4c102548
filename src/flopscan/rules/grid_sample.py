"""Sampling at given places: the places are data, so that finding their neighbours and weights is counted."""

from __future__ import annotations

import itertools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, dot, fma, maximum, minimum, special, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule

BILINEAR, NEAREST, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2
_floor, _round = special("cmp", math.floor), special("cmp", round)


def _sizes(call: Call) -> dict[str, Any]:
    """Places of the whole batch, channels, and how many coordinates a place has."""
    grid = call["grid"].shape
    return {"places": math.prod(grid[:-1]), "c": call["input"].shape[1], "d": grid[-1]}


def _located(d: Any, interpolation_mode: int, padding_mode: int) -> Cost:
    """Per place: the scale (mul, add) and the rounding (cmp) of each of d coordinates; a border clamps it (2 cmp)."""
    if padding_mode == REFLECTION:
        raise ContractError("how often a coordinate is reflected depends on its value: no count for that padding")
    clamps = 0 if padding_mode == ZEROS else d * 2 * (4 if interpolation_mode == BICUBIC else 1)
    return Cost(mul=d, add=d, cmp=d + clamps)


def _corners(d: Any) -> Cost:
    """Per place: the products of the distances along each axis for the 2^d corners (4 mul, and 8 more in 3-D)."""
    return Cost(mul=sum(2**n for n in range(2, d + 1)))


def _pixel(x: Any, size: int, align_corners: bool) -> Any:
    return x * ((size - align_corners) / 2) + (size - 1) / 2


def _place(
    grid: Array, at: tuple[int, ...], sizes: tuple[int, ...], padding_mode: int, align_corners: bool
) -> list[Any]:
    """The coordinates of one place in elements of the input, in the order of its axes (the grid has x first)."""
    found = [_pixel(x, sizes[-1 - a], align_corners) for a, x in enumerate(grid[at])][::-1]
    if padding_mode == BORDER:
        return [maximum(minimum(x, size - 1), 0) for x, size in zip(found, sizes, strict=True)]
    return found


def _distances(place: list[Any]) -> tuple[list[int], list[tuple[Any, Any]]]:
    """The corner before the place, and along each axis the weight of that corner's side and of the other."""
    low, weights = [], []
    for x in place:
        floor = _floor(x)
        t = x - floor
        low.append(int(floor.value))
        weights.append((1 - t, t))
    return low, weights


def _corner_weights(weights: list[tuple[Any, Any]]) -> list[Any]:
    products = list(weights[0])
    for pair in weights[1:]:
        products = [p * w for p in products for w in pair]
    return products


def _corner_places(low: list[int]) -> list[tuple[int, ...]]:
    return list(itertools.product(*((x, x + 1) for x in low)))


def _inside(at: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    return all(0 <= x < size for x, size in zip(at, sizes, strict=True))


def _read(plane: Array, at: tuple[int, ...]) -> Any:
    return plane[at] if _inside(at, plane.shape) else 0.0


def _grid_sample(input: Array, grid: Array, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Array:
    sizes, places = input.shape[2:], grid.shape[1:-1]
    channels = range(input.shape[1])
    result: Array = Array.make((grid.shape[0], len(channels), *places), lambda *_: 0.0)

    for b, *p in itertools.product(range(grid.shape[0]), *map(range, places)):
        place = _place(grid, (b, *p), sizes, padding_mode, align_corners)
        if interpolation_mode == NEAREST:
            nearest = tuple(int(_round(x).value) for x in place)
            values = [_read(input[b, c], nearest) for c in channels]
        else:
            low, distances = _distances(place)
            weights = _corner_weights(distances)
            values = [dot([_read(input[b, c], at) for at in _corner_places(low)], weights) for c in channels]
        for c in channels:
            here = (b, c, *p)
            result[here] = values[c]
    return result


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


def _example(rank: int) -> Any:
    def example(
        b: int, c: int, n: int, m: int, interpolation_mode: Any = (BILINEAR, NEAREST),
        padding_mode: Any = (ZEROS, BORDER), align_corners: Any = (False, True),
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "input": _f64(b, c, *[n + 1] * rank), "grid": _f64(b, *[m] * rank, rank),
            "interpolation_mode": interpolation_mode, "padding_mode": padding_mode, "align_corners": align_corners,
        }  # fmt: skip

    return example


def grid_sample(places: Any, c: Any, d: Any, interpolation_mode: int, padding_mode: int) -> Cost:
    """Bilinear, per place: find it, 2 distances per axis, the corner weights; then 2^d fma for each of c channels.

    Nearest: find it. Bicubic: per axis four coefficients (12 mul, 14 add, by cubic polynomials), then 4 + 16 fma.
    """
    located = _located(d, interpolation_mode, padding_mode)
    if interpolation_mode == NEAREST:
        return located * places
    if interpolation_mode == BICUBIC:
        return (located + Cost(mul=12 * d, add=14 * d, fma=20 * c)) * places
    return (located + Cost(add=2 * d) + _corners(d) + Cost(fma=2**d * c)) * places


rule("aten::grid_sampler_2d", sizes=_sizes, reference=_grid_sample, example=_example(2))(grid_sample)
rule("aten::grid_sampler_3d", sizes=_sizes, reference=_grid_sample, example=_example(3))(grid_sample)
rule("aten::grid_sampler", "aten::_grid_sampler_2d_cpu_fallback", sizes=_sizes)(grid_sample)
rule("aten::cudnn_grid_sampler", sizes=_sizes)(
    lambda places, c, d: grid_sample(places, c, d, BILINEAR, ZEROS)
)  # fmt: skip


def _put(target: Array, at: tuple[int, ...], value: Any) -> None:
    if _inside(at, target.shape):
        target[at] = value


def _grid_sample_backward(
    grad_output: Array, input: Array, grid: Array, interpolation_mode: int, padding_mode: int, align_corners: bool,
    output_mask: Any,
) -> tuple[Array | None, Array]:  # fmt: skip
    """In two dimensions: the input's gradient at the four corners, the grid's from products with their values."""
    sizes, channels = input.shape[2:], range(input.shape[1])
    to_input: Array = Array.make(input.shape, lambda *_: 0.0)
    to_grid: Array = Array.make(grid.shape, lambda *_: 0.0)
    for b, i, j in itertools.product(*map(range, grid.shape[:-1])):
        place = _place(grid, (b, i, j), sizes, padding_mode, align_corners)
        grads = [grad_output[b, c, i, j] for c in channels]
        if interpolation_mode == NEAREST:
            at = tuple(int(_round(x).value) for x in place)
            for c in channels if output_mask[0] else ():
                _put(to_input, (b, c, *at), grads[c] + _read(to_input[b, c], at))
            continue
        low, ((up, down), (left, right)) = _distances(place)
        corners = _corner_places(low)
        if output_mask[0]:
            weights = _corner_weights([(up, down), (left, right)])
            for c, (at, weight) in itertools.product(channels, zip(corners, weights, strict=True)):
                _put(to_input, (b, c, *at), fma(grads[c], weight, _read(to_input[b, c], at)))
        read = [[_read(input[b, c], at) for c in channels] for at in corners]
        nw, ne, sw, se = (dot(values, grads) for values in read)
        to_grid[b, i, j, 0] = total([(ne - nw) * up, (se - sw) * down]) * ((sizes[1] - align_corners) / 2)
        to_grid[b, i, j, 1] = total([(sw - nw) * left, (se - ne) * right]) * ((sizes[0] - align_corners) / 2)
    return to_input if output_mask[0] else None, to_grid


def _example_backward(
    b: int, c: int, n: int, m: int, interpolation_mode: Any = (BILINEAR, NEAREST), align_corners: Any = (False, True),
    to_input: Any = (True, False),
) -> dict[str, Any]:  # fmt: skip
    operands = _example(2)(b, c, n, m, interpolation_mode, ZEROS, align_corners)
    return {"grad_output": _f64(b, c, m, m), **operands, "output_mask": [to_input, True]}


@rule("aten::grid_sampler_2d_backward", sizes=_sizes, reference=_grid_sample_backward, example=_example_backward)
@rule("aten::grid_sampler_3d_backward", "aten::_grid_sampler_2d_cpu_fallback_backward", sizes=_sizes)
def grid_sample_backward(
    places: Any, c: Any, d: Any, interpolation_mode: int, padding_mode: int, output_mask: Any = (True, True)
) -> Cost:
    """Bilinear, per place: find it, 2 distances per axis; the input: corner weights and 2^d fma per channel.

    The grid: 2^d products of length c, then along each axis h = 2^(d-1) differences times the distances on the other
    axes (3-D: their 4 products first), h - 1 additions, the scale. Nearest: an addition per channel.
    """
    located = _located(d, interpolation_mode, padding_mode)
    if interpolation_mode == BICUBIC:
        raise ContractError("the gradient of bicubic sampling has no formula")
    if interpolation_mode == NEAREST:
        return (located + Cost(add=c if output_mask[0] else 0)) * places
    cost = located + Cost(add=2 * d)
    if output_mask[0]:
        cost += _corners(d) + Cost(fma=2**d * c)
    if output_mask[1]:
        half = 2 ** (d - 1)
        products = 4 if d == 3 else 0
        cost += Cost(fma=2**d * c) + Cost(add=2 * half - 1, mul=half + products + 1) * d
    return cost * places
