"""Triton kernels are seen by name where they are launched, on a machine that cannot run them."""

from __future__ import annotations

from pathlib import Path

import pytest

import flopscan
from flopscan.api import trace_of

triton = pytest.importorskip("triton")

KERNELS = """
import torch, triton
import triton.language as tl

@triton.jit
def double_kernel(X, Y, n, BLOCK: tl.constexpr, FLAG: tl.constexpr = False):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, 2 * tl.load(X + at, mask=at < n), mask=at < n)

tuned = triton.autotune([triton.Config({"BLOCK": 64}), triton.Config({"BLOCK": 128})], key=["n"])(
    triton.heuristics({"FLAG": lambda args: args["n"] % 2 == 0})(double_kernel)
)

def plain(x):
    y = torch.empty_like(x)
    double_kernel[(triton.cdiv(x.numel(), 32),)](x, y, x.numel(), BLOCK=32)
    return y

def autotuned(x):
    y = torch.empty_like(x)
    tuned[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](x, y, x.numel())
    assert tuned.best_config.kwargs == {"BLOCK": 64}
    return y
"""


@pytest.fixture
def kernels(tmp_path: Path) -> str:
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    return str(tmp_path / "some_kernels.py")


@pytest.mark.parametrize(("name", "block", "flag"), [("plain", 32, False), ("autotuned", 64, True)])
def test_a_launch_without_a_rule_is_uncounted_by_its_name(kernels: str, name: str, block: int, flag: bool) -> None:
    runs = [(cls, cls.run) for cls in (triton.runtime.JITFunction, triton.runtime.Autotuner)]
    trace = trace_of(_function(kernels, name), (6, 10))
    (call,) = [c for c in trace.calls if c.op.startswith("triton::")]
    assert call.op == "triton::double_kernel"
    assert call.args["grid"] == (-(-60 // block),)
    assert (call.args["BLOCK"], call.args["FLAG"], call.args["n"]) == (block, flag, 60)
    assert call.args["X"].shape == (6, 10)
    report = flopscan.count(_function(kernels, name), (6, 10))
    assert [(u.op, u.count, u.reason) for u in report.uncounted] == [
        ("triton::double_kernel", 1, "no rule for this operator")
    ]
    assert [(cls, cls.run) for cls, _ in runs] == runs


def _function(file: str, name: str) -> object:
    import importlib.util

    spec = importlib.util.spec_from_file_location("some_kernels", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
