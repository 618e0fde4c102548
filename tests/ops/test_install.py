"""install(): code written for packages that are not there runs on flopscan's operators; what is there stays."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flopscan import ops
from ops.scans import Case

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Any:
    before = dict(sys.modules)
    yield
    left = [name for name in sys.modules if name not in before and name.partition(".")[0] in ops.installing.PACKAGES]
    assert not left


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="mamba_ssm is installed")
def test_mamba_ssm() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("mamba_ssm")
    operands = Case(9, 3).operands()
    with ops.install() as installed:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        assert "mamba_ssm" in installed.packages
        args = [operands[name] for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]
        out, state = selective_scan_fn(*args, delta_softplus=True, return_last_state=True)
    right = ops.selective_scan(*args, delta_softplus=True, return_last_state=True)
    assert torch.equal(out, right[0])
    assert torch.equal(state, right[1])
    with pytest.raises(ImportError):
        importlib.import_module("mamba_ssm")


class Oflex(torch.autograd.Function):
    """As VMamba calls its kernel."""

    @staticmethod
    def forward(ctx: Any, *operands: Any) -> Any:
        kernel: Any = importlib.import_module("selective_scan_cuda_oflex")
        out, x, *_ = kernel.fwd(*operands, True, 1, True)
        ctx.save_for_backward(*operands, x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        kernel: Any = importlib.import_module("selective_scan_cuda_oflex")
        u, delta, A, B, C, D, bias, x = ctx.saved_tensors
        return tuple(kernel.bwd(u, delta, A, B, C, D, bias, grad.contiguous(), x, True, 1)[:7])


def test_the_kernel_of_vmamba() -> None:
    operands = Case(70, 1, d=8, g=4, given=("D", "delta_bias"), dtype=torch.float16).operands()
    own, other = ([operands[name].clone().requires_grad_() for name in NAMES] for _ in range(2))
    with ops.install("selective_scan_cuda_oflex"):
        out = Oflex.apply(*own)
        grads = torch.autograd.grad(out.sum(), own)
    u, delta, A, B, C, D, bias = other
    right = ops.selective_scan(u, delta, A, B, C, D, None, bias, True, dtype=torch.float32)
    assert out.dtype is torch.float32
    assert torch.equal(out, right)
    for one, expected in zip(grads, torch.autograd.grad(right.sum(), other), strict=True):
        torch.testing.assert_close(one, expected)
    assert "selective_scan_cuda_oflex" not in sys.modules


def test_what_is_installed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "selective_scan_cuda_oflex.py").write_text("def fwd(): return 'theirs'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs: Any = importlib.import_module("selective_scan_cuda_oflex")
    try:
        with ops.install() as installed:
            assert "selective_scan_cuda_oflex" not in installed.packages
            assert theirs.fwd() == "theirs"
        with ops.install("selective_scan_cuda_oflex", over=["selective_scan_cuda_oflex"]):
            assert theirs.fwd is not None and theirs.fwd.__module__.startswith("flopscan")
        assert theirs.fwd() == "theirs"
        assert not hasattr(theirs, "bwd")
    finally:
        del sys.modules["selective_scan_cuda_oflex"]


def test_a_package_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match=r"no functions for other; there are some for mamba_ssm, causal_conv1d"):
        ops.install("other")
