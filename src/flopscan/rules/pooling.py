"""Pooling. Only the elements of a window that exist are counted: the padding takes no part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, select, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule

Windows = list[range]


def sliding(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> Windows:
    """The elements of each of ``out`` windows along one axis."""
    windows = []
    for i in range(out):
        start = i * stride - padding
        skipped = -(start // dilation) if start < 0 else 0
        windows.append(range(start + skipped * dilation, min(start + kernel * dilation, size), dilation))
    return windows


def adaptive(size: int, out: int) -> Windows:
    """The elements of each of ``out`` windows that together cover one axis."""
    return [range(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _spread(value: Any, rank: int) -> list[int]:
    """A setting for each axis; one number stands for all of them."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * rank if len(values) == 1 else values


def _axes(
    size: Sequence[int], out: Sequence[int], kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1
) -> list[Windows]:
    rank = len(out)
    kernel = _spread(kernel_size, rank)
    settings = (kernel, _spread(stride, rank) if stride else kernel, _spread(padding, rank), _spread(dilation, rank))
    return [sliding(*axis) for axis in zip(size, out, *settings, strict=True)]


def _counted(axes: list[Windows], planes: int) -> dict[str, Any]:
    """Windows, elements in all of them, and elements that are in any."""
    return {
        "windows": planes * math.prod(len(windows) for windows in axes),
        "elements": planes * math.prod(sum(map(len, windows)) for windows in axes),
        "covered": planes * math.prod(len(set(itertools.chain(*windows))) for windows in axes),
        "overlap": any(sum(map(len, windows)) > len(set(itertools.chain(*windows))) for windows in axes),
    }


def _sizes(rank: int) -> Callable[[Call], dict[str, Any]]:
    def sizes(call: Call) -> dict[str, Any]:
        pooled = call.get("grad_output") or call.out
        settings = {n: call[n] for n in ("kernel_size", "stride", "padding", "dilation") if n in call.args}
        axes = _axes(call["self"].shape[-rank:], pooled.shape[-rank:], **settings)
        return _counted(axes, math.prod(pooled.shape[:-rank]))

    return sizes


def _sizes_adaptive(rank: int) -> Callable[[Call], dict[str, Any]]:
    def sizes(call: Call) -> dict[str, Any]:
        pooled = call.get("grad_output") or call.out
        pairs = zip(call["self"].shape[-rank:], pooled.shape[-rank:], strict=True)
        return _counted([adaptive(size, out) for size, out in pairs], math.prod(pooled.shape[:-rank]))

    return sizes


def _pool(self: Array, axes: list[Windows], reduce: Callable[[list[Any]], Any]) -> Array:
    rank = len(axes)
    planes = self.reshape(math.prod(self.shape[:-rank]), *self.shape[-rank:])
    windows = [list(itertools.product(*window)) for window in itertools.product(*axes)]
    values = [reduce([plane[at] for at in window]) for plane in planes for window in windows]
    return Array((*self.shape[:-rank], *map(len, axes)), values)


def _largest(values: list[Any]) -> Any:
    best = values[0]
    for x in values[1:]:
        best = select(x > best, x, best)
    return best


def _mean(values: list[Any]) -> Any:
    return total(values) / len(values)


def _out(self: Array, kernel_size: Any, stride: Any, padding: Any = (0, 0), dilation: Any = (1, 1)) -> list[int]:
    sizes = zip(self.shape[-len(kernel_size) :], kernel_size, stride, padding, dilation, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]


def _max_pool(self: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Array]:
    out = _out(self, kernel_size, stride, padding, dilation)
    return (_pool(self, _axes(self.shape[-len(out) :], out, kernel_size, stride, padding, dilation), _largest),)


