"""torch's FlopCounterMode, 2.13, on a CPU: as 2.14, but the fused kernel takes no attention of three axes."""

from __future__ import annotations

from flopscan.conventions import torch_2_14
from flopscan.core.trace import Call


def _is_fused(call: Call) -> bool:
    return len(call["query"].shape) == 4 and torch_2_14.is_fused(call)


CONVENTION = torch_2_14.before_2_15(_is_fused, name="torch-2.13", version="2.13.0")
