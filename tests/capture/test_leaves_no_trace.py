"""A counted model is exactly what it was: parameters, buffers, gradients, hooks, mode, attributes, random state."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
from flopscan.capture.build import without_weights
from flopscan.errors import CaptureError


class Busy(nn.Module):
    """A model that changes itself in every way a forward can."""

    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.seen: list[Any] = []
        self.cache: dict[str, Any] = {"old": 1}
        self.fail = fail
        self.linear.register_forward_hook(lambda module, args, out: out)

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        self.seen.append(x)
        self.cache["new"] = x
        self.last = x
        self.register_buffer("extra", torch.ones(2))
        x = self.dropout(self.norm(self.linear(x)))
        if self.fail:
            raise ValueError("on purpose")
        return x


def snapshot(model: Busy) -> dict[str, Any]:
    return {
        "state": {k: (id(v), v.clone(), v._version) for k, v in model.state_dict(keep_vars=True).items()},
        "grads": [p.grad for p in model.parameters()],
        "hooks": [dict(m._forward_hooks) for m in model.modules()],
        "mode": [m.training for m in model.modules()],
        "attributes": {k: repr(v) for k, v in model.__dict__.items() if not k.startswith("_")},
        "call": nn.Module.__call__,
        "cond": torch.cond,
        "gradient": torch.is_grad_enabled(),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    assert a["state"].keys() == b["state"].keys()
    for name, (identity, value, version) in a["state"].items():
        assert (identity, version) == (b["state"][name][0], b["state"][name][2]), name
        assert torch.equal(value, b["state"][name][1]), name
    assert torch.equal(a["torch"], b["torch"])
    for key in ("grads", "hooks", "mode", "attributes", "call", "cond", "gradient", "python"):
        assert a[key] == b[key], key


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("options", [{}, {"backward": True}, {"training": False}, {"run": True}, {"lines": True}])
def test_counting_leaves_the_model_as_it_was(fail: bool, options: dict[str, Any]) -> None:
    model = Busy(fail)
    before = snapshot(model)
    x = torch.randn(3, 4) if options.get("run") else (3, 4)
    before["torch"] = torch.get_rng_state()
    if fail:
        with pytest.raises(CaptureError, match="on purpose"):
            flopscan.count(model, x, **options)
    else:
        flopscan.count(model, x, **options)
    same(before, snapshot(model))


def test_counting_around_real_code_restores_what_it_patched() -> None:
    call, cond = nn.Module.__call__, torch.cond
    with pytest.raises(ZeroDivisionError), flopscan.counting():
        raise ZeroDivisionError
    assert (nn.Module.__call__, torch.cond) == (call, cond)


def test_building_without_weights_allocates_none_and_restores() -> None:
    register, state = nn.Module.register_parameter, torch.get_rng_state()
    with without_weights():
        model = nn.Sequential(nn.Linear(1 << 14, 1 << 14), nn.BatchNorm1d(1 << 14))
        tied = nn.Linear(4, 4)
        tied.twin = tied.weight
    assert all(p.is_meta for p in model.parameters())
    assert not model[1].running_var.is_meta  # buffers keep their values
    assert tied.twin is tied.weight
    assert nn.Module.register_parameter is register
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ZeroDivisionError), without_weights():
        raise ZeroDivisionError
    assert nn.Module.register_parameter is register


def test_what_has_no_memory_is_not_initialised() -> None:
    before = {**vars(torch.Tensor)}
    with without_weights():
        layer = nn.Linear(3, 4)
        assert nn.init.trunc_normal_(layer.weight) is layer.weight
        torch.manual_seed(0)
        drawn = torch.empty(5).normal_()
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.empty(5).normal_())
    assert {**vars(torch.Tensor)} == before


def test_a_weight_larger_than_any_memory_is_built() -> None:
    factories = torch.zeros, torch.empty
    with without_weights():
        experts = nn.Parameter(torch.zeros(1 << 20, 1 << 14, 1 << 14))
        more = nn.Parameter(torch.empty(size=(1 << 20, 1 << 20)).normal_())
        small = torch.ones(1 << 10, 1 << 10)
        with pytest.raises(TypeError):
            torch.zeros("three")
    assert (experts.numel(), more.numel()) == (1 << 48, 1 << 40) and experts.is_meta
    assert small.sum() == 1 << 20
    assert (torch.zeros, torch.empty) == factories


def test_a_module_that_a_function_brings_along_is_borrowed_too() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.PReLU(), nn.BatchNorm1d(8))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = flopscan.count(lambda x: model(x).square().mean(), (3, 4), backward=True)
    assert report.macs == 2 * 3 * 4 * 8  # forward, and the gradient of the weight
    assert report.params == 4 * 8 + 8 + 1 + 16
    assert all(p.grad is None and not p.is_meta for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_real_run_leaves_the_inputs_as_they_were() -> None:
    x = torch.ones(3, 4, requires_grad=True)
    first = flopscan.count(lambda t: (t * 2).sum(), x, run=True, backward=True)
    again = flopscan.count(lambda t: (t * 2).sum(), x, run=True, backward=True)
    assert first.flops == again.flops
    assert x.grad is None
    z = torch.zeros(3)
    flopscan.count(lambda t: t.add_(1), z, run=True)
    assert torch.equal(z, torch.zeros(3))
