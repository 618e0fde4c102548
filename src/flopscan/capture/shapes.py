"""Output shapes of common operators, answered without torch's Python meta kernels.

Those take 0.1 to 1.6 ms a call, and the first of them imports sympy and the compiler (over a second). A test runs every
function here beside the meta kernel, so an answer is never different from torch's; None means: ask torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from flopscan.capture.operators import Operator

Layout = tuple[Any, ...]  # (size, stride, dtype)
Answer = Any  # a Layout, a list of them for several results, or None

_SAME = {
    "relu", "gelu", "silu", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "neg", "abs", "erf", "sin", "cos",
    "reciprocal", "hardswish", "hardtanh", "leaky_relu", "elu", "softplus", "mish", "hardsigmoid", "clamp", "clamp_min",
    "log1p", "expm1", "exp2", "square", "bernoulli", "logit", "log_sigmoid",
}  # fmt: skip
_PROMOTE = {"add", "sub", "mul", "div", "maximum", "minimum", "pow", "rsub", "lerp", "addcmul"}
_BACKWARD = {"threshold_backward", "gelu_backward", "silu_backward", "sigmoid_backward", "tanh_backward"}
_COMPARE = {
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_not",
    "bitwise_and",
    "isinf",
    "isnan",
}


def guess(func: Any, operator: Operator, args: Any, kwargs: Any) -> Answer:
    """The layout of the results of a call, or None."""
    name = operator.name[6:] if operator.name.startswith("aten::") else ""
    answer = _ANSWERS.get(name)
    if answer is None:
        return None
    return answer(name, args, kwargs)


def contiguous(size: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor of ``size``."""
    strides, step = [], 1
    for n in reversed(size):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def elementwise_strides(size: Sequence[int], operands: Sequence[Tensor]) -> tuple[int, ...]:
    """The strides that torch's TensorIterator gives the result of an elementwise operator.

    Dimensions are ordered by the operands' strides, the first operand that tells two apart deciding.
    """
    rank = len(size)
    if all(t.is_contiguous() and t.size() == torch.Size(size) for t in operands):
        return contiguous(size)
    steps = []
    for t in operands:
        shape, stride = t.size(), t.stride()
        lead = rank - len(shape)
        steps.append([0] * lead + [0 if n == 1 and size[lead + i] != 1 else stride[i] for i, n in enumerate(shape)])

    def after(a: int, b: int) -> int:
        for step in steps:
            if step[a] == 0 or step[b] == 0:
                continue
            if step[a] != step[b]:
                return 1 if step[a] > step[b] else -1
            if size[a] > size[b]:
                return 1
        return 0

    order = list(range(rank - 1, -1, -1))
    for i in range(1, rank):
        here = i
        for there in range(i - 1, -1, -1):
            verdict = after(order[there], order[here])
            if verdict > 0:
                order[there], order[here] = order[here], order[there]
                here = there
            elif verdict < 0:
                break
    strides, step = [0] * rank, 1
    for dim in order:
        strides[dim] = step
        step *= max(size[dim], 1)
    return tuple(strides)


def _elementwise(name: str, args: Any, kwargs: Any) -> Answer:
    tensors = [a for a in args if isinstance(a, Tensor)]
    first = args[0]
    if not isinstance(first, Tensor) or any(isinstance(v, Tensor) for v in kwargs.values()):
        return None
    if name == "where":
        dtype = torch.result_type(args[1], args[2]) if len(args) == 3 else None
    elif name in _COMPARE:
        dtype = torch.bool if name != "bitwise_and" or first.dtype is torch.bool else None
    elif not first.dtype.is_floating_point:
        return None
    elif name in _PROMOTE:
        dtype = first.dtype
        for other in args[1:3]:
            dtype = torch.result_type(first, other) if isinstance(other, (Tensor, int, float)) else dtype
        if kwargs.get("rounding_mode") or isinstance(kwargs.get("alpha"), complex):
            return None
    else:
        dtype = first.dtype if all(t.dtype is first.dtype for t in tensors) else None
    if dtype is None or any(type(a) is complex for a in args):
        return None
    size = broadcast([t.size() for t in tensors])
    return size and (size, elementwise_strides(size, tensors), dtype)


def broadcast(shapes: Sequence[Sequence[int]]) -> torch.Size | None:
    """The common shape; None where there is none (torch says so better), or no axis at all."""
    result = list(max(shapes, key=len))
    for shape in shapes:
        lead = len(result) - len(shape)
        for i, n in enumerate(shape):
            if result[lead + i] == 1:
                result[lead + i] = n
            elif n not in (1, result[lead + i]):
                return None
    return torch.Size(result) if result else None


