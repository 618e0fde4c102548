"""Selective scans, as code has them: a loop in torch, or one operator that stands for a kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flopscan.ops import selective_scan
from flopscan.testing.conformance.case import Case

GROUP = "scans"
B, D, L, N = 2, 24, 16, 8


class Loop(nn.Module):
    """The recurrence step by step, as models fall back to without a kernel."""

    def forward(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The output, (b, d, l)."""
        delta = F.softplus(delta)
        decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
        driven = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
        state, outputs = torch.zeros_like(decay[:, :, 0]), []
        for i in range(u.shape[2]):
            state = decay[:, :, i] * state + driven[:, :, i]
            outputs.append(torch.einsum("bdn,bn->bd", state, C[..., i]))
        return torch.stack(outputs, 2)


class Operator(nn.Module):
    """The scan by an operator of torch.library."""

    def forward(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The output, (b, d, l)."""
        return selective_scan(u, delta, A, B, C, delta_softplus=True)


_SHAPES = ((B, D, L), (B, D, L), (D, N), (B, N, L), (B, N, L))
_STATES = B * D * L * N

CASES = (
    Case(
        "selective scan, a loop in torch", GROUP, Loop, _SHAPES, _STATES,
        "y = C h is a product, b d l n = 2*24*16*8; h = a h + b is elementwise here, one more as a recurrence",
        (2 * _STATES,),
    ),
    Case(
        "selective scan, an operator", GROUP, Operator, _SHAPES, 2 * _STATES,
        "h = a h + b and y = C h: 2 b d l n = 2*2*24*16*8",
    ),
)  # fmt: skip
