"""The cross scan and the cross merge on a CUDA GPU: a kernel each, compiled for the dtypes when first needed."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from flopscan.ops.cross_selective_scan.order import DIRECTIONS
from flopscan.ops.gpu import kernels, nvrtc

_THREADS = 256
_WHOLE = 6144  # pixels up to which a block has a whole image, and some channels of it: 24 KiB
_SIDE = 32  # of a tile of a larger one


def supports(x: Tensor) -> bool:
    """Whether there are kernels for such a tensor, on such a device."""
    return kernels.supported([x])


class Cross(ctypes.Structure):
    """The one parameter of both kernels, as `Cross` in cross.cu."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "y")),
        *((name, ctypes.c_longlong) for name in ("x_b", "x_d", "x_h", "x_w")),
        *((name, ctypes.c_int) for name in ("batch", "channels", "height", "width", "rows", "tile_h", "tile_w")),
    ]


def cross_scan(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An image (b d h w) as four sequences (b 4 d l) of ``dtype``, in the orders of `order.cross_scan`."""
    b, d, h, w = x.shape
    y = torch.empty((b, DIRECTIONS, d, h * w), dtype=dtype, device=x.device)
    _launch("cross_scan", x, y)
    return y


def cross_merge(y: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """The image (b d h w) of four sequences (b 4 d l), summed in float32 in the order of `order.cross_merge`."""
    x = torch.empty((y.shape[0], y.shape[2], height, width), dtype=dtype, device=y.device)
    _launch("cross_merge", x, y.contiguous())
    return x


def tile(d: int, h: int, w: int) -> tuple[int, int, int]:
    """The channels, rows and columns of a block's part of an image."""
    if h * w > _WHOLE:
        return 1, _SIDE, _SIDE
    return max(1, min(d, 2048 // (h * w))), h, w


def _launch(kernel: str, x: Tensor, y: Tensor) -> None:
    """Run a kernel over all tiles."""
    b, d, h, w = x.shape
    rows, tile_h, tile_w = tile(d, h, w)
    parameter = Cross(x.data_ptr(), y.data_ptr(), *x.stride(), b, d, h, w, rows, tile_h, tile_w)
    macros = kernels.macros(TX=x.dtype, TY=y.dtype)
    blocks = b * -(-d // rows) * -(-h // tile_h) * -(-w // tile_w)
    shared = 4 * rows * tile_h * (tile_w | 1)
    nvrtc.launch(source(), macros, kernel, (blocks, 1), _THREADS, shared, parameter, x.device)


def source() -> str:
    """The text of the kernels."""
    return kernels.source("cross_selective_scan/cross.cu")
