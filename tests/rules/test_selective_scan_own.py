"""The executed tier of flopscan's own kernels beside the forms that these take."""

from __future__ import annotations

from typing import Any

import pytest

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.ops.selective_scan import cuda
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
