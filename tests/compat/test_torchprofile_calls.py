"""A script for torchprofile with flopscan's call: by hand without it, and beside it where it is installed."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from compat.nets_of_scripts import CASES, Small, made, state
from flopscan.compat.torchprofile import profile_macs
from flopscan.errors import CaptureError


def test_a_script() -> None:
    model, x = made("small")
    before = state(model)
    macs = profile_macs(model, x)
    assert macs == 15552 + 576 + 16 + 160  # a norm and a mean count one an output
    assert type(macs) is int
    assert profile_macs(model, (x,), reduction=max) == 15552
    assert state(model) == before


def test_by_operator() -> None:
    model, x = made("small")
    nodes = profile_macs(model, x, reduction=None)
    assert [(str(node), macs) for node, macs in nodes.items()] == [
        ("aten::_convolution (2x3x8x8, 8x3x3x3, 8 -> 2x8x6x6) in body.0", 15552),
        ("aten::batch_norm (2x8x6x6, 8, 8, 8, 8 -> 2x8x6x6, 0, 0) in body.1", 576),
        ("aten::mean (2x8x6x6 -> 2x8) in the model", 16),
        ("aten::linear (2x8, 10x8 -> 2x10) in head.fc.0", 160),
    ]
    assert sum(profile_macs(nn.Sequential(*[nn.Linear(4, 4)] * 3), torch.rand(2, 4), reduction=None).values()) == 96


def test_arguments_by_name() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, *, b: Tensor) -> Tensor:
            return a @ b

    assert profile_macs(Two(), torch.rand(2, 3), {"b": torch.rand(3, 4)}) == 24


def test_an_error_leaves_the_model_alone() -> None:
    model = Small()
    before = state(model)
    with pytest.raises(CaptureError):
        profile_macs(model, torch.rand(2, 4, 8, 8))
    assert state(model) == before


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_as_torchprofile(name: str) -> None:
    theirs = pytest.importorskip("torchprofile")
    model, x = made(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.profile_macs(model, x)
        nodes = theirs.profile_macs(model, x, reduction=None)
    sizes = sum(macs for node, macs in nodes.items() if node.operator == "aten::mul" and macs == 1)  # in Python
    assert (sizes > 0) == (name == "attention")
    assert profile_macs(model, x) == expected - sizes
    ours = profile_macs(model, x, reduction=None)
    assert sorted(ours.values()) == sorted(macs for macs in nodes.values() if macs > 1)
