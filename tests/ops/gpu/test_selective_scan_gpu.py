"""The GPU forms of the selective scan on a GPU, over the cases of benchmarks/scan_cases.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.ops.selective_scan import cuda
from scan_cases import check, checks, operands

pytestmark = [
    pytest.mark.gpu, pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]  # fmt: skip


@pytest.mark.parametrize("module", ["cuda", "triton"])
@pytest.mark.parametrize("number", range(len(checks("cuda"))))
def test_outputs_and_gradients(module: str, number: int) -> None:
    found = check(checks(module)[number], "cuda")
    assert found["passed"], found["errors"]


def test_deterministic_gradients_are_the_same_each_time() -> None:
    x = operands((4, 512, 1000, 16, 2), "float32", {"z", "D"})
    out, _, saved = cuda.forward(*x.values(), delta_softplus=True, keep=True, out_dtype=torch.float32)
    grad = torch.randn_like(out)

    def gradients() -> list[Any]:
        return [
            g
            for g in cuda.backward(grad, None, *x.values(), saved, delta_softplus=True, deterministic=True)
            if g is not None
        ]

    first = gradients()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, gradients(), strict=True))


def test_a_stream_of_its_own() -> None:
    x = operands((2, 64, 1000, 16, 1), "float32", {"z"})
    expected = cuda.forward(*x.values(), delta_softplus=True, keep=False, out_dtype=torch.float32)[0]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        out = cuda.forward(*x.values(), delta_softplus=True, keep=False, out_dtype=torch.float32)[0]
    stream.synchronize()
    assert torch.equal(out, expected)