def _product(name: str, args: Any, kwargs: Any) -> Answer:
    a, b = args[-2:] if name in ("addmm", "baddbmm") else args[:2]
    shapes = a.shape, b.shape
    rank = 3 if "bmm" in name else 2
    if any(len(s) != rank for s in shapes) or a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        return None
    size = torch.Size((*a.shape[:-1], b.shape[-1]))
    bias = args[0]
    if rank != len(shapes[0]) or (name in ("addmm", "baddbmm") and not _fits(bias.shape, size)):
        return None
    return (size, contiguous(size), a.dtype) if a.dtype is b.dtype else None


def _grouped_product(name: str, args: Any, kwargs: Any) -> Answer:
    """The meta kernel takes bfloat16 alone, though a CPU runs every dtype."""
    a, b = args[:2]
    offsets = args[2] if len(args) > 2 else kwargs.get("offs")
    if a.shape[-1] != b.shape[-2] or a.dtype is not b.dtype:
        return None
    if a.dim() == b.dim() == 2:  # groups along the summed axis
        size = (offsets.shape[0], a.shape[0], b.shape[1]) if offsets is not None else None
    elif a.dim() == b.dim() == 3:
        size = (a.shape[0], a.shape[1], b.shape[2]) if a.shape[0] == b.shape[0] else None
    else:
        size = (a.shape[-2], b.shape[-1])
    dtype = kwargs.get("out_dtype") or (args[4] if len(args) > 4 else None) or a.dtype
    return None if size is None else (torch.Size(size), contiguous(size), dtype)


def _fits(shape: Sequence[int], size: Sequence[int]) -> bool:
    return len(shape) <= len(size) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(size), strict=False))


