"""torchvision beside a torch that its compiled operators were not built for: the schemas that its import asks for."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from pathlib import Path

import torch


@functools.cache
def defined() -> torch.library.Library | None:
    """Make torchvision, and what imports it (timm, transformers), importable; its operators still do not run."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return None
    for path in sorted(Path(found.origin).parent.glob("_C*.so")):  # _C_stable of later versions
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(path))
            return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # its schemas go with it: the cache keeps it
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
