"""Mamba-2's scan in torch, step by step."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any = None, z: Any = None, dt_bias: Any = None,
    initial_states: Any = None, seq_idx: Any = None, dt_softplus: bool = False, dt_limit: Any = None, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The definition in torch, step by step."""
    dt = dt if dt_bias is None else dt + dt_bias
    dt = F.softplus(dt) if dt_softplus else dt
    dt = dt.clamp(*(dt_limit or (0.0, math.inf)))
    B, C = (m.repeat_interleave(x.shape[2] // m.shape[2], 2) for m in (B, C))
    S = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3]) if initial_states is None else initial_states
    ys = []
    for i in range(x.shape[1]):
        if seq_idx is not None:
            same = seq_idx[:, i] == (seq_idx[:, i - 1] if i else 0)
            S = S * same[:, None, None, None]
        decay = torch.exp(dt[:, i] * A)[..., None, None]
        S = decay * S + (dt[:, i, :, None] * x[:, i])[..., None] * B[:, i, :, None]
        ys.append((S * C[:, i, :, None]).sum(-1))
    y = torch.stack(ys, 1)
    if D is not None:
        y = y + x * (D[:, None] if D.dim() == 1 else D)
    return (y if z is None else y * F.silu(z)), S
