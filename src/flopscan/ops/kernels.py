"""What the CUDA kernels of the decoding step and of the causal convolution share on the Python side."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from importlib.resources import files

import torch
from torch import Tensor

from flopscan.ops.selective_scan import forms, nvrtc

NAMES = {torch.float32: "float", torch.float16: "half_t", torch.bfloat16: "bfloat_t"}


def supported(operands: Iterable[Tensor | None]) -> bool:
    """Whether kernels take operands of these dtypes on this device, where neither is empty."""
    given = [x for x in operands if x is not None]
    return (
        all(x.is_cuda and x.dtype in NAMES and x.numel() > 0 for x in given)
        and forms.asked() in (None, "cuda")
        and torch.version.cuda is not None
        and _new_enough(given[0].device)
        and nvrtc.available()
    )


@functools.cache
def _new_enough(device: torch.device) -> bool:
    """Whether a GPU has the instructions for bfloat16."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU; in the emulator those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


@functools.cache
def source(package: str, *names: str) -> str:
    """The text of files of kernels, after what all of them share."""
    ops = files("flopscan.ops")
    return "\n".join(
        path.read_text(encoding="utf-8") for path in (ops / "kernels.cuh", *(ops / package / x for x in names))
    )


@functools.cache
def macros(**chosen: int | torch.dtype) -> tuple[str, ...]:
    """The options that define them; a dtype by its name in the sources."""
    return tuple(f"-D{k}={NAMES[v] if isinstance(v, torch.dtype) else int(v)}" for k, v in chosen.items())


def aligned(x: Tensor, axis: int, count: int) -> bool:
    """Whether every run of ``count`` elements along ``axis`` is in one piece and can be loaded 16 bytes at a time."""
    if x.shape[axis] % count or x.stride(axis) != 1:
        return False
    axis %= x.dim()
    size = x.element_size()
    starts = [x.data_ptr(), *(x.stride(i) * size for i in range(x.dim()) if i != axis and x.shape[i] > 1)]
    return math.gcd(*starts) % min(16, count * size) == 0
