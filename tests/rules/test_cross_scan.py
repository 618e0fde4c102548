"""The cross scan and cross merge: rules against their tallies, and the kernels as they are launched."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from proving import prove

SIZES = [(2, 3, 4, 5), (1, 1, 3, 3), (2, 2, 1, 4)]


def routes(x: Tensor, scans: int) -> list[Tensor]:
    """The four sequences of images of any leading axes."""
    rows, columns = x.flatten(-2), x.transpose(-1, -2).flatten(-2)
    if scans == 0:
        return [rows, columns, rows.flip(-1), columns.flip(-1)]
    return [rows, rows, *([rows, rows] if scans == 1 else [rows.flip(-1), rows.flip(-1)])]


def scan(x: Tensor, scans: int, one_by_one: bool) -> Tensor:
    images = x.unbind(1) if one_by_one else [x] * 4
    return torch.stack([routes(image, scans)[k] for k, image in enumerate(images)], 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scans", [0, 1, 2])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_the_formulas_are_the_tallies_of_the_definitions(
    size: tuple[int, int, int, int], scans: int, one_by_one: bool
) -> None:
    torch.manual_seed(scans)
    b, c, h, w = size
    how = {"scans": scans, "one_by_one": one_by_one}
    x = torch.randn(b, *(4,) * one_by_one, c, h, w, dtype=torch.float64, requires_grad=True)
    y = scan(x, scans, one_by_one)
    sequences = torch.randn_like(y)
    (image,) = torch.autograd.grad(y, x, sequences, create_graph=True)
    prove("flopscan::cross_scan", {"x": x.detach(), **how}, y.detach())
    prove("flopscan::cross_scan_backward", {"grad": sequences, "x": x.detach(), **how}, image.detach())
    folded = sequences.view(b, 4, c, h, w)
    prove("flopscan::cross_merge", {"y": folded, **how}, image.detach().flatten(-2))
    # a merge is linear: what it sends back is the scan of what it is given
    upstream = torch.randn_like(x).detach()
    back = scan(upstream, scans, one_by_one).view_as(folded)
    prove("flopscan::cross_merge_backward", {"grad": upstream.flatten(-2), "y": folded, **how}, back)


def test_the_merge_is_the_transpose_of_the_scan() -> None:
    x, y = torch.randn(1, 2, 3, 5, dtype=torch.float64, requires_grad=True), torch.randn(1, 4, 2, 15).double()
    (merged,) = torch.autograd.grad(scan(x, 0, False), x, y)
    assert torch.allclose((scan(x, 0, False) * y).sum(), (x * merged).sum())


def launch(name: str, x: tuple[int, ...], y: tuple[int, ...], dtype: str = "float32", **more: int) -> Call:
    tiles = {"BC": 1, "BH": 32, "BW": 32, "DC": 6, "DH": 7, "DW": 5, "NH": 1, "NW": 1}
    return Call(
        f"triton::{name}", {"x": TensorSpec(x, dtype), "y": TensorSpec(y, dtype), **more, **tiles, "grid": (1, 6, 2)}
    )


IMAGE, SEQUENCES, ELEMENTS = (2, 6, 7, 5), (2, 4, 6, 35), 2 * 6 * 7 * 5
TWO = (2, 2, 6, 35)
FLEX = {"x_layout": 0, "y_layout": 1, "onebyone": 0, "scans": 0}


@pytest.mark.parametrize(
    ("call", "added", "read", "written"),
    [
        (launch("triton_cross_scan_flex", IMAGE, SEQUENCES, operation=0, **FLEX), 0, 1, 4),
        (launch("triton_cross_scan_flex", IMAGE, SEQUENCES, operation=1, **FLEX), 3, 4, 1),
        (launch("triton_cross_scan_flex", IMAGE, SEQUENCES, "bfloat16", operation=1, **FLEX), 3, 2, 0.5),
        (launch("triton_cross_scan_flex", SEQUENCES, SEQUENCES, operation=1, **{**FLEX, "onebyone": 1}), 0, 4, 4),
        (launch("triton_cross_scan", IMAGE, SEQUENCES), 0, 1, 4),
        (launch("triton_cross_merge", IMAGE, SEQUENCES), 3, 4, 1),
        (launch("triton_cross_scan_1b1", SEQUENCES, SEQUENCES), 0, 4, 4),
        (launch("triton_cross_merge_1b1", SEQUENCES, SEQUENCES), 0, 4, 4),
        (launch("triton_cross_scan_flex_k2", IMAGE, TWO, operation=0, **FLEX), 0, 1, 2),
        (launch("triton_cross_scan_flex_k2", IMAGE, TWO, operation=1, **FLEX), 1, 2, 1),
        (launch("triton_local_scan", IMAGE, IMAGE), 0, 1, 1),
        (launch("triton_local_reverse", IMAGE, IMAGE), 0, 1, 1),
    ],
)
def test_kernels(call: Call, added: int, read: int, written: float) -> None:
    cost = price_call(call).ideal
    assert cost is not None
    assert cost.arithmetic() == ({"add": added * ELEMENTS} if added else {})
    assert (cost.read, cost.written) == (4 * read * ELEMENTS, 4 * written * ELEMENTS)


@pytest.mark.parametrize("y", [(2, 4, 6, 36), None])
def test_a_launch_that_does_not_fit_is_not_counted_and_says_why(y: Any) -> None:
    call = launch("triton_cross_scan_flex", IMAGE, y or SEQUENCES, operation=1, **FLEX)
    operands = {k: v for k, v in call.args.items() if k != "y" or y is not None}
    priced = price_call(Call(call.op, operands))
    assert priced.ideal is None
    assert "operand 'y' is" in priced.note


@pytest.mark.parametrize("more", [{}, {"operation": 2}])
def test_a_launch_that_may_merge_or_not_is_not_counted(more: dict[str, int]) -> None:
    priced = price_call(launch("triton_cross_scan_flex", IMAGE, SEQUENCES, **FLEX, **more))
    assert priced.ideal is None
    assert "operand 'operation' is" in priced.note and "expected 0 (scan) or 1 (merge)" in priced.note


# a kernel of that name and those parameters, launched as VMamba launches it
LAUNCHES = """
import torch, triton
import triton.language as tl

@triton.jit
def triton_cross_scan_flex(
    x, y, x_layout: tl.constexpr, y_layout: tl.constexpr, operation: tl.constexpr, onebyone: tl.constexpr,
    scans: tl.constexpr, BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, DC: tl.constexpr, DH: tl.constexpr,
    DW: tl.constexpr, NH: tl.constexpr, NW: tl.constexpr,
):
    tl.store(y, tl.load(x))

def merged(x):
    b, c, h, w = x.shape
    y = x.new_empty((b, 4, c, h * w))
    triton_cross_scan_flex[(1, c, b)](x, y, 0, 0, 0, 0, 0, 1, 32, 32, c, h, w, 1, 1)
    triton_cross_scan_flex[(1, c, b)](x, y, 0, 0, 1, 0, 0, 1, 32, 32, c, h, w, 1, 1)
    return x
"""


def test_launches_are_counted_where_they_are_made(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    file = tmp_path / "some_launches.py"
    file.write_text(LAUNCHES)
    spec = importlib.util.spec_from_file_location("some_launches", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = flopscan.count(module.merged, IMAGE, strict=True).by_operator()["triton::triton_cross_scan_flex"]
    assert (row.calls, row.cost.add) == (2, 3 * ELEMENTS)
    assert (row.cost.read, row.cost.written) == (4 * 5 * ELEMENTS, 4 * 5 * ELEMENTS)