def _convolution(name: str, args: Any, kwargs: Any) -> Answer:
    x, weight, bias, stride, padding, dilation, transposed, extra, groups = args
    rank = len(stride)
    if x.dim() != rank + 2 or weight.dim() != rank + 2 or x.dtype is not weight.dtype:
        return None
    channels = weight.shape[1] if not transposed else weight.shape[0] // groups
    if x.shape[1] != channels * groups or len(padding) != rank or len(dilation) != rank:
        return None
    if bias is not None and bias.dtype is not x.dtype:
        return None
    spatial = []
    for i in range(rank):
        reach = dilation[i] * (weight.shape[2 + i] - 1)
        if transposed:
            n = (x.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + reach + extra[i] + 1
        else:
            n = (x.shape[2 + i] + 2 * padding[i] - reach - 1) // stride[i] + 1
        if n <= 0:
            return None  # torch says what is wrong
        spatial.append(n)
    size = torch.Size((x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *spatial))
    if rank == 2 and _channels_last(x):  # as CPU and GPU kernels do; torch's meta kernel has forgotten the format
        n, c, h, w = size
        return (size, (c * h * w, 1, c * w, c), x.dtype)
    return (size, contiguous(size), x.dtype)


def _channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _batch_norm(name: str, args: Any, kwargs: Any) -> Answer:
    x, weight, bias, mean, var, training = args[:6]
    if not x.is_contiguous() or x.dtype is torch.float16 or x.dtype is torch.bfloat16 or x.dim() < 2:
        return None
    if any(t is not None and t.shape != x.shape[1:2] for t in (weight, bias, mean, var)):
        return None
    stats = torch.Size((x.shape[1] if training else 0,))
    return [(x.size(), contiguous(x.size()), x.dtype), (stats, (1,), x.dtype), (stats, (1,), x.dtype)]


def _layer_norm(name: str, args: Any, kwargs: Any) -> Answer:
    x, normalized, weight, bias = args[:4]
    axes = len(normalized)
    if x.dtype not in (torch.float32, torch.float64) or tuple(x.shape[-axes:]) != tuple(normalized):
        return None
    if any(t is not None and (tuple(t.shape) != tuple(normalized) or t.dtype is not x.dtype) for t in (weight, bias)):
        return None
    rows = torch.Size((*x.shape[:-axes], *[1] * axes))
    return [(x.size(), contiguous(x.size()), x.dtype), *[(rows, contiguous(rows), x.dtype)] * 2]


def _softmax(name: str, args: Any, kwargs: Any) -> Answer:
    x, dim, to_float = args
    if to_float or not x.is_contiguous() or not -x.dim() <= dim < x.dim():
        return None
    return (x.size(), contiguous(x.size()), x.dtype)


def _reduction(name: str, args: Any, kwargs: Any) -> Answer:
    x = args[0]
    dims = args[1] if len(args) > 1 else None
    keep = args[2] if len(args) > 2 else False
    if (
        not x.dtype.is_floating_point
        or kwargs.get("dtype") is not None
        or not isinstance(dims, (list, tuple))
        or not dims
    ):
        return None
    if any(not -x.dim() <= d < x.dim() for d in dims):
        return None
    reduced = {d % x.dim() for d in dims}
    size = [1 if i in reduced else n for i, n in enumerate(x.shape) if keep or i not in reduced]
    if not x.is_contiguous() and sum(n != 1 for n in size) > 1:
        return None  # the operand's order of dimensions decides
    return (torch.Size(size), contiguous(size), x.dtype)


def _cat(name: str, args: Any, kwargs: Any) -> Answer:
    tensors = args[0]
    dim = args[1] if len(args) > 1 else 0
    first = tensors[0]
    rank = first.dim()
    if rank == 0 or not -rank <= dim < rank:
        return None
    dim %= rank
    for t in tensors:
        if t.dtype is not first.dtype or t.dim() != rank or (rank > 3 and _channels_last(t)):
            return None
        if any(a != b for i, (a, b) in enumerate(zip(t.shape, first.shape, strict=True)) if i != dim):
            return None
    size = torch.Size(sum(t.shape[dim] for t in tensors) if i == dim else n for i, n in enumerate(first.shape))
    return (size, contiguous(size), first.dtype)


def _stack(name: str, args: Any, kwargs: Any) -> Answer:
    tensors = args[0]
    first = tensors[0]
    dim = args[1] if len(args) > 1 else 0
    rank = first.dim() + 1
    if not -rank <= dim < rank or any(t.shape != first.shape or t.dtype is not first.dtype for t in tensors):
        return None
    dim %= rank
    size = torch.Size((*first.shape[:dim], len(tensors), *first.shape[dim:]))
    return (size, contiguous(size), first.dtype)


def _flip(name: str, args: Any, kwargs: Any) -> Answer:
    x = args[0]
    return (x.size(), elementwise_strides(x.size(), [x]), x.dtype)


def _unsafe_view(name: str, args: Any, kwargs: Any) -> Answer:
    x, size = args
    if any(n < 0 for n in size) or math.prod(size) != x.numel() or not x.is_contiguous():
        return None
    return (torch.Size(size), contiguous(size), x.dtype)


def _max_pool(name: str, args: Any, kwargs: Any) -> Answer:
    x, kernel, stride, padding, dilation, ceil = (*args, *([], 0, 1, False)[len(args) - 2 :])
    if x.dim() != 4 or ceil or not (x.is_contiguous() or _channels_last(x)):
        return None
    kernel, padding, dilation = (([v] if isinstance(v, int) else list(v)) for v in (kernel, padding, dilation))
    stride = list(stride) or kernel
    kernel, stride, padding, dilation = (v * 2 if len(v) == 1 else v for v in (kernel, stride, padding, dilation))
    spatial = [(x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    if min(spatial) <= 0 or any(2 * padding[i] > kernel[i] for i in range(2)):
        return None
    size = torch.Size((*x.shape[:2], *spatial))
    _, c, h, w = size
    strides = (c * h * w, 1, c * w, c) if _channels_last(x) else contiguous(size)
    return [(size, strides, x.dtype), (size, strides, torch.int64)]


def _clone(name: str, args: Any, kwargs: Any) -> Answer:
    x = args[0]
    layout = kwargs.get("memory_format")
    if kwargs.get("layout") not in (None, torch.strided) or kwargs.get("non_blocking"):
        return None
    dtype = kwargs.get("dtype") or x.dtype
    if layout is torch.contiguous_format or x.is_contiguous():
        return (
            (x.size(), contiguous(x.size()), dtype)
            if layout in (None, torch.contiguous_format, torch.preserve_format)
            else None
        )
    return (x.size(), x.stride(), dtype) if layout in (None, torch.preserve_format) and _dense(x) else None


def _dense(x: Tensor) -> bool:
    """Whether the elements of ``x`` fill one block of memory, none of them shared."""
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return math.prod(x.shape) > 0


def _embedding(name: str, args: Any, kwargs: Any) -> Answer:
    weight, indices = args[:2]
    if weight.dim() != 2 or indices.dtype not in (torch.int64, torch.int32):
        return None
    size = torch.Size((*indices.shape, weight.shape[1]))
    return (size, contiguous(size), weight.dtype)


_ANSWERS: dict[str, Callable[[str, Any, Any], Answer]] = {
    **dict.fromkeys(_SAME | _PROMOTE | _COMPARE | _BACKWARD | {"where"}, _elementwise),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _product),
    "_grouped_mm": _grouped_product,
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
    **dict.fromkeys(("_softmax", "_log_softmax"), _softmax),
    **dict.fromkeys(("sum", "mean"), _reduction),
    "cat": _cat,
    "stack": _stack,
    "flip": _flip,
    "_unsafe_view": _unsafe_view,
    "max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("clone", "_to_copy"), _clone),
    "embedding": _embedding,
}
