"""Cases of the causal convolution and of its decoding step, for the emulator and for a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.causal_conv1d import operator

HALF, BFLOAT = torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Conv:
    """A convolution of x (b d l); ``order``: how x lies in memory, ``grad``: and the gradient of the output."""

    l: int = 64
    b: int = 2
    d: int = 5
    w: int = 4
    given: tuple[str, ...] = ("bias", "initial_states")
    activation: str | None = "silu"
    dtype: torch.dtype = torch.float32
    weights: torch.dtype = torch.float32
    order: str = "rows"
    grad: str = "rows"

    def operands(self, device: str = "cpu") -> dict[str, Any]:
        """The arguments of the operator."""
        torch.manual_seed(0)
        b, d, l, w = self.b, self.d, self.l, self.w
        x = placed(self.order, b, d, l).to(device, self.dtype)
        weight, bias = (torch.randn(*shape).to(device, self.weights) for shape in ((d, w), (d,)))
        initial = torch.randn(b, w - 1, d).to(device, self.dtype).transpose(1, 2)
        found = {"x": x, "weight": weight, "bias": bias, "initial_states": initial}
        return {k: None if k in ("bias", "initial_states") and k not in self.given else v for k, v in found.items()} | {
            "activation": self.activation
        }


def placed(order: str, b: int, d: int, l: int) -> Tensor:
    """Random numbers (b d l) as they may lie in memory."""
    if order == "rows":
        return torch.randn(b, d, l)
    if order == "half of rows":  # as a chunk of a projection (b 2d l)
        return torch.randn(b, 2 * d, l)[:, d:]
    if order == "off by one":
        return torch.randn(b, d, l + 1)[..., 1:]
    if order == "channels last":
        return torch.randn(b, l, d).transpose(1, 2)
    if order == "half of channels last":  # as a chunk of a projection (b l 2d)
        return torch.randn(b, l, 2 * d)[..., d:].transpose(1, 2)
    if order == "expanded":
        return torch.randn(b, d, 1).expand(b, d, l)
    return torch.randn(l, d, b, 2)[..., 0].permute(2, 1, 0)


LAST = {"order": "channels last"}
CONVS = [
    *(Conv(l) for l in (1, 2, 3, 63, 65, 1000)), Conv(), Conv(8), Conv(20), Conv(12, dtype=BFLOAT),
    *(Conv(l, **LAST) for l in (1, 2, 3, 63, 64, 65, 200)), Conv(64, d=64, **LAST),
    Conv(72, d=72, **LAST, dtype=BFLOAT), Conv(130, d=131, b=1, **LAST, dtype=BFLOAT),
    Conv(40, d=8, order="half of channels last", dtype=HALF),
    *(Conv(w=w) for w in (1, 2, 3, 5, 6, 9, 10, 16)), *(Conv(70, w=w, **LAST) for w in (1, 2, 3, 5, 9, 16)),
    *(Conv(given=given, activation=None) for given in ((), ("bias",), ("initial_states",))),
    *(Conv(given=given, **LAST) for given in ((), ("bias",), ("initial_states",))),
    Conv(dtype=BFLOAT, weights=BFLOAT), Conv(dtype=BFLOAT), Conv(dtype=HALF, weights=HALF), Conv(weights=BFLOAT),
    Conv(63, dtype=BFLOAT, weights=BFLOAT), Conv(4, w=6), Conv(36, w=6, dtype=BFLOAT),
    *(Conv(order=order) for order in ("half of rows", "off by one", "scattered")),
    *(Conv(grad=grad) for grad in ("channels last", "expanded", "scattered", "off by one")),
    Conv(136, d=72, **LAST, dtype=BFLOAT), Conv(136, d=72, grad="channels last", dtype=BFLOAT),
    Conv(w=10, grad="scattered"), Conv(**LAST, grad="channels last", d=8), Conv(264, b=3, d=33), Conv(2056, b=1, d=2),
    Conv(520, b=1, d=3, **LAST),
]  # fmt: skip


def compare(case: Conv, device: str, run: Any, gradient: Any, plain: Any, plain_gradient: Any) -> None:
    """Assert that outputs and gradients are as near to the definition in float64 as plain torch's."""
    operands = case.operands(device)
    exact = {k: v.double() if isinstance(v, Tensor) else v for k, v in operands.items()}
    out, expected = run(**operands), plain(**operands)
    assert (out.dtype, out.stride()) == (expected.dtype, expected.stride())
    near(out, expected, plain(**exact), case)
    grad = placed(case.grad, case.b, case.d, case.l).to(device, case.dtype)
    found, like = gradient(grad, **operands), plain_gradient(grad, **operands)
    right = plain_gradient(grad.double(), **exact)
    for i, name in enumerate(("x", "weight", "bias", "initial_states")):
        if operands[name] is not None:
            assert (found[i].dtype, found[i].stride()) == (like[i].dtype, like[i].stride())
            near(found[i], like[i], right[i], (name, case))


