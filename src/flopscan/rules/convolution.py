"""Convolutions. Positions that fall into the padding are counted like all others, as everyone in the field does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import four_fold
from flopscan.core.tally import Array, fma, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import product, rule


def forward_fma(call: Call, result: TensorSpec) -> Any:
    """Multiply-adds of the convolution of ``call`` that makes, or made, ``result``.

    Direct: b * c_out * prod(out) * (c_in / groups) * prod(kernel), each output a product with one filter.
    Transposed: b * c_in * prod(in) * (c_out / groups) * prod(kernel), each input spread by one filter.
    """
    source = call.get("input") or call["self"]
    weight = call["weight"]
    outer = source if call.get("transposed") else result
    return outer.numel * math.prod(weight.shape[1:])


def _sizes(call: Call) -> dict[str, Any]:
    return {"products": forward_fma(call, call.out)}


def _index(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, shape))


def _taps(
    weight: Array, stride: list[int], padding: list[int], dilation: list[int], groups: int, out: tuple[int, ...]
) -> Iterator[tuple[int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Every step of a direct convolution: channel out, channel in, channel in its group, place out, tap, place in.

    ``out`` is the size of the strided side: the output, or the input of a transposed convolution.
    """
    each = weight.shape[0] // groups
    for o, c in _index(weight.shape[:2]):
        channel = o // each * weight.shape[1] + c
        for place in _index(out):
            for tap in _index(weight.shape[2:]):
                at = tuple(
                    y * s - p + t * d for y, s, p, t, d in zip(place, stride, padding, tap, dilation, strict=True)
                )
                yield o, channel, c, place, tap, at


def _inside(at: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(0 <= a < size for a, size in zip(at, shape, strict=True))


def _out_size(call: dict[str, Any]) -> tuple[int, ...]:
    size = zip(call["input"].shape[2:], call["weight"].shape[2:], call["stride"], call["padding"], call["dilation"],
               call["output_padding"], strict=True)  # fmt: skip
    if call["transposed"]:
        return tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + e for n, k, s, p, d, e in size)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in size)


def _convolution(
    input: Array, weight: Array, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any,
    groups: int, bias: Array | None = None,
) -> Array:  # fmt: skip
    out = _out_size(locals())
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    result = Array.make((input.shape[0], channels, *out), lambda b, c, *_: 0.0 if bias is None else bias[c])
    strided, dense = (input.shape[2:], out) if transposed else (out, input.shape[2:])
    for b in range(input.shape[0]):
        for o, channel, c, place, tap, at in _taps(weight, stride, padding, dilation, groups, strided):
            inside = _inside(at, dense)
            one, other, here = (b, o, *place), (b, channel, *at), (o, c, *tap)
            if not transposed:
                result[one] = fma(input[other] if inside else 0.0, weight[here], result[one])
            elif inside:
                result[other] = fma(input[one], weight[here], result[other])
            else:
                fma(input[one], weight[here], 0.0)  # falls outside: into the padding that is cut off
    return result


def _f64(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "float64")


def _example(
    b: int, c: int, o: int, n: int, groups: Any = (1, 2, 3), k: Any = (1, 2, 3), stride: Any = (1, 2),
    padding: Any = (0, 1), dilation: Any = (1, 2), transposed: Any = (False, True), rank: Any = (1, 1, 2),
    biased: Any = (True, False),
) -> dict[str, Any]:  # fmt: skip
    b, c, o = 1 + b % 2, 1 + c % 2, 1 + o % 2
    size = n + dilation * (k - 1)
    channels = (c * groups, o) if transposed else (o * groups, c)
    return {
        "input": _f64(b, c * groups, *[size] * rank), "weight": _f64(*channels, *[k] * rank),
        **({"bias": _f64(o * groups)} if biased else {"bias": None}),
        "stride": [stride] * rank, "padding": [padding] * rank, "dilation": [dilation] * rank,
        "transposed": transposed, "output_padding": [stride - 1 if transposed else 0] * rank, "groups": groups,
    }  # fmt: skip


@product("aten::convolution", sizes=_sizes, reference=_convolution, example=_example, complex=four_fold)
@product("aten::_convolution", "aten::convolution_overrideable", sizes=_sizes, complex=four_fold)
@product("aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::_convolution_mode", sizes=_sizes, complex=four_fold)
@product("aten::cudnn_convolution", "aten::miopen_convolution", "aten::miopen_depthwise_convolution",
      "aten::mkldnn_convolution", "aten::_mps_convolution", "aten::_nnpack_spatial_convolution",
      "aten::_slow_conv2d_forward", "aten::thnn_conv2d", "aten::_conv_depthwise2d", "aten::conv_depthwise3d",
      "aten::slow_conv3d", "aten::slow_conv3d_forward", "aten::slow_conv_dilated2d", "aten::slow_conv_dilated3d",
      sizes=_sizes)  # fmt: skip
