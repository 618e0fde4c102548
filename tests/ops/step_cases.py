"""Cases of the decoding step, for the emulator and for a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flopscan.ops import selective_state_update

ALL = ("D", "z", "dt_bias")


@dataclass(frozen=True)
class Step:
    """A step of b sequences: of ``d`` channels, or of ``heads`` with ``d`` channels each."""

    b: int = 2
    d: int = 5
    n: int = 16
    heads: int = 0
    groups: int = 0  # 0: B and C have no axis of groups
    given: tuple[str, ...] = ALL
    softplus: bool = True
    tied: bool = False  # A, D, dt_bias and dt are one number a head, expanded
    indices: torch.dtype | None = None
    state: torch.dtype = torch.float32
    dtype: torch.dtype = torch.float32
    weights: torch.dtype = torch.float32
    scattered: bool = False  # nothing is in one piece

    def operands(self, device: str = "cpu") -> dict[str, Any]:
        """The arguments of `selective_state_update`."""
        torch.manual_seed(0)
        b, n = self.b, self.n
        rows = (self.heads, self.d) if self.heads else (self.d,)
        cache = b + 3 if self.indices else b

        def make(*shape: int, dtype: torch.dtype = self.dtype) -> Tensor:
            if self.scattered:
                return torch.randn(*shape, 2).to(device, dtype)[..., 0]
            return torch.randn(*shape).to(device, dtype)

        def weight(*shape: int) -> Tensor:
            return make(*shape, dtype=self.weights)

        shared = (b, self.groups, n) if self.groups else (b, n)
        found = {
            "state": make(cache, *rows, n, dtype=self.state), "x": make(b, *rows), "dt": make(b, *rows),
            "A": -weight(*rows, n).exp(), "B": make(*shared), "C": make(*shared), "D": weight(*rows),
            "z": make(b, *rows), "dt_bias": weight(*rows),
        }  # fmt: skip
        if self.tied:
            found["A"] = -weight(self.heads).exp()[:, None, None].expand(*rows, n)
            found["dt"] = make(b, self.heads)[..., None].expand(b, *rows)
            found["D"], found["dt_bias"] = (weight(self.heads)[:, None].expand(rows) for _ in range(2))
        for name in ALL:
            if name not in self.given:
                found[name] = None
        slots = None if self.indices is None else torch.randperm(cache)[:b].to(device, self.indices)
        return {**found, "dt_softplus": self.softplus, "state_batch_indices": slots}


LOW = {"state": torch.bfloat16, "dtype": torch.bfloat16}
STEPS = [
    Step(), Step(b=1, d=1, n=1), Step(n=3), Step(n=4), Step(n=17), Step(n=64, d=37), Step(n=100), Step(n=128, b=3),
    Step(n=256), Step(n=300), Step(n=1100, d=2), Step(b=5, d=131), Step(given=()), Step(given=("D",), softplus=False),
    Step(given=("z",)), Step(given=("dt_bias",)), Step(groups=1), Step(scattered=True),
    Step(indices=torch.int32), Step(indices=torch.int64, **LOW), Step(indices=torch.int32, scattered=True),
    Step(n=5, scattered=True, **LOW),
    Step(heads=4, d=6, n=32, groups=2), Step(heads=4, d=6, n=32, groups=4, given=()), Step(heads=3, d=5, n=7),
    Step(heads=4, d=8, n=128, groups=1, tied=True), Step(heads=4, d=8, n=128, groups=2, tied=True, **LOW),
    Step(heads=4, d=5, n=9, groups=2, tied=True, indices=torch.int64), Step(**LOW), Step(n=8, **LOW), Step(n=12, **LOW),
    Step(n=128, d=9, **LOW), Step(n=256, **LOW), Step(state=torch.float16, dtype=torch.float16),
    Step(state=torch.float32, dtype=torch.bfloat16), Step(state=torch.bfloat16, dtype=torch.float16),
    Step(state=torch.float16), Step(weights=torch.bfloat16, **LOW), Step(weights=torch.float16, dtype=torch.bfloat16),
]  # fmt: skip


def compare(case: Step, device: str, run: Any = selective_state_update, plain: Any = selective_state_update) -> None:
    """Assert that ``run`` is as near to the definition in float64 as ``plain`` is, within what rounding allows."""
    operands = case.operands(device)
    exact = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in operands.items()}
    ours, other = ({**operands, "state": _alike(operands["state"])} for _ in range(2))
    right = selective_state_update(**exact)
    out, expected = run(**ours), plain(**other)
    assert (out.dtype, out.shape, out.stride()) == (expected.dtype, expected.shape, expected.stride())
    for found, like, true in (
        (out, expected, right), (ours["state"], other["state"], exact["state"]),
    ):  # fmt: skip
        size = true.abs().max()
        bound = 1.5 * (like - true).abs().max() + 4e-6 * size
        assert (found - true).abs().max() <= bound, case


def _alike(x: Tensor) -> Tensor:
    """A copy with the same strides."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)
