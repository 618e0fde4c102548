"""Fused optimizers against torch's own; lists of tensors against their plain operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.analysis import price_call
from proving import call_on, prove

STEP = 3


def _tensors(count: int) -> list[list[torch.Tensor]]:
    torch.manual_seed(0)
    return [[torch.rand(2, 3, dtype=torch.float64), torch.rand(4, dtype=torch.float64)] for _ in range(count)]


def _flat(*lists: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return tuple(t for tensors in lists for t in tensors)


@pytest.mark.parametrize("op", ["_fused_adam", "_fused_adamw"])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam(op: str, amsgrad: bool, weight_decay: float) -> None:
    p, g, m, v, x = _tensors(5)
    settings = {
        "lr": 0.1, "beta1": 0.9, "beta2": 0.95, "weight_decay": weight_decay, "eps": 1e-3, "amsgrad": amsgrad,
        "maximize": False,
    }  # fmt: skip
    operands = {"self": p, "grads": g, "exp_avgs": m, "exp_avg_sqs": v, "max_exp_avg_sqs": x if amsgrad else []}
    new = [[t.clone() for t in tensors] for tensors in (p, m, v, x)]
    steps = [torch.tensor(float(STEP)) for _ in p]
    getattr(torch.ops.aten, op + "_")(new[0], g, new[1], new[2], new[3] if amsgrad else [], steps, **settings)
    prove(f"aten::{op}", {**operands, **settings, "step": STEP}, _flat(*(new if amsgrad else new[:3])))


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
     {"momentum": 0.9, "dampening": 0.5},
     {"momentum": 0.9, "is_first_step": True}],
    ids=str,
)  # fmt: skip
def test_sgd(settings: dict[str, Any]) -> None:
    defaults = {"weight_decay": 0.0, "momentum": 0.0, "lr": 0.1, "dampening": 0.0, "nesterov": False}
    settings = {**defaults, "maximize": False, "is_first_step": False, **settings}
    p, g, buffers = _tensors(3)
    buffers = buffers if settings["momentum"] else []
    new = [[t.clone() for t in tensors] for tensors in (p, buffers)]
    torch.ops.aten._fused_sgd_(new[0], g, new[1], **settings)
    prove("aten::_fused_sgd", {"self": p, "grads": g, "momentum_buffer_list": buffers, **settings}, _flat(*new))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adagrad(weight_decay: float) -> None:
    p, g, sums = _tensors(3)
    settings = {"lr": 0.1, "weight_decay": weight_decay, "eps": 1e-3, "maximize": False}
    new = [[t.clone() for t in tensors] for tensors in (p, sums)]
    steps = [torch.tensor(1.0) for _ in p]
    torch.ops.aten._fused_adagrad_(new[0], g, new[1], steps, lr_decay=0.0, **settings)
    prove("aten::_fused_adagrad", {"self": p, "grads": g, "state_sums": sums, **settings}, _flat(*new))


def test_bytes_of_a_step() -> None:
    # 10 float64 elements: parameters, gradients and two moments are read, all but the gradients are written.
    p, g, m, v = _tensors(4)
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.0, "eps": 1e-3, "amsgrad": False}
    operands = {"self": p, "grads": g, "exp_avgs": m, "exp_avg_sqs": v, "max_exp_avg_sqs": [], **settings}
    cost = price_call(call_on("aten::_fused_adam_", operands, None)).ideal
    assert (cost.read, cost.written) == (4 * 80, 3 * 80)


@pytest.mark.parametrize(
    ("op", "rest", "each"),
    [
        ("_foreach_add_", {"other": "list", "alpha": 1}, {"add": 1}),
        ("_foreach_add_", {"other": "list", "alpha": 2}, {"add": 1, "mul": 1}),
        ("_foreach_mul_", {"scalar": 0.5}, {"mul": 1}),
        ("_foreach_mul", {"scalars": [0.5, 2.0]}, {"mul": 1}),
        ("_foreach_sqrt", {}, {"sqrt": 1}),
        ("_foreach_maximum_", {"other": "list"}, {"cmp": 1}),
        ("_foreach_clamp_min_", {"scalar": 1.0}, {"cmp": 1}),
        ("_foreach_lerp_", {"tensors1": "list", "weight": 0.5}, {"add": 2, "mul": 1}),
    ],
)
def test_lists_cost_what_their_tensors_cost(op: str, rest: dict[str, Any], each: dict[str, int]) -> None:
    # 6 + 4 elements.
    first, second = _tensors(2)
    operands = {"self": first, **{k: second if v == "list" else v for k, v in rest.items()}}
    priced = price_call(call_on(f"aten::{op}", operands, None))
    assert priced.ideal is not None, priced.note
    assert priced.ideal.arithmetic() == {kind: 10 * n for kind, n in each.items()}
    assert priced.ideal.written == 80
