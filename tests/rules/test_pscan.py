"""The element-wise scan: its rules against their tallies, and against what the packages run in torch."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import flopscan
from flopscan import rules
from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from proving import prove

SHAPES = [(2, 5, 3, 2), (1, 1, 2, 3), (3, 8, 1, 1), (2, 3, 5), (1, 4, 1)]


def scan(A: Tensor, X: Tensor) -> Tensor:
    axis = 1 if A.dim() == 4 else 2
    h, out = torch.zeros_like(X.select(axis, 0)), []
    for a, x in zip(A.unbind(axis), X.unbind(axis), strict=True):
        h = a * h + x
        out.append(h)
    return torch.stack(out, axis)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula_is_the_tally_of_the_recurrence(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(sum(shape))
    A, X, grad = (torch.randn(shape, dtype=dtype) for _ in range(3))
    A.requires_grad_(), X.requires_grad_()
    H = scan(A, X)
    slopes = torch.autograd.grad(H, (A, X), grad)
    A, X, H = A.detach(), X.detach(), H.detach()
    prove("flopscan::pscan", {"A": A, "X": X}, H)
    prove("flopscan::pscan_backward", {"grad": grad, "A": A, "X": X, "H": H}, slopes)


def test_complex_states_take_four_multiply_adds() -> None:
    x = TensorSpec((2, 3, 5), "complex64")
    for operands in ({"A": x, "X": x}, {"A": x, "X": TensorSpec((2, 3, 5))}):
        priced = price_call(Call("flopscan::pscan", operands, (x,)))
        assert priced.ideal is not None
        assert priced.ideal.arithmetic() == {"fma": 4 * 30}
    priced = price_call(Call("flopscan::pscan_backward", {"grad": x, "A": x, "X": x}, (x, x)))
    assert priced.ideal is not None
    assert priced.ideal.arithmetic() == {"fma": 4 * 30, "mul": 4 * 30, "add": 2 * 30}


def executed(length: int, algorithm: str, backward: bool = False) -> Cost:
    x = TensorSpec((1, length, 1, 1))
    grad = {"grad": x} if backward else {}
    op = "flopscan::pscan_backward" if backward else "flopscan::pscan"
    priced = price_call(Call(op, {**grad, "A": x, "X": x, "algorithm": algorithm}, (x,)))
    assert priced.executed is not None
    return priced.executed


@pytest.mark.parametrize(
    ("length", "forward", "backward"),
    [
        (1, (0, 0), (0, 0)),
        (2, (1, 1), (2, 2)),
        (4, (6, 4), (9, 7)),
        (5, (20, 11), (27, 18)),
        (100, (492, 247), (619, 374)),
    ],
)
def test_the_trees_of_mambapy(length: int, forward: tuple[int, int], backward: tuple[int, int]) -> None:
    """Products and sums of mambapy 1.2.0, counted where torch dispatched them."""
    assert executed(length, "mambapy").arithmetic() == {k: v for k, v in zip(("mul", "add"), forward, strict=True) if v}
    cost = executed(length, "mambapy", backward=True)
    assert (cost.mul, cost.add, cost.fma) == (*backward, 0)


def test_what_is_not_known_is_the_recurrence() -> None:
    assert executed(100, "scalar").arithmetic() == {"fma": 100}
    assert executed(100, "ref", backward=True).arithmetic() == {"fma": 100, "mul": 100}


class Counting(TorchDispatchMode):
    """The elements of every product and sum that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.tally: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name in ("mul", "add"):
            self.tally[name] += result.numel()
        return result


@pytest.mark.peers
@pytest.mark.parametrize("length", [2, 3, 4, 5, 8, 9, 31, 32, 100])
@pytest.mark.parametrize(("module", "algorithm"), [("mambapy.pscan", "mambapy"), ("accelerated_scan.ref", "ref")])
def test_executed_is_what_a_package_dispatches(length: int, module: str, algorithm: str) -> None:
    pytest.importorskip(module)
    package = importlib.import_module(module)
    A, X = (torch.rand(1, length, 1, 1) for _ in range(2))
    if algorithm == "mambapy":
        A.requires_grad_(), X.requires_grad_()
        with Counting() as seen:
            out = package.pscan(A, X)
    else:
        A, X = A[..., 0].transpose(1, 2), X[..., 0].transpose(1, 2)
        with Counting() as seen:
            package.scan(A, X)
    assert executed(length, algorithm).arithmetic() == seen.tally
    if algorithm == "mambapy":
        with Counting() as seen:
            out.backward(torch.rand_like(out))
        assert executed(length, algorithm, backward=True).arithmetic() == seen.tally


def in_mambapy(A: Tensor, X: Tensor) -> Tensor:
    from mambapy.pscan import pscan

    H: Tensor = pscan(A, X)
    assert H.stride() == ((48, 6, 2, 1) if A.shape[1] == 5 else X.stride())
    return H


def accelerated(A: Tensor, X: Tensor) -> Tensor:
    from accelerated_scan.ref import scan as tree
    from accelerated_scan.scalar import scan

    out: Tensor = scan(A, X) + tree(gates=A, tokens=X)
    return out


@pytest.mark.parametrize("length", [4, 5])
def test_mambapy_is_seen_with_its_strides(length: int) -> None:
    operands = [torch.empty(2, length, 3, 2, requires_grad=True) for _ in range(2)]
    report = flopscan.count(in_mambapy, *operands, backward=True, strict=True)
    operators = {name: row.cost.arithmetic() for name, row in report.by_operator().items() if "pscan" in name}
    states = 2 * length * 3 * 2
    assert operators == {"flopscan::pscan": {"fma": states}, "flopscan::pscan_backward": {"fma": states, "mul": states}}


def test_accelerated_scan_is_seen() -> None:
    operands = [torch.empty(2, 3, 8, requires_grad=True) for _ in range(2)]
    report = flopscan.count(accelerated, *operands, backward=True, strict=True)
    assert report.by_operator()["flopscan::pscan"].cost.fma == 2 * 2 * 3 * 8
    assert report.by_operator()["flopscan::pscan_backward"].calls == 2
    assert report.ledger.executed().mul >= 2 * 3 * (5 * 8 - 4)
    assert "accelerated_scan.warp:scan" in {seam.path for seam in rules.seams()}  # its import builds CUDA code


def of_complex_states(A: Tensor, X: Tensor) -> Tensor:
    from accelerated_scan.complex import scan

    out: Tensor = scan(A, X)
    assert out.is_complex()
    return out.abs()


def test_a_scan_of_complex_states_is_seen() -> None:
    A, X = torch.empty(2, 3, 8, dtype=torch.complex64, requires_grad=True), torch.empty(2, 3, 8, requires_grad=True)
    operators = flopscan.count(of_complex_states, A, X, backward=True, strict=True).by_operator()
    assert operators["flopscan::pscan"].cost.fma == 4 * 2 * 3 * 8
    assert operators["flopscan::pscan_backward"].cost.fma == 4 * 2 * 3 * 8


def test_another_ring_is_refused_in_words() -> None:
    from flopscan.rules.pscan import _accelerated

    with pytest.raises(ValueError, match="operations of its own has no formula"):
        _accelerated({"gates": TensorSpec((1,)), "tokens": TensorSpec((1,)), "mul": "matmul", "add": None})
