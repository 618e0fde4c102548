"""The selective scan of an image in four directions on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flopscan.models import vmamba
from flopscan.ops.cross_selective_scan import cuda, fused, order
from flopscan.ops.gpu import nvrtc
from flopscan.ops.selective_scan import forms
from ops.scans import TOLERANCE, distance
from ops.test_cross_selective_scan import both, by_definition, scan, tensors

pytestmark = [
    pytest.mark.gpu, pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]  # fmt: skip
CASES = [
    {"b": 1, "d": 1, "h": 1, "w": 1, "n": 1}, {"d": 33, "h": 9, "w": 14, "n": 1}, {"given": ()},
    {"d": 48, "h": 16, "w": 24, "n": 16}, {"d": 8, "h": 90, "w": 101, "n": 1},
    {"d": 17, "h": 20, "w": 13, "last": True},
    # one state: the fused form takes these, but for the last
    *({"d": d, "h": h, "w": w, "n": 1} for d, h, w in ((3, 1, 9), (3, 5, 1), (70, 7, 7), (37, 14, 14), (9, 28, 28))),
    {"b": 1, "d": 5, "h": 56, "w": 56, "n": 1}, {"d": 9, "h": 7, "w": 7, "n": 1, "given": ()},
    {"d": 17, "h": 20, "w": 13, "n": 1, "last": True}, {"b": 1, "d": 3, "h": 160, "w": 150, "n": 1},
]  # fmt: skip
STAGES = [(96, 56), (192, 28), (384, 14), (768, 7)]  # of VMamba-T: channels and side


def on_gpu(operands: dict[str, Any]) -> dict[str, Any]:
    return {name: None if x is None else x.cuda() for name, x in operands.items()}


@pytest.mark.parametrize("form", ["cuda", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_near_to_the_definition_as_its_dtype_allows(case: dict[str, Any], dtype: torch.dtype, form: str) -> None:
    operands = tensors(**case, dtype=dtype)
    grad = torch.randn(operands["x"].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = by_definition(operands, grad)
    with forms.use(form):
        found = both(on_gpu(operands), grad.cuda())
    wrong = {k: e for k, x in found.items() if not (e := distance(x.cpu(), exact[k])) <= TOLERANCE[dtype]}
    assert not wrong


def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are launched from now on."""
    seen: list[str] = []
    launch = nvrtc.launch

    def note(source: str, options: tuple[str, ...], name: str, *rest: Any) -> None:
        seen.append(name)
        launch(source, options, name, *rest)

    monkeypatch.setattr(nvrtc, "launch", note)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("d", "side"), STAGES)
def test_the_fused_form_is_taken_where_vmamba_needs_it(
    d: int, side: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    operands = on_gpu(tensors(b=2, d=d, h=side, w=side, n=1, dtype=dtype))
    grad = torch.randn_like(operands["x"])
    seen = launched(monkeypatch)
    found = both(operands, grad)
    assert seen == ["fused_forward", "fused_backward"]
    again = both(operands, grad)
    assert all(torch.equal(x, again[name]) for name, x in found.items())  # deterministic algorithms are asked for
    monkeypatch.setattr(fused, "supports", lambda *operands: False)
    expected = both(operands, grad)
    assert "cross_merge" in seen
    wrong = {k: e for k, x in found.items() if not (e := distance(x.float(), expected[k].float())) <= TOLERANCE[dtype]}
    assert not wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_in_any_order(dtype: torch.dtype) -> None:
    operands = tensors(d=96, h=28, w=28, n=1, dtype=dtype)
    grad = torch.randn(operands["x"].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = by_definition(operands, grad)
    torch.use_deterministic_algorithms(False)
    found = both(on_gpu(operands), grad.cuda())
    wrong = {k: e for k, x in found.items() if not (e := distance(x.cpu(), exact[k])) <= TOLERANCE[dtype]}
    assert not wrong


@pytest.mark.parametrize("image", [(2, 3, 7, 7), (2, 192, 56, 56), (1, 5, 200, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_two_kernels(image: tuple[int, ...], dtype: torch.dtype) -> None:
    b, d, h, w = image
    x, y = torch.randn(image, device="cuda").to(dtype), torch.randn(b, 4, d, h * w, device="cuda")
    assert torch.equal(cuda.cross_scan(x, dtype), order.cross_scan(x))
    assert torch.equal(cuda.cross_merge(y, h, w, dtype), order.cross_merge(y, h, w).to(dtype))


def test_compiled_whole() -> None:
    operands = on_gpu(tensors())
    compiled = torch.compile(scan, fullgraph=True)
    for one, other in zip(both(operands, run=compiled).values(), both(operands).values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
def test_vmamba_is_the_same_on_both_devices(name: str) -> None:
    torch.manual_seed(0)
    model, images = vmamba.build(name, dims=16, depths=(1, 2), num_classes=5).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        right = model(images)
        torch.testing.assert_close(model.cuda()(images.cuda()).cpu(), right, rtol=1e-4, atol=1e-4)