def near(found: Tensor, like: Tensor, right: Tensor, what: Any) -> None:
    """Assert that the error is no more than that of ``like``, but for what orders of adding up make."""
    if right.numel():
        bound = 1.5 * (like - right).abs().max() + 4e-6 * right.abs().max()
        assert (found - right).abs().max() <= bound, what


@dataclass(frozen=True)
class ConvStep:
    """A decoding step with l new positions."""

    l: int = 1
    b: int = 3
    d: int = 37
    w: int = 4
    kept: int = 4
    bias: bool = True
    activation: str | None = "silu"
    dtype: torch.dtype = torch.float32
    weights: torch.dtype = torch.float32
    state: torch.dtype = torch.float32
    order: str = "rows"
    indices: torch.dtype | None = None

    def operands(self, device: str = "cpu") -> dict[str, Any]:
        """The arguments of the operator."""
        torch.manual_seed(0)
        cache = self.b + 2 if self.indices else self.b
        slots = None if self.indices is None else torch.randperm(cache)[: self.b].to(device, self.indices)
        weight, bias = (torch.randn(*shape).to(device, self.weights) for shape in ((self.d, self.w), (self.d,)))
        return {
            "x": placed("channels last", self.b, self.d, self.l).to(device, self.dtype),
            "conv_state": placed(self.order, cache, self.d, self.kept).to(device, self.state),
            "weight": weight, "bias": bias if self.bias else None, "activation": self.activation,
            "conv_state_indices": slots,
        }  # fmt: skip


CONV_STEPS = [
    ConvStep(), ConvStep(kept=3), ConvStep(kept=7), ConvStep(kept=8, dtype=HALF, state=HALF), ConvStep(w=2, kept=2),
    *(ConvStep(w=w, kept=max(w - 1, 1)) for w in (1, 2, 3, 5, 9, 16)), ConvStep(bias=False), ConvStep(activation=None),
    ConvStep(dtype=BFLOAT, state=BFLOAT, weights=BFLOAT), ConvStep(dtype=BFLOAT), ConvStep(dtype=HALF, state=BFLOAT),
    ConvStep(kept=2, w=3, dtype=BFLOAT, state=BFLOAT), *(ConvStep(l) for l in (2, 3, 4, 5, 8)), ConvStep(5, kept=9),
    ConvStep(order="channels last"), ConvStep(order="off by one"), ConvStep(3, order="scattered"),
    ConvStep(indices=torch.int32), ConvStep(indices=torch.int64, dtype=BFLOAT, state=BFLOAT),
    ConvStep(2, indices=torch.int64, kept=3, order="channels last"),
]  # fmt: skip


def compare_step(case: ConvStep, device: str, run: Any, plain: Any = operator._update_in_steps) -> None:
    """Assert that a step is as near to the definition in float64 as plain torch's, and its states are the same."""
    operands = case.operands(device)
    exact = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in operands.items()}
    if case.state != case.dtype:  # the convolution takes states in the dtype of x
        exact["conv_state"] = operands["conv_state"].to(case.dtype).double()
    ours, other = ({**operands, "conv_state": operands["conv_state"].clone()} for _ in range(2))
    out, expected = run(**ours), plain(**other)
    assert (out.dtype, out.stride()) == (expected.dtype, expected.stride())
    near(out, expected, plain(**exact), case)
    assert torch.equal(ours["conv_state"], other["conv_state"])
