"""The executed tier of flopscan's own kernels beside the forms that these take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.ops.cross_selective_scan import fused
from flopscan.ops.selective_scan import cuda
from flopscan.rules import cross_selective_scan_own as fused_own
from flopscan.rules import selective_scan_own as own


def test_forms_are_those_of_the_kernels() -> None:
    for n in range(2, cuda.MAX_STATES + 1):
        counted, taken = own.form(n), cuda.default_form(n, 512, backward=True)
        assert isinstance(taken, cuda.States)
        for name in ("lanes", "tile", "sub", "warps", "block"):
            assert getattr(counted, name) == getattr(taken, name)
        assert counted.each == taken.states
        forward = cuda.default_form(n, 512)
        assert isinstance(forward, cuda.States) and (forward.block, forward.tile) == (taken.block, taken.tile)


def test_walks_are_those_of_the_fused_kernels() -> None:
    for l in (1, 49, 196, 256, 257, 784, 1024, 1025, 3136, 4096, 4097, 7000, 12000):
        for backward in (False, True):
            for size, dtype in ((2, "bfloat16"), (4, "float32")):
                taken, counted = fused.default_walk(l, size, backward), fused_own.walk(l, backward)
                assert (taken.lanes, taken.warps, taken.block) == (*counted, counted.block)
                assert taken.span == fused_own.SPAN
                image = torch.empty((1, 1, 1, l), dtype=getattr(torch, dtype), device="meta")
                assert fused.fits(image, fused_own.ROOM) == fused_own.fits(l, 1, dtype)
    assert not fused_own.fits(49, 2, "float32") and not fused_own.fits(49, 1, "float64")


@pytest.mark.parametrize("name", ["cross_selective_scan", "cross_selective_scan_backward"])
def test_the_fused_kernel_is_counted_where_ours_is_named(name: str) -> None:
    image, steps = TensorSpec((2, 64, 14, 14)), TensorSpec((2, 4, 64, 196))
    matrix = TensorSpec((2, 4, 1, 196))
    named: dict[str, Any] = {"x": image, "delta": steps, "A": TensorSpec((256, 1)), "B": matrix, "C": matrix}
    named |= {"delta_softplus": True} | ({"grad": image} if "backward" in name else {})

    def executed(**more: Any) -> Cost | None:
        return price_call(Call(f"flopscan::{name}", {**named, **more}, (image,))).executed

    way = fused_own.backward if "backward" in name else fused_own.forward
    ours = executed(kernel="flopscan")
    assert ours is not None and ours.arithmetic() == way(2, 64, 196, "float32", True).arithmetic()
    several = {"A": TensorSpec((256, 2)), **{name: TensorSpec((2, 4, 2, 196)) for name in "BC"}}
    assert executed() != ours
    assert executed(**several, kernel="flopscan") != executed(**several)


@pytest.mark.parametrize("gated", [False, True])
def test_chunks_are_those_of_the_kernels(gated: bool) -> None:
    for n in (2, 16, 17, 64, 256):
        for l in (1, 64, 65, 196, 784, 1024, 2048, 3136, 65536):
            assert own.chunk(n, l, gated) == cuda.chunk_size(n, l, gated)


def test_the_public_kernel_is_counted_unless_ours_is_named() -> None:
    steps, states = TensorSpec((2, 64, 512)), TensorSpec((2, 1, 16, 512))
    named: dict[str, Any] = {"u": steps, "delta": steps, "A": TensorSpec((64, 16)), "B": states, "C": states}

    def executed(**more: str) -> Cost | None:
        return price_call(
            Call("flopscan::selective_scan", {**named, "delta_softplus": True, **more}, (steps,))
        ).executed

    ours = executed(kernel="flopscan")
    assert ours is not None and ours.exp == 2 * 64 * 512 * 17 and ours != executed()
