"""The cross selective scan on a CUDA GPU as one kernel: for one state, as VMamba's v1 and v2 models have.

The scan reads the image through the four directions and adds their outputs to one image in shared memory: neither four
sequences nor their outputs are ever made. `fused.cuh` says how. Images that shared memory has no room for, and more
states, are left to the three steps of `composed`.
"""

from __future__ import annotations

import ctypes
import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.cross_selective_scan.order import DIRECTIONS
from flopscan.ops.gpu import kernels, nvrtc
from flopscan.ops.gpu.kernels import NAMES
from flopscan.ops.selective_scan.cuda import Grouped, Matrix, grouped, matrix

_COMMON = ("selective_scan/cuda/common.cuh", "selective_scan/cuda/lanes.cuh", "cross_selective_scan/fused.cuh")


@dataclass(frozen=True)
class Walk:
    """How the kernels are compiled: ``lanes`` of a warp, ``span`` pixels each, are a channel; warps for a direction."""

    lanes: int = 32
    span: int = 8
    warps: int = 1
    resident: int = 6  # blocks that registers must allow on a multiprocessor

    @property
    def chunk(self) -> int:
        """Pixels that are worked on at once, and from one kept state to the next."""
        return self.lanes * self.span

    @property
    def block(self) -> int:
        """Channels of a block."""
        return 32 // self.lanes * self.warps


def default_walk(length: int, size: int, backward: bool = False) -> Walk:
    """How an image of so many pixels of so many bytes is walked through unless told otherwise, as measured."""
    if length <= 256:
        return Walk(lanes=4, resident=5 if not backward else 4 if length <= 64 else 3)
    if length <= 1024:
        return Walk(lanes=8, resident=3) if backward else Walk(lanes=8, warps=2, resident=2)
    if length <= 4096:
        return Walk(warps=2, resident=2 if backward or size > 2 else 3)
    return Walk(resident=3)


