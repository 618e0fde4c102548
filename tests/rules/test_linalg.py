"""Factorisations whose operands must be special, and what stays uncounted."""

from __future__ import annotations

import pytest
import torch

from flopscan import rules
from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules.linalg import householder, reflectors
from proving import call_on, prove


@pytest.mark.parametrize("n", [1, 2, 5])
def test_cholesky(n: int) -> None:
    torch.manual_seed(n)
    a = torch.rand(n, n, dtype=torch.float64)
    a = a @ a.T + n * torch.eye(n, dtype=torch.float64)
    prove("aten::linalg_cholesky_ex", {"self": a}, torch.linalg.cholesky(a))


def test_batches_and_right_sides() -> None:
    # 3 matrices of 4 by 4, 2 right sides each. LU: 3 + 2 + 1 divisions, 9 + 4 + 1 fma; a side: 6 + 6 fma, 4 divisions.
    a, b = torch.rand(3, 4, 4), torch.rand(3, 4, 2)
    cost = price_call(call_on("aten::_linalg_solve_ex", {"A": a, "B": b}, (b,))).ideal
    assert cost.arithmetic() == {"cmp": 18, "div": 18 + 24, "fma": 42 + 72}


def test_householder_counts_are_whole_and_lead_as_they_should() -> None:
    for m, n in ((1, 1), (5, 3), (3, 5), (400, 400)):
        assert all(isinstance(x, int) for x in (householder(m, n).fma, reflectors(max(m, n), n, min(m, n)).fma))
    # Golub and Van Loan: 2n^2(m - n/3) operations, two to a multiply-add
    assert householder(400, 400).fma == pytest.approx(400**2 * (400 - 400 / 3), rel=0.01)


def test_inverse_does_what_torch_does_when_executed() -> None:
    # ideal 1/3 + 2/3 n^3, executed 1/3 n^3 and n substitutions of n^2 fma
    spec = TensorSpec((300, 300))
    price = price_call(Call("aten::linalg_inv_ex", {"A": spec}, (spec, TensorSpec((), "int32"))))
    assert price.ideal.fma == pytest.approx(300**3, rel=0.01)
    assert price.executed.fma == pytest.approx(4 / 3 * 300**3, rel=0.01)


@pytest.mark.parametrize("op", ["aten::_linalg_svd", "aten::_linalg_eigh", "aten::linalg_matrix_exp"])
def test_iterations_are_left_uncounted_with_a_reason(op: str) -> None:
    spec = TensorSpec((4, 4))
    price = rules.find(op).price(Call(op, {"A": spec, "self": spec}, (spec,)))
    assert price.ideal is None and "no exact count" in price.note


def test_fourier_transforms_of_any_length() -> None:
    # real, 8 of them: 8 * 3 mul, 1.5 times as many add; 12 is no power of two: 12 * log2(12) = 43.02
    for n, mul in ((8, 24), (12, 43)):
        x = TensorSpec((n,))
        out = TensorSpec((n // 2 + 1,), "complex64")
        operands = {"self": x, "dim": (0,), "normalization": 0, "onesided": True}
        cost = price_call(Call("aten::_fft_r2c", operands, (out,))).ideal
        assert cost.arithmetic() == {"mul": mul, "add": round(1.5 * n * torch.tensor(float(n)).log2().item())}
