"""Random scans, and how far a form of the selective scan is from the definition in float64."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flopscan.ops import selective_scan
from flopscan.ops.selective_scan import forms, reference

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 5e-3, torch.bfloat16: 5e-3}


@dataclass(frozen=True)
class Case:
    """The sizes and options of a scan."""

    l: int
    n: int = 16
    b: int = 1
    d: int = 6
    g: int = 1
    given: tuple[str, ...] = ("D", "z", "delta_bias", "initial_state")
    softplus: bool = True
    dtype: torch.dtype = torch.float32
    B: str = "b g n l"
    C: str = "b g n l"
    complex_A: bool = False
    step: float = -2.0  # the mean of delta before softplus
    decay: float = 1.0  # the scale of A
    strided: bool = False

    def operands(self) -> dict[str, Any]:
        """Operands by name; u, delta and z with their channels next to each other in memory where ``strided``."""
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.randn(*shape, dtype=dtype, generator=generator)

        def stream() -> Tensor:
            if self.strided:
                return random(self.b, self.l, self.d).to(self.dtype).transpose(1, 2)
            return random(self.b, self.d, self.l).to(self.dtype)

        own = torch.float64 if self.dtype == torch.float64 else torch.float32
        state = own.to_complex() if self.complex_A else own

        def matrix(form: str) -> Tensor:
            if form == "d n":
                return random(self.d, self.n, dtype=state)
            shape = (self.b, self.n) if form == "b n l" else (self.b, self.g, self.n)
            return random(*shape, self.l * (2 if self.complex_A else 1)).to(self.dtype)

        A = -self.decay * (0.3 * random(self.d, self.n)).exp().to(own)
        steps = (0.5 * stream() + self.step) if self.softplus else (0.5 * stream() + self.step).exp()
        found = {
            "u": stream(),
            "delta": steps.to(self.dtype),
            "A": torch.complex(A, random(self.d, self.n).to(own)) if self.complex_A else A,
            "B": matrix(self.B),
            "C": matrix(self.C),
            "D": random(self.d).to(own),
            "z": stream(),
            "delta_bias": 0.1 * (random(self.d) if self.softplus else random(self.d).abs()).to(own),
            "initial_state": random(self.b, self.d, self.n, dtype=state),
        }
        return {name: found[name] if name in NAMES[:5] or name in self.given else None for name in NAMES}


def distance(x: Tensor, exact: Tensor) -> float:
    """The norm of the difference as a part of that of ``exact``."""
    x, exact = x.detach(), exact.detach()
    error = (x.to(exact.dtype) - exact).norm()
    return float(error / exact.norm().clamp(min=1e-30))


def errors(case: Case, form: str | None, device: str = "cpu", *, seen: bool = True) -> dict[str, float]:
    """The distance of the output, the last state and every gradient from the definition in float64.

    ``seen`` says whether the last state has a gradient. ``form`` "reference" is the definition in the dtypes of the
    case, None what is chosen. The definition in float64 gets the operands as they were rounded.
    """
    operands = case.operands()
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(case.b, case.d, case.l, generator=generator).to(case.dtype)
    grad_last = torch.randn(case.b, case.d, case.n, dtype=operands["A"].dtype, generator=generator) if seen else None
    exact = by_definition(case, {k: wide(v) for k, v in operands.items()}, wide(grad), wide(grad_last))
    if form == "reference":
        found = by_definition(case, operands, grad, grad_last)
    else:
        own = {k: None if v is None else v.to(device).requires_grad_() for k, v in operands.items()}
        with contextlib.nullcontext() if form is None else forms.use(form):
            out, last = selective_scan(**own, delta_softplus=case.softplus, return_last_state=True)
            results, upstream = ((out, last), (grad, grad_last)) if seen else ((out,), (grad,))
            given = {name: value for name, value in own.items() if value is not None}
            grads = torch.autograd.grad(results, list(given.values()), [x.to(device) for x in upstream])
        found = {"out": out, "last_state": last, **dict(zip(given, grads, strict=True))}
    return {name: distance(x.cpu(), exact[name]) for name, x in found.items()}


def by_definition(case: Case, operands: dict[str, Any], grad: Tensor, grad_last: Tensor | None) -> dict[str, Tensor]:
    """The output, the last state and the gradients by name, by the definition."""
    out, last = reference.selective_scan(**operands, delta_softplus=case.softplus, return_last_state=True)
    grads = reference.selective_scan_backward(grad, **operands, delta_softplus=case.softplus, grad_last_state=grad_last)
    named = {name: x for name, x in zip(NAMES, grads, strict=True) if x is not None}
    return {"out": out, "last_state": last, **named}


def wide(x: Tensor | None) -> Any:
    """The same numbers in float64, or complex128."""
    return None if x is None else x.to(torch.complex128 if x.is_complex() else torch.float64)


def check(case: Case, form: str | None, device: str = "cpu", *, seen: bool = True) -> None:
    """Raise AssertionError where a form is further from the definition than its dtype allows.

    Where a few numbers are sums that cancel, no float32 comes as near: then the definition in the same dtypes must be
    as far, up to a factor of three.
    """
    far = {name: e for name, e in errors(case, form, device, seen=seen).items() if not e < TOLERANCE[case.dtype]}
    if far:
        reached = errors(case, "reference", seen=seen)
        far = {name: (e, reached[name]) for name, e in far.items() if not e <= 3 * reached[name]}
    assert not far, f"{form} on {case}: {far}"