def saved_shape(b: int, d: int, l: int, n: int) -> tuple[int, ...]:
    """The shape (b 4 chunks d) of the states before every chunk."""
    return b, DIRECTIONS, -(-l // default_walk(l, 2).chunk), d


def supports(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> bool:
    """Whether there are kernels for such operands, on such a device."""
    return kernels.supported((x, delta, B, C)) and A.shape[1] == 1 and not A.is_complex() and fits(x, _room(x.device))


def fits(x: Tensor, room: int) -> bool:
    """Whether blocks of an image have so many bytes of shared memory, in both directions of time."""
    length = x.shape[2] * x.shape[3]
    walk = default_walk(length, x.element_size(), backward=True)
    return shared_bytes(walk, length, x.element_size(), 4) <= room


@functools.cache
def _room(device: torch.device) -> int:
    """The bytes of shared memory that a block can have."""
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 48 * 1024)


def shared_bytes(walk: Walk, length: int, *images: int) -> int:
    """The shared memory of a block that holds images of so many bytes a pixel, the last that of a gradient's output."""
    padded = -(-length // 8) * 8
    products = 4 * 2 * DIRECTIONS * walk.block * walk.chunk if len(images) > 1 else 0
    return walk.block * padded * (2 * 4 + sum(images)) + products


class Fused(ctypes.Structure):
    """The one parameter of the kernels, as `Fused` in fused.cuh."""

    _fields_ = [
        *((name, Matrix) for name in ("x", "grad")),
        *((name, Grouped) for name in ("delta", "B", "C")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "bias", "out", "grad_x", "grad_delta", "saved")),
        *((name, ctypes.c_void_p) for name in ("grad_B", "grad_C", "grad_channel")),
        ("part", ctypes.c_longlong),
        *((name, ctypes.c_int) for name in ("batch", "channels", "height", "width")),
    ]


def forward(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None, *,
    delta_softplus: bool, keep: bool, out_dtype: torch.dtype, walk: Walk | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The image (b d h w) and, where asked to ``keep``, states for the gradient."""
    b, d, h, w = x.shape
    walk = walk or default_walk(h * w, x.element_size())
    out = torch.empty(x.shape, dtype=out_dtype if out_dtype in NAMES else torch.float32, device=x.device)
    saved = A.new_empty((b, DIRECTIONS, -(-h * w // walk.chunk), d) if keep else 0)
    flat = x.flatten(2)  # a view, unless rows are apart from each other
    scan = _operands(flat, delta, A, B, C, D, delta_bias)
    scan.height, scan.width = h, w
    scan.out, scan.saved = out.data_ptr(), saved.data_ptr() if keep else None
    macros = (*_dtypes(x, delta, B, C, out), *_choices(walk, scan, delta_softplus, out.element_size()))
    _launch("fused_forward", scan, walk, macros, shared_bytes(walk, h * w, x.element_size()), x.device)
    return out.to(out_dtype), saved


def backward(
    grad: Tensor, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    delta_bias: Tensor | None, saved: Tensor, *, delta_softplus: bool, deterministic: bool, walk: Walk | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of x, delta, A, B, C, D and delta_bias.

    Sums over the channels of a block of B's and C's gradients are added up in memory, in any order, unless
    ``deterministic``: then each block writes its own.
    """
    b, d, h, w = x.shape
    walk = walk or default_walk(h * w, x.element_size(), backward=True)
    flat, flat_grad = (each.flatten(2) for each in (x, grad if grad.dtype in NAMES else grad.float()))
    scan = _operands(flat, delta, A, B, C, D, delta_bias)
    scan.height, scan.width = h, w
    scan.grad, scan.saved = _whole(matrix(flat_grad), flat_grad), saved.data_ptr()
    grad_x, grad_delta = (torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (x, delta))
    blocks = -(-d // walk.block)
    shape = (2, b, DIRECTIONS, 1, h * w)
    products = A.new_empty(blocks, *shape) if deterministic else A.new_zeros(1, *shape)
    per_channel = A.new_empty(b, 3, DIRECTIONS * d)
    scan.grad_x, scan.grad_delta, scan.grad_channel = (each.data_ptr() for each in (grad_x, grad_delta, per_channel))
    scan.grad_B, scan.grad_C = products[0, 0].data_ptr(), products[0, 1].data_ptr()
    scan.part = products.stride(0) if deterministic else 0
    aligned = math.gcd(16, h * w * delta.element_size())
    chosen = _choices(walk, scan, delta_softplus, x.element_size(), GRAD_ALIGN=aligned, PARTS=int(deterministic))
    macros = (*_dtypes(x, delta, B, C, flat_grad), *chosen)
    shared = shared_bytes(walk, h * w, x.element_size(), flat_grad.element_size())
    _launch("fused_backward", scan, walk, macros, shared, x.device)
    grad_B, grad_C = products.sum(0) if deterministic else products[0]
    of_A, of_D, of_bias = per_channel.sum(0)
    return (
        grad_x, grad_delta, of_A.unsqueeze(1), grad_B.to(B.dtype), grad_C.to(C.dtype),
        None if D is None else of_D, None if delta_bias is None else of_bias,
    )  # fmt: skip


def _operands(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> Fused:
    """The parameter with its operands; x is b d l; A, D and delta_bias are float32 and in one piece."""
    scan = Fused(x=_whole(matrix(x), x), A=A.data_ptr())
    scan.delta, scan.B, scan.C = (_whole(grouped(each), each) for each in (delta, B, C))
    scan.D, scan.bias = (None if each is None else each.data_ptr() for each in (D, delta_bias))
    scan.batch, scan.channels, _ = x.shape
    return scan


def _whole(described: Any, x: Tensor) -> Any:
    """An operand whose rows are as aligned at their ends as at their beginnings: half of them are read from the end."""
    if described.align:
        described.align = math.gcd(described.align, x.shape[-1] * x.element_size())
    return described


def _dtypes(x: Tensor, delta: Tensor, B: Tensor, C: Tensor, out: Tensor) -> tuple[str, ...]:
    """The macros that name the operands' dtypes."""
    named = {"TU": x, "TD": delta, "TB": B, "TC": C, "TO": out}
    return tuple(f"-D{name}={NAMES[each.dtype]}" for name, each in named.items())


def _choices(walk: Walk, scan: Fused, softplus: bool, size: int, **more: int) -> tuple[str, ...]:
    """The macros that say how a kernel works and what it need not ask; ``size``: the bytes of a pixel of the output."""
    length = scan.height * scan.width
    chosen = {
        "LANES": walk.lanes, "SPAN": walk.span, "WARPS": walk.warps, "RESIDENT": walk.resident,
        "SOFTPLUS": int(softplus), "ALIGN": min(each.align for each in (scan.delta, scan.B, scan.C)),
        "IMAGE": min(each.align for each in (scan.x, scan.grad) if each.at), "WHOLE": int(length % 8 == 0),
        "SIDE": math.gcd(scan.width, 4), "OUT_ALIGN": math.gcd(16, length * size), **more,
    }  # fmt: skip
    return tuple(f"-D{name}={value}" for name, value in chosen.items())


def _launch(kernel: str, scan: Fused, walk: Walk, macros: tuple[str, ...], shared: int, device: torch.device) -> None:
    """Run a kernel over all blocks."""
    grid = scan.batch * -(-scan.channels // walk.block), 1
    nvrtc.launch(source(kernel), macros, kernel, grid, 32 * DIRECTIONS * walk.warps, shared, scan, device)


def source(kernel: str) -> str:
    """The text of a kernel, with what it includes."""
    return kernels.source(*_COMMON, f"cross_selective_scan/{kernel}.cu")
