"""The scan without a read-out: values against torch, counts against its tally."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flopscan.rules.selective_scan_states import STATES, example
from flopscan.testing.check import draw_sizes
from proving import prove


def states(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, D: Any = None, z: Any = None, delta_bias: Any = None,
    delta_softplus: bool = False,
) -> Tensor:  # fmt: skip
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = F.softplus(delta) if delta_softplus else delta
    B = B if B.dim() == 3 else B[:, :, 0].repeat_interleave(u.shape[1] // B.shape[1], 1)
    h, found = torch.zeros_like(u[..., 0]), []
    for i in range(u.shape[2]):
        h = torch.exp(delta[..., i] * A[:, 0]) * h + delta[..., i] * u[..., i] * B[..., i]
        found.append(h)
    y = torch.stack(found, -1)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_the_rule_is_the_tally_of_the_definition(seed: int, grouped: bool) -> None:
    torch.manual_seed(seed)
    drawn = example(**draw_sizes(STATES, random.Random(seed)))
    real = {k: torch.randn(v.shape, dtype=torch.float64) if hasattr(v, "shape") else v for k, v in drawn.items()}
    real["B"] = real["B"] if grouped else real["B"][:, 0]
    prove(STATES, real, states(**real), 1e-12)