def convolution(products: Any) -> Cost:
    """One multiply-add per output, input channel of the group and tap; the bias starts the accumulator.

    b * c_out * prod(out) * (c_in / groups) * prod(kernel); transposed: the size of the input instead of the output.
    """
    return Cost(fma=products)


def _sizes_transposed(call: Call) -> dict[str, Any]:
    source = call.get("input") or call["self"]
    return {"products": source.numel * math.prod(call["weight"].shape[1:])}


@product("aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d", "aten::slow_conv_transpose2d",
      "aten::slow_conv_transpose3d", "aten::cudnn_convolution_transpose", "aten::miopen_convolution_transpose",
      "aten::_mps_convolution_transpose", sizes=_sizes_transposed)  # fmt: skip
def convolution_transpose(products: Any) -> Cost:
    """b * c_in * prod(in) * (c_out / groups) * prod(kernel) multiply-adds: each input is spread by each filter."""
    return Cost(fma=products)


def _sizes_fused(call: Call) -> dict[str, Any]:
    return {**_sizes(call), "outputs": call.out.numel}


@product("aten::cudnn_convolution_relu", "aten::miopen_convolution_relu", sizes=_sizes_fused)
def convolution_relu(products: Any, outputs: Any) -> Cost:
    """The convolution and 1 comparison per output."""
    return Cost(fma=products, cmp=outputs)


@product("aten::cudnn_convolution_add_relu", "aten::miopen_convolution_add_relu", sizes=_sizes_fused)
def convolution_add_relu(products: Any, outputs: Any, alpha: Any = 1) -> Cost:
    """The convolution; alpha * z, an addition and a comparison per output."""
    return Cost(fma=products, mul=0 if alpha == 1 else outputs, add=outputs, cmp=outputs)


