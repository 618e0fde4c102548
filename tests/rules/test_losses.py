"""Losses: every reduction and weight, bytes of what is picked by label, sequences of labels; counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.testing import check_rule
from proving import prove

WITH_OPTIONS = (
    "mse_loss", "mse_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward", "huber_loss", "huber_loss_backward",
    "binary_cross_entropy", "binary_cross_entropy_backward", "binary_cross_entropy_with_logits", "nll_loss_forward",
    "nll_loss_backward", "nll_loss2d_forward", "nll_loss2d_backward", "multi_margin_loss", "multi_margin_loss_backward",
)  # fmt: skip
NONE, MEAN = 0, 1


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option(name: str) -> None:
    """The examples choose reductions, weights and thresholds at random: enough draws to meet them all."""
    for seed in range(6, 30):
        check_rule(f"aten::{name}", seed)


def _cost(op: str, out: TensorSpec, **operands: Any) -> Cost:
    found = price_call(Call(f"aten::{op}", operands, (out,)))
    assert found.ideal is not None, found.note
    return found.ideal


def test_mean_squared_error_by_hand() -> None:
    x, one = TensorSpec((3, 4)), TensorSpec(())
    assert _cost("mse_loss", one, self=x, target=x, reduction=MEAN).arithmetic() == {
        "add": 12 + 11,
        "mul": 12,
        "div": 1,
    }
    assert _cost("mse_loss", x, self=x, target=x, reduction=NONE).arithmetic() == {"add": 12, "mul": 12}
    # the incoming gradient times 2/n once, then (x - y) times that
    backward = _cost("mse_loss_backward", x, grad_output=one, self=x, target=x, reduction=MEAN)
    assert backward.arithmetic() == {"add": 12, "mul": 13}


def test_cross_entropy_reads_one_number_of_a_row_and_writes_a_gradient_for_all() -> None:
    x, labels, one = TensorSpec((6, 1000)), TensorSpec((6,), "int64"), TensorSpec(())
    forward = _cost("nll_loss_forward", one, self=x, target=labels, reduction=MEAN)
    assert forward.arithmetic() == {"add": 5, "div": 1}
    assert (forward.read, forward.written) == (6 * 4 + 6 * 8, 4)
    backward = _cost("nll_loss_backward", x, grad_output=one, self=x, target=labels, reduction=MEAN, total_weight=one)
    assert backward.arithmetic() == {"div": 1}
    assert (backward.read, backward.written) == (4 + 6 * 8 + 4, 24000)


@pytest.mark.parametrize("steps", [(1, 1), (4, 6), (6, 3)])
@pytest.mark.parametrize("labels", [(1, 1), (3, 0), (2, 3)])
def test_ctc(steps: tuple[int, int], labels: tuple[int, int]) -> None:
    """Against torch, also where a sequence is too short for its labels (an infinite loss), or has none."""
    torch.manual_seed(0)
    log_probs = torch.randn(6, 2, 5, dtype=torch.float64).log_softmax(-1)
    targets = torch.tensor([[1, 2, 3], [4, 1, 2]])
    operands = {
        "log_probs": log_probs,
        "targets": targets,
        "input_lengths": steps,
        "target_lengths": labels,
    }
    expected, _ = torch.ops.aten._ctc_loss(log_probs, targets, steps, labels)
    prove("aten::_ctc_loss", operands, (expected, None))


def test_ctc_by_hand() -> None:
    # one label, two steps: of 3 states the first keeps one predecessor, the others add up two (1 cmp, 4 add, 3 exp);
    # each adds the step's log-probability; at the end two states are added up
    probs, labels = TensorSpec((2, 1, 5)), TensorSpec((1, 1), "int64")
    lengths = {"input_lengths": (2,), "target_lengths": (1,)}
    found = price_call(Call("aten::_ctc_loss", {"log_probs": probs, "targets": labels, **lengths}, (TensorSpec((1,)),)))
    assert found.ideal is not None
    assert found.ideal.arithmetic() == {"add": 3 + 2 * 4 + 4, "exp": 2 * 3 + 3, "cmp": 2 + 1}
    # lengths that are values of tensors are taken to be as long as the shapes allow: alphas have 2l + 1 columns
    tensors = {name: TensorSpec((1,), "int64") for name in lengths}
    outputs = (TensorSpec((1,)), TensorSpec((1, 2, 3)))
    unknown = price_call(Call("aten::_ctc_loss", {"log_probs": probs, "targets": labels, **tensors}, outputs))
    assert unknown.ideal is not None and unknown.ideal.arithmetic() == found.ideal.arithmetic()
