"""The kernels of the cross scan and the cross merge against plain torch, run on the CPU by g++."""

from __future__ import annotations

import ctypes

import pytest
import torch

from flopscan.ops.cross_selective_scan import composed, cuda, order
from flopscan.ops.gpu import nvrtc
from ops import emulation

pytestmark = pytest.mark.usefixtures("emulated")
IMAGES = [(2, 3, 4, 5), (1, 5, 7, 7), (1, 1, 1, 1), (2, 2, 1, 9), (1, 3, 56, 56), (1, 2, 70, 101), (1, 70, 5, 6)]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_scan_copies(image: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(image).to(dtype)
    assert torch.equal(cuda.cross_scan(x, x.dtype), order.cross_scan(x))
    assert torch.equal(cuda.cross_scan(x, torch.float32), order.cross_scan(x.float()))


@pytest.mark.parametrize("image", IMAGES)
def test_a_merge_adds_up_in_the_order_of_plain_torch(image: tuple[int, ...]) -> None:
    b, d, h, w = image
    y = torch.randn(b, 4, d, h * w)
    assert torch.equal(cuda.cross_merge(y, h, w, torch.float32), order.cross_merge(y, h, w))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_merge_of_16_bits_rounds_once(dtype: torch.dtype) -> None:
    y = torch.randn(1, 4, 3, 35)
    assert torch.equal(cuda.cross_merge(y, 5, 7, dtype), order.cross_merge(y, 5, 7).to(dtype))
    low = y.to(dtype)
    assert torch.equal(cuda.cross_merge(low, 5, 7, dtype), order.cross_merge(low.float(), 5, 7).to(dtype))


def test_an_image_with_its_channels_last() -> None:
    x = torch.randn(2, 9, 11, 5).permute(0, 3, 1, 2)
    assert torch.equal(cuda.cross_scan(x, x.dtype), order.cross_scan(x))


def test_a_nan_goes_where_it_stands() -> None:
    x = torch.zeros(1, 2, 3, 4)
    x[0, 1, 2, 3] = float("nan")
    y = cuda.cross_scan(x, x.dtype)
    assert torch.equal(y.isnan(), order.cross_scan(x).isnan())
    assert torch.equal(cuda.cross_merge(y, 3, 4, torch.float32).isnan(), x.isnan())


def test_a_tile_fits_into_shared_memory() -> None:
    for d, h, w in [(1, 1, 1), (768, 7, 7), (192, 56, 56), (64, 1, 6144), (64, 6144, 1), (8, 512, 512)]:
        rows, tile_h, tile_w = cuda.tile(d, h, w)
        assert 1 <= rows <= d
        assert 4 * rows * tile_h * (tile_w | 1) <= 48 * 1024


def test_the_three_steps_take_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def launch(source: str, options: tuple[str, ...], name: str, *rest: object) -> None:
        seen.append(name)
        emulation.launch(source, options, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(nvrtc, "launch", launch)
    torch.manual_seed(0)
    x, delta, A = torch.randn(1, 3, 4, 5), torch.rand(1, 4, 3, 20), -torch.rand(12, 2)
    B, D = torch.randn(1, 4, 2, 20), torch.randn(12)
    operands = (x, delta, A, B, B, D, None)
    options = {"delta_softplus": True, "keep": True, "out_dtype": torch.float32}
    out, saved = composed.forward(*operands, **options)
    grads = composed.backward(torch.ones_like(out), *operands, saved, delta_softplus=True, deterministic=True)
    assert seen == []  # of a CPU
    monkeypatch.setattr(cuda, "supports", lambda x: True)
    again, saved = composed.forward(*operands, **options)
    assert seen == ["cross_scan", "cross_merge"]
    others = composed.backward(torch.ones_like(out), *operands, saved, delta_softplus=True, deterministic=True)
    assert seen[2:] == ["cross_scan", "cross_scan", "cross_merge"]
    assert torch.equal(out, again)
    assert all(
        one is None if other is None else torch.equal(one, other) for one, other in zip(grads, others, strict=True)
    )


def test_the_parameter_is_that_of_the_source() -> None:
    library = emulation.compiled(cuda.source(), ("-DTX=float", "-DTY=float"), "cross_scan", "Cross")
    assert library.parameter_size() == ctypes.sizeof(cuda.Cross)