def _sizes_backward(call: Call) -> dict[str, Any]:
    """The products of the forward convolution, and channels and size of each channel of its result."""
    grad = call["grad_output"]
    channels = grad.shape[1]
    return {"products": forward_fma(call, grad), "channels": channels, "each": grad.numel // max(channels, 1)}


def _convolution_backward(
    grad_output: Array, input: Array, weight: Array, stride: Any, padding: Any, dilation: Any, transposed: bool,
    groups: int, output_mask: Any,
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Each step y += x * w of the forward convolution gives gx += gy * w and gw += gy * x."""
    out = grad_output.shape[2:]
    to_input, to_weight = Array.make(input.shape, lambda *_: 0.0), Array.make(weight.shape, lambda *_: 0.0)
    strided, dense = (input.shape[2:], out) if transposed else (out, input.shape[2:])
    for b in range(input.shape[0]):
        for o, channel, c, place, tap, at in _taps(weight, stride, padding, dilation, groups, strided):
            at_dense, at_strided, inside = (b, channel, *at), (b, o, *place), _inside(at, dense)
            here = (o, c, *tap)
            if transposed:
                grad, read = grad_output[at_dense] if inside else 0.0, input[at_strided]
            else:
                grad, read = grad_output[at_strided], input[at_dense] if inside else 0.0
            target = at_strided if transposed else at_dense
            if output_mask[0]:
                sum_here = to_input[target] if transposed or inside else 0.0
                moved = fma(grad, weight[here], sum_here)
                if transposed or inside:
                    to_input[target] = moved
            if output_mask[1]:
                to_weight[here] = fma(grad, read, to_weight[here])
    to_bias = None
    if output_mask[2]:
        to_bias = Array.make(
            (grad_output.shape[1],),
            lambda o: total(x for b in range(input.shape[0]) for x in grad_output[b, o].data),
        )
    return to_input if output_mask[0] else None, to_weight if output_mask[1] else None, to_bias


def _example_backward(
    b: int, c: int, o: int, n: int, groups: Any = (1, 2, 3), k: Any = (1, 2, 3), stride: Any = (1, 2),
    padding: Any = (0, 1), dilation: Any = (1, 2), transposed: Any = (False, True), rank: Any = (1, 2),
    mask: Any = ((True, True, True), (True, False, True), (False, True, False)),
) -> dict[str, Any]:  # fmt: skip
    operands = _example(b, c, o, n, groups, k, stride, padding, dilation, transposed, rank, False)
    batch, channels = operands["input"].shape[0], operands["weight"].shape[0]
    channels = operands["weight"].shape[1] * groups if transposed else channels
    del operands["bias"]
    return {
        "grad_output": _f64(batch, channels, *_out_size(operands)), **operands,
        "bias_sizes": [channels], "output_mask": list(mask),
    }  # fmt: skip


@product("aten::convolution_backward", sizes=_sizes_backward, reference=_convolution_backward,
      example=_example_backward, complex=four_fold)  # fmt: skip
@product("aten::convolution_backward_overrideable", "aten::_slow_conv2d_backward", sizes=_sizes_backward)
def convolution_backward(products: Any, channels: Any, each: Any, output_mask: Any = (True, True, True)) -> Cost:
    """As many multiply-adds as the forward for the input, and as many for the weight, whatever the groups.

    The bias is a sum: each - 1 additions per channel.
    """
    fma = products * (bool(output_mask[0]) + bool(output_mask[1]))
    return Cost(fma=fma, add=channels * (each - 1) if output_mask[2] else 0)


def _conv_tbc(self: Array, weight: Array, bias: Array, pad: int = 0) -> Array:
    (time, batch, c_in), (taps, _, c_out) = self.shape, weight.shape

    def element(t: int, b: int, o: int) -> Any:
        result = bias[o]
        for k, c in _index((taps, c_in)):
            at = t + k - pad
            result = fma(self[at, b, c] if 0 <= at < time else 0.0, weight[k, c, o], result)
        return result

    return Array.make((time + 2 * pad - taps + 1, batch, c_out), element)


def _example_tbc(t: int, b: int, c: int, o: int, k: Any = (1, 2, 3), pad: Any = (0, 1)) -> dict[str, Any]:
    return {"self": _f64(t + 2, b, c), "weight": _f64(k, c, o), "bias": _f64(o), "pad": pad}


@product("aten::conv_tbc", contract="weight: k c o", sizes=lambda call: {"outputs": call.out.numel},
      reference=_conv_tbc, example=_example_tbc)  # fmt: skip
def conv_tbc(outputs: Any, k: Any, c: Any) -> Cost:
    """outputs*k*c multiply-adds onto the bias; time by batch by channels."""
    return Cost(fma=outputs * k * c)


@rule("aten::im2col", complex=lambda cost: cost)
def im2col() -> Cost:
    """Nothing is computed: patches are copied."""
    return Cost()


def _covered(size: int, k: int, dilation: int, padding: int, stride: int) -> tuple[int, int]:
    """How many taps of all the places along one axis fall inside, and how many positions any of them covers."""
    places = (size + 2 * padding - dilation * (k - 1) - 1) // stride + 1
    hits = [at for y in range(places) for t in range(k) if 0 <= (at := y * stride - padding + t * dilation) < size]
    return len(hits), len(set(hits))


def _sizes_col2im(call: Call) -> dict[str, Any]:
    names = ("output_size", "kernel_size", "dilation", "padding", "stride")
    (hits_h, cover_h), (hits_w, cover_w) = (_covered(*axis) for axis in zip(*(call[n] for n in names), strict=True))
    size = math.prod(call["output_size"])
    return {"planes": call.out.numel // max(size, 1), "hits": hits_h * hits_w, "covered": cover_h * cover_w}


def _col2im(self: Array, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Array:
    b, rows, _ = self.shape
    c = rows // math.prod(kernel_size)
    places = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(output_size, kernel_size, dilation, padding, stride, strict=True)
    ]
    result: Array = Array.make((b, c, *output_size), lambda *_: 0.0)
    columns = self.reshape(b, c, *kernel_size, *places)
    for n, channel, u, v, y, x in _index(columns.shape):
        row, column = y * stride[0] - padding[0] + u * dilation[0], x * stride[1] - padding[1] + v * dilation[1]
        if _inside((row, column), tuple(output_size)):
            old = result[n, channel, row, column]
            new = columns[n, channel, u, v, y, x]
            result[n, channel, row, column] = new if isinstance(old, float) else old + new
    return result


def _example_col2im(
    b: int, c: int, h: int, w: int, k: Any = (1, 2, 3), dilation: Any = (1, 2), padding: Any = (0, 1),
    stride: Any = (1, 2),
) -> dict[str, Any]:  # fmt: skip
    h, w = h + dilation * (k - 1), w + dilation * (k - 1)
    places = math.prod((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n in (h, w))
    settings = {"kernel_size": k, "dilation": dilation, "padding": padding, "stride": stride}
    return {
        "self": _f64(b, c * k * k, places), "output_size": [h, w], **{name: [x, x] for name, x in settings.items()},
    }  # fmt: skip


@rule("aten::col2im", sizes=_sizes_col2im, reference=_col2im, example=_example_col2im)
def col2im(planes: Any, hits: Any, covered: Any) -> Cost:
    """Each value that falls inside is added to its position, the first to arrive there only stored: hits - covered."""
    return Cost(add=planes * (hits - covered))