def _example(
    b: int, h: int, w: int, k: Any = (1, 2, 3), stride: Any = (1, 2, 3), padding: Any = (0, 1), dilation: Any = (1, 2)
) -> dict[str, Any]:
    extent = dilation * (k - 1)
    settings = {"kernel_size": k, "stride": stride, "padding": min(padding, k // 2), "dilation": dilation}
    return {"self": TensorSpec((1, b, h + extent, w + extent), "float64"), **{n: [x, x] for n, x in settings.items()}}


@rule("aten::max_pool2d_with_indices", sizes=_sizes(2), reference=_max_pool, example=_example)
@rule("aten::max_pool1d", "aten::max_pool1d_with_indices", sizes=_sizes(1))
@rule("aten::max_pool2d", "aten::mkldnn_max_pool2d", sizes=_sizes(2))
@rule("aten::max_pool3d", "aten::max_pool3d_with_indices", "aten::mkldnn_max_pool3d", sizes=_sizes(3))
def max_pool(windows: Any, elements: Any) -> Cost:
    """A window of n elements takes n - 1 comparisons."""
    return Cost(cmp=elements - windows)


@rule("aten::max_pool2d_with_indices_backward", "aten::max_pool2d_backward", "aten::mkldnn_max_pool2d_backward",
      sizes=_sizes(2))  # fmt: skip
@rule("aten::max_pool3d_with_indices_backward", "aten::mkldnn_max_pool3d_backward", sizes=_sizes(3))
@rule("aten::adaptive_max_pool2d_backward", sizes=_sizes_adaptive(2))
@rule("aten::adaptive_max_pool3d_backward", sizes=_sizes_adaptive(3))
def max_pool_backward(windows: Any, overlap: bool) -> Cost:
    """Where windows overlap one addition per gradient, as several may arrive at one place; else they are only put."""
    return Cost(add=windows if overlap else 0)


def _avg_pool(self: Array, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool = True) -> Array:
    out = _out(self, kernel_size, stride, padding)
    axes = _axes(self.shape[-2:], out, kernel_size, stride, padding)
    size = math.prod(kernel_size)
    return _pool(self, axes, lambda values: total(values) / (size if count_include_pad else len(values)))


def _example_avg(
    b: int, h: int, w: int, k: Any = (1, 2, 3), stride: Any = (1, 2, 3), padding: Any = (0, 1),
    include: Any = (True, False),
) -> dict[str, Any]:  # fmt: skip
    operands = _example(b, h, w, k, stride, padding, 1)
    del operands["dilation"]
    return {**operands, "count_include_pad": include}


@rule("aten::avg_pool2d", sizes=_sizes(2), reference=_avg_pool, example=_example_avg)
@rule("aten::avg_pool1d", sizes=_sizes(1))
@rule("aten::avg_pool3d", sizes=_sizes(3))
@rule("aten::adaptive_avg_pool1d", sizes=_sizes_adaptive(1))
@rule("aten::adaptive_avg_pool2d", "aten::mkldnn_adaptive_avg_pool2d", sizes=_sizes_adaptive(2))
@rule("aten::adaptive_avg_pool3d", "aten::_adaptive_avg_pool3d", sizes=_sizes_adaptive(3))
def avg_pool(windows: Any, elements: Any) -> Cost:
    """A window of n elements takes n - 1 additions and a division."""
    return Cost(add=elements - windows, div=windows)


def _adaptive_axes(self: Array, output_size: Any) -> list[Windows]:
    return [adaptive(n, out) for n, out in zip(self.shape[-2:], output_size, strict=True)]


def _adaptive_avg(self: Array, output_size: Any) -> Array:
    return _pool(self, _adaptive_axes(self, output_size), _mean)


def _adaptive_max(self: Array, output_size: Any) -> tuple[Array]:
    return (_pool(self, _adaptive_axes(self, output_size), _largest),)


def _example_adaptive(b: int, h: int, w: int, m: int, n: int) -> dict[str, Any]:
    return {"self": TensorSpec((1, b, h + 2, w + 2), "float64"), "output_size": [m, n]}


rule("aten::_adaptive_avg_pool2d", sizes=_sizes_adaptive(2), reference=_adaptive_avg,
     example=lambda b, h, w, m: _example_adaptive(b, h, w, m, 2))(avg_pool)  # fmt: skip
rule("aten::adaptive_max_pool2d", sizes=_sizes_adaptive(2), reference=_adaptive_max,
     example=_example_adaptive)(max_pool)  # fmt: skip
rule("aten::adaptive_max_pool1d", sizes=_sizes_adaptive(1))(max_pool)
rule("aten::adaptive_max_pool3d", sizes=_sizes_adaptive(3))(max_pool)


def _spread_back(grad_output: Array, self: Array, axes: list[Windows], divisor: Callable[[int], int]) -> Array:
    planes = math.prod(self.shape[:-2])
    result: Array = Array.make((planes, *self.shape[-2:]), lambda *_: 0.0)
    grads = iter(grad_output.data)
    for plane in range(planes):
        for window in itertools.product(*axes):
            places = list(itertools.product(*window))
            share = next(grads) / divisor(len(places))
            for at in places:
                here = (plane, *at)
                result[here] = share if isinstance(result[here], float) else result[here] + share
    return Array(self.shape, result.data)


def _avg_backward(
    grad_output: Array, self: Array, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool
) -> Array:
    axes = _axes(self.shape[-2:], grad_output.shape[-2:], kernel_size, stride, padding)
    return _spread_back(grad_output, self, axes, lambda n: math.prod(kernel_size) if count_include_pad else n)


def _example_avg_backward(
    b: int, h: int, w: int, k: Any = (1, 2, 3), stride: Any = (1, 2, 3), padding: Any = (0, 1),
    include: Any = (True, False),
) -> dict[str, Any]:  # fmt: skip
    operands = _example_avg(b, h, w, k, stride, padding, include)
    out = _out(operands["self"], *(operands[n] for n in ("kernel_size", "stride", "padding")))
    return {
        "grad_output": TensorSpec((1, b, *out), "float64"), **operands, "ceil_mode": False, "divisor_override": None,
    }  # fmt: skip


def _adaptive_backward(grad_output: Array, self: Array) -> Array:
    return _spread_back(grad_output, self, _adaptive_axes(self, grad_output.shape[-2:]), lambda n: n)


def _example_adaptive_backward(b: int, h: int, w: int, m: int, n: int) -> dict[str, Any]:
    operands = _example_adaptive(b, h, w, m, n)
    return {"grad_output": TensorSpec((1, b, m, n), "float64"), "self": operands["self"]}


@rule("aten::avg_pool2d_backward", sizes=_sizes(2), reference=_avg_backward, example=_example_avg_backward)
@rule("aten::avg_pool3d_backward", sizes=_sizes(3))
@rule("aten::_adaptive_avg_pool2d_backward", sizes=_sizes_adaptive(2), reference=_adaptive_backward,
      example=_example_adaptive_backward)  # fmt: skip
@rule("aten::mkldnn_adaptive_avg_pool2d_backward", sizes=_sizes_adaptive(2))
@rule("aten::_adaptive_avg_pool3d_backward", "aten::adaptive_avg_pool3d_backward", sizes=_sizes_adaptive(3))
def avg_pool_backward(windows: Any, elements: Any, covered: Any) -> Cost:
    """Each gradient is divided once and put into its window; where windows overlap the later ones are added."""
    return Cost(div=windows, add=elements - covered)


@rule("aten::fractional_max_pool2d", "aten::fractional_max_pool3d", sizes=lambda call: {"outputs": call.out.numel})
def fractional_max_pool(outputs: Any, kernel_size: Any) -> Cost:
    """Windows of kernel_size elements, wherever they are drawn: n - 1 comparisons each."""
    return Cost(cmp=outputs * (math.prod(kernel_size) - 1))


@rule("aten::fractional_max_pool2d_backward", "aten::fractional_max_pool3d_backward",
      sizes=lambda call: {"windows": call["grad_output"].numel})  # fmt: skip
def fractional_max_pool_backward(windows: Any) -> Cost:
    """One addition per gradient, as several may arrive at one place."""
    return Cost(add=windows)
