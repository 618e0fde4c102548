"""The causal convolution on a CUDA GPU: kernels compiled for dtypes and filter when first needed.

Aligned rows are read and written 16 bytes a thread. For all other strides, channels last among them, a block turns a
tile of 64 channels and 64 positions in shared memory; outputs and gradients are always rows.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from flopscan.ops.gpu import kernels, nvrtc

_SIDE = 64  # channels and positions of a tile
MAX_WIDTH = 16  # of a filter
MAX_STEPS = 8  # new positions of a decoding step
PLANS = kernels.Plans()


@dataclass(frozen=True)
class Form:
    """How a kernel runs: ``lanes`` have an aligned row, ``span`` positions each, as often as ``rounds`` says.

    With a span of 0 a block has a tile, and backward ``rounds`` of them, one after the other.
    """

    span: int
    lanes: int
    rounds: int
    threads: int = 256


def supports(*operands: Tensor | None) -> bool:
    """Whether there are kernels for x and weight, and bias, initial states and the gradient of the output."""
    x, weight, *_ = operands
    return (
        kernels.supported(operands)
        and weight.shape[-1] <= MAX_WIDTH
        and x.shape[0] < 1 << 16
        and x.numel() < 1 << 32  # threads are counted in 32 bits
    )


class Matrix(ctypes.Structure):
    """Where an operand is, and its strides in elements."""

    _fields_ = [("at", ctypes.c_void_p), *((name, ctypes.c_longlong) for name in ("b", "d", "l"))]


class Conv(ctypes.Structure):
    """The one parameter of the kernels, as `Conv` in conv.cuh."""

    _fields_ = [
        *((name, Matrix) for name in ("x", "grad", "initial")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        *((name, ctypes.c_longlong) for name in ("weight_d", "weight_w", "bias_d")),
        *((name, ctypes.c_void_p) for name in ("out", "grad_initial", "grad_weight", "grad_bias", "parts")),
        *((name, ctypes.c_int) for name in ("batch", "channels", "length", "segment", "segments")),
    ]


class ConvStep(ctypes.Structure):
    """The one parameter of the kernel of a decoding step, as `ConvStep` in step.cu."""

    _fields_ = [
        *((name, Matrix) for name in ("x", "state")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "slots")),
        *((name, ctypes.c_longlong) for name in ("weight_d", "weight_w", "bias_d", "slot_step")),
        ("y", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("wide", "batch", "channels", "length", "cache")),
    ]


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_states: Tensor | None, activation: str | None,
    form: Form | None = None,
) -> Tensor:  # fmt: skip
    """The output (b d l)."""
    (b, d, l), width = x.shape, weight.shape[-1]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    conv = _operands(x, weight, bias, initial_states)
    conv.out = out.data_ptr()
    form = form or default_form(b, d, l, _span(width, x), kernels.multiprocessors(x.device))
    _cut(conv, form)
    chosen = {**_dtypes(x, weight, bias, initial_states), "WIDTH": width, "SILU": activation is not None}
    whole = kernels.aligned(out, -1, 8)
    options = kernels.macros(**chosen, **_shape(form), X_ALONG=_along(x), OUT_WHOLE=whole)
    if form.span:
        name, grid, shared = "conv_rows", (_blocks(conv, form), 1), 0
    else:
        name, grid = "conv_tiles", (-(-d // _SIDE) * -(-l // _SIDE), b)
        shared = 4 * _SIDE * _pitch(_SIDE + width - 1)
    source = kernels.source("causal_conv1d/conv.cuh", "causal_conv1d/forward.cu")
    nvrtc.launch(source, options, name, grid, form.threads, shared, conv, x.device)
    return out


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, initial_states: Tensor | None,
    activation: str | None, form: Form | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of x, weight, bias and the initial states, None of those that are absent."""
    (b, d, l), width = x.shape, weight.shape[-1]
    given = (x, weight, bias, initial_states)
    grads = [None if each is None else torch.empty(each.shape, dtype=each.dtype, device=x.device) for each in given]
    conv = _operands(x, weight, bias, initial_states)
    conv.grad = Matrix(grad.data_ptr(), *grad.stride())
    conv.out, conv.grad_weight, conv.grad_bias, conv.grad_initial = (
        None if each is None else each.data_ptr() for each in grads
    )
    form = form or default_form(b, d, l, _span(width, x, grad), kernels.multiprocessors(x.device))
    _cut(conv, form)
    parts = torch.empty(b * conv.segments, d, width + 1, dtype=torch.float32, device=x.device)
    conv.parts = parts.data_ptr()
    chosen = {**_dtypes(x, weight, bias, initial_states), "TG": grad.dtype, "WIDTH": width}
    options = kernels.macros(
        **chosen, **_shape(form), SILU=activation is not None, X_ALONG=_along(x), G_ALONG=_along(grad),
        OUT_WHOLE=kernels.aligned(grads[0], -1, 8),
    )  # fmt: skip
    if form.span:
        name, grid, shared = "conv_rows_backward", (_blocks(conv, form), 1), 0
    else:
        name, grid = "conv_tiles_backward", (-(-d // _SIDE) * conv.segments, b)
        shared = 4 * _SIDE * (_pitch(_SIDE + 2 * (width - 1)) + _pitch(_SIDE + width - 1))
    source = kernels.source("causal_conv1d/conv.cuh", "causal_conv1d/backward.cu")
    nvrtc.launch(source, options, name, grid, form.threads, shared, conv, x.device)
    sums = (-(-d * (width + 1) // 32), 1)
    nvrtc.launch(source, options, "conv_sums", sums, form.threads, 4 * form.threads, conv, x.device)
    return tuple(grads)


def update(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None,
    conv_state_indices: Tensor | None, threads: int = 128, plan: kernels.Plan | None = None,
) -> Tensor:  # fmt: skip
    """The output (b d l) of new positions; ``conv_state`` moves on."""
    plan = plan or planned(x, conv_state, weight, bias, activation, conv_state_indices, threads)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    step = ConvStep.from_buffer_copy(plan.parameter)
    step.y, step.x.at, step.state.at, step.weight = y.data_ptr(), x.data_ptr(), conv_state.data_ptr(), weight.data_ptr()
    if bias is not None:
        step.bias = bias.data_ptr()
    if conv_state_indices is not None:
        step.slots = conv_state_indices.data_ptr()
    plan.run(step, x.device)
    return y


def planned(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None,
    conv_state_indices: Tensor | None, threads: int = 128,
) -> kernels.Plan:  # fmt: skip
    """How such a decoding step is launched."""
    (b, d, l), width, kept = x.shape, weight.shape[-1], conv_state.shape[-1]
    step = ConvStep()
    step.x, step.state = (Matrix(0, *each.stride()) for each in (x, conv_state))
    _weights(step, weight, bias)
    if conv_state_indices is not None:
        step.slot_step, step.wide = conv_state_indices.stride(0), conv_state_indices.dtype == torch.int64
    step.batch, step.channels, step.length, step.cache = b, d, l, conv_state.shape[0]
    whole = l == 1 and kept * conv_state.element_size() in (4, 8, 16) and kernels.aligned(conv_state, -1, kept)
    options = kernels.macros(
        TX=x.dtype, TS=conv_state.dtype, TW=weight.dtype, TB=x.dtype if bias is None else bias.dtype, WIDTH=width,
        KEPT=kept, SILU=activation is not None, WHOLE=whole, THREADS=threads,
    )  # fmt: skip
    source = kernels.source("causal_conv1d/step.cu")
    return kernels.Plan(source, options, "conv_step", (-(-b * d // threads), 1), threads, bytes(step))


def _operands(x: Tensor, weight: Tensor, bias: Tensor | None, initial_states: Tensor | None) -> Conv:
    """The parameter with its operands."""
    conv = Conv()
    conv.x = Matrix(x.data_ptr(), *x.stride())
    if initial_states is not None:
        conv.initial = Matrix(initial_states.data_ptr(), *initial_states.stride())
    _weights(conv, weight, bias)
    conv.batch, conv.channels, conv.length = x.shape
    return conv


def _weights(parameter: Conv | ConvStep, weight: Tensor, bias: Tensor | None) -> None:
    parameter.weight, (parameter.weight_d, parameter.weight_w) = weight.data_ptr(), weight.stride()
    if bias is not None:
        parameter.bias, parameter.bias_d = bias.data_ptr(), bias.stride(0)


def _dtypes(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_states: Tensor | None
) -> dict[str, torch.dtype]:  # fmt: skip
    """The macros that name the operands' dtypes."""
    some = {"TX": x, "TW": weight, "TB": bias, "TI": initial_states}
    return {name: x.dtype if each is None else each.dtype for name, each in some.items()}


def _span(width: int, *rows: Tensor) -> int:
    """The positions of a thread where all ``rows`` are aligned; 0 where they are not."""
    for span in (8, 4):
        around = 4 if width <= 5 else 8
        if width <= 9 and around <= span and all(kernels.aligned(x, -1, span) for x in rows):
            return span
    return 0


def _along(x: Tensor) -> int:
    """How x (b d l) is read into a tile: along l, along d, along d by 16 bytes, along l by 16 bytes."""
    vector = 16 // x.element_size()
    if x.stride(1) != 1 or (x.stride(2) == 1 and x.shape[2] > 1):
        return 3 if kernels.aligned(x, -1, vector) else 0
    return 2 if kernels.aligned(x, 1, vector) else 1


def default_form(b: int, d: int, l: int, span: int, multiprocessors: int) -> Form:
    """Many rounds, as far as twice as many threads are left as the GPU has room for (of tiles: eight blocks)."""
    lanes = min(32, 1 << (-(-l // span) - 1).bit_length()) if span else 1
    for rounds in (4, 2):
        if span and b * d * -(-l // (rounds * lanes * span)) * lanes >= 4096 * multiprocessors:
            return Form(span, lanes, rounds)
        if not span and b * -(-d // _SIDE) * -(-l // (rounds * _SIDE)) >= 8 * multiprocessors:
            return Form(span, lanes, rounds)
    return Form(span, lanes, rounds=1)


def _cut(conv: Conv, form: Form) -> None:
    """Give rows their segments."""
    conv.segment = form.rounds * (form.lanes * form.span or _SIDE)
    conv.segments = -(-conv.length // conv.segment)


def _blocks(conv: Conv, form: Form) -> int:
    """The blocks for all segments of aligned rows."""
    return -(-conv.batch * conv.channels * conv.segments * form.lanes // form.threads)


def _shape(form: Form) -> dict[str, int]:
    """The macros of a form."""
    return {"THREADS": form.threads, "SPAN": form.span or 8, "LANES": form.lanes}


def _pitch(count: int) -> int:
    """Words from one row of a tile to the next, as PITCH in conv.cuh."""
    return (count + count // 32 + 5) // 8 * 8 + 2
