"""What the CUDA kernels of the operators share on the Python side: sources, macros, and launches that are kept."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from flopscan.ops import asked
from flopscan.ops.gpu import nvrtc

NAMES = {torch.float32: "float", torch.float16: "half_t", torch.bfloat16: "bfloat_t"}


def supported(operands: Iterable[Tensor | None]) -> bool:
    """Whether kernels take operands of these dtypes on this device, where neither is empty."""
    given = [x for x in operands if x is not None]
    return (
        all(x.is_cuda and x.dtype in NAMES and x.numel() > 0 for x in given)
        and asked.form() in (None, "cuda")
        and reach(given[0].device)
    )


def reach(device: torch.device) -> bool:
    """Whether kernels can be compiled for this GPU."""
    return torch.version.cuda is not None and _new_enough(device) and nvrtc.available()


@functools.cache
def _new_enough(device: torch.device) -> bool:
    """Whether a GPU has the instructions for bfloat16."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU; in the emulator those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


@dataclass(frozen=True)
class Plan:
    """A launch but for the addresses: all that follows from shapes, strides, dtypes and alignment."""

    source: str
    options: tuple[str, ...]
    kernel: str
    grid: tuple[int, int]
    threads: int
    parameter: bytes

    def run(self, parameter: ctypes.Structure, device: torch.device) -> None:
        """Launch it."""
        nvrtc.launch(self.source, self.options, self.kernel, self.grid, self.threads, 0, parameter, device)


class Plans:
    """The plans of calls that were, so that a decoding step is not thought over for each token."""

    def __init__(self, most: int = 4096) -> None:
        self._kept: dict[Any, Plan] = {}
        self._most = most

    def find(self, key: Any) -> Plan | None:
        """That of a call like this one."""
        return None if key is None else self._kept.get(key)

    def keep(self, key: Any, plan: Plan) -> None:
        """Keep one, and no more than there is room for."""
        if key is not None:
            if len(self._kept) >= self._most:
                self._kept.clear()
            self._kept[key] = plan


def signature(operands: Iterable[Tensor | None], *others: Any) -> Any:
    """All of a call that a plan follows from, if its operands are on a GPU."""
    parts: list[Any] = [asked.form(), *others]
    for x in operands:
        if x is None:
            parts.append(None)
        elif x.is_cuda and x.layout is torch.strided:
            parts.append((x.shape, x.stride(), x.dtype, x.get_device(), x.data_ptr() & 15))
        else:
            return None
    return tuple(parts)


@functools.cache
def source(*names: str) -> str:
    """The text of files of kernels, by their paths below this package's parent, after what all of them share."""
    ops = files("flopscan.ops")
    return "\n".join((ops / name).read_text(encoding="utf-8") for name in ("gpu/kernels.cuh", *names))


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
