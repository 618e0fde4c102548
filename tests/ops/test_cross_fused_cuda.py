"""The fused form of the cross selective scan against the definition in float64, its kernels run on the CPU by g++."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flopscan.ops import asked
from flopscan.ops.cross_selective_scan import composed, fused, operator
from flopscan.ops.cross_selective_scan.fused import Walk
from flopscan.ops.gpu import kernels, nvrtc
from flopscan.ops.selective_scan import forms
from ops.scans import TOLERANCE, distance
from ops.test_cross_selective_scan import NAMES, both, by_definition, tensors

pytestmark = pytest.mark.usefixtures("emulated")
ROOM = 227 * 1024  # of an H100


def upstream(operands: dict[str, Any], dtype: torch.dtype) -> Tensor:
    return torch.randn(operands["x"].shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def found(
    operands: dict[str, Any], grad: Tensor, softplus: bool = True, deterministic: bool = False, **options: Any
) -> Any:
    """The image and the gradients by name."""
    out, saved = fused.forward(*operands.values(), delta_softplus=softplus, keep=True, out_dtype=grad.dtype, **options)
    grads = fused.backward(
        grad, *operands.values(), saved, delta_softplus=softplus, deterministic=deterministic, **options
    )
    assert [x is None for x in grads] == [x is None for x in operands.values()]
    assert all(x is None or x.shape == operands[name].shape for name, x in zip(NAMES, grads, strict=True))
    return {"out": out, **{name: x for name, x in zip(NAMES, grads, strict=True) if x is not None}}


def passes(operands: dict[str, Any], tolerance: float = TOLERANCE[torch.float32], **options: Any) -> None:
    """Assert that the image and every gradient are right."""
    grad = upstream(operands, options.pop("out", operands["x"].dtype))
    exact = by_definition(operands, grad, options.get("softplus", True))
    seen = found(operands, grad, **options)
    assert seen["out"].dtype == grad.dtype
    assert not {name: e for name, x in seen.items() if not (e := distance(x, exact[name])) <= tolerance}


@pytest.mark.parametrize(
    "d, h, w", [(1, 1, 1), (3, 1, 9), (3, 5, 1), (9, 7, 7), (9, 14, 14), (3, 9, 14), (3, 28, 28), (2, 56, 56)]
)
def test_images(d: int, h: int, w: int) -> None:
    passes(tensors(b=1 if h * w > 500 else 2, d=d, h=h, w=w, n=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("h, w", [(7, 7), (14, 14), pytest.param(16, 20, marks=pytest.mark.slow)])
def test_sixteen_bits(h: int, w: int, dtype: torch.dtype) -> None:
    passes(tensors(d=5, h=h, w=w, n=1, dtype=dtype), TOLERANCE[dtype])


def test_each_operand_in_a_dtype_of_its_own() -> None:
    operands = tensors(d=3, h=7, w=6, n=1)
    for name, dtype in {"x": torch.bfloat16, "B": torch.float16, "C": torch.bfloat16}.items():
        operands[name] = operands[name].to(dtype)
    passes(operands, TOLERANCE[torch.bfloat16], out=torch.float16)
    passes(operands, TOLERANCE[torch.bfloat16], out=torch.float32)


@pytest.mark.parametrize("given", [(), ("D",), ("delta_bias",)])
def test_an_operand_is_absent(given: tuple[str, ...]) -> None:
    passes(tensors(d=9, h=7, w=7, n=1, given=given))


def test_without_softplus() -> None:
    operands = tensors(d=9, h=7, w=7, n=1)
    operands["delta"] = 0.2 * operands["delta"].abs()
    passes(operands, softplus=False)


SLOW = (Walk(32, 2), Walk(8, 8), Walk(8, 4, warps=2), Walk(4, 8, warps=4))


@pytest.mark.parametrize(
    "walk", [Walk(32, 8, warps=2), Walk(16, 4, warps=3), *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)]
)
def test_other_walks(walk: Walk) -> None:
    """A block with more channels than there are, and less; chunks of an even number and of an odd one."""
    passes(tensors(d=7, h=14, w=16, n=1), walk=walk)


def test_deterministic_sums() -> None:
    operands = tensors(d=19, h=7, w=7, n=1)
    passes(operands, deterministic=True)
    grad = upstream(operands, torch.float32)
    one, other = (found(operands, grad, deterministic=True) for _ in range(2))
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_images_in_other_strides() -> None:
    passes(tensors(d=5, h=6, w=8, n=1, last=True))
    apart = tensors(d=5, h=6, w=8, n=1)
    whole = tensors(d=6, h=7, w=10, n=1)["x"]
    apart["x"] = whole[:, 1:, :6, 1:9]
    passes(apart)


def test_the_gradient_of_a_sum() -> None:
    """All of its strides are zero."""
    operands = tensors(d=5, h=6, w=8, n=1)
    grad = torch.ones(()).expand(operands["x"].shape)
    exact, seen = by_definition(operands, grad), found(operands, grad)
    assert not {name: e for name, x in seen.items() if not (e := distance(x, exact[name])) <= TOLERANCE[torch.float32]}


def test_operands_in_other_strides() -> None:
    operands = tensors(d=5, h=7, w=8, n=1)
    for name in ("delta", "B"):
        operands[name] = operands[name].mT.contiguous().mT
    passes(operands)
    for name in ("delta", "B", "C"):
        operands[name] = torch.nn.functional.pad(operands[name], (1, 2))[..., 1:-2]
    passes(operands)


def test_nothing_is_kept_unless_asked() -> None:
    operands = tensors(d=3, h=7, w=7, n=1)
    options = {"delta_softplus": True, "out_dtype": torch.float32}
    out, saved = fused.forward(*operands.values(), keep=False, **options)
    again, kept = fused.forward(*operands.values(), keep=True, **options)
    assert torch.equal(out, again)
    assert saved.numel() == 0
    assert kept.shape == fused.saved_shape(2, 3, 49, 1)


def test_what_is_kept_is_small() -> None:
    for d, l in ((96, 3136), (192, 784), (384, 196), (768, 49)):
        b, k, chunks, channels = fused.saved_shape(64, d, l, 1)
        assert (b, k, channels) == (64, 4, d)
        assert 4 * chunks <= 2 * l / 8  # an eighth of delta in 16 bits at most


@pytest.mark.parametrize("direction", range(4))
def test_a_nan_goes_where_its_direction_takes_it(direction: int) -> None:
    operands = tensors(b=1, d=3, h=9, w=14, n=1)
    operands["delta"][0, direction, 1, 50] = float("nan")
    exact = by_definition(operands, torch.ones_like(operands["x"]))["out"].isnan()
    seen = found(operands, torch.ones_like(operands["x"]))["out"].isnan()
    assert torch.equal(seen, exact)
    assert seen.sum() == 9 * 14 - 50


def test_a_nan_of_the_image_goes_through_its_channel() -> None:
    operands = tensors(b=1, d=3, h=9, w=14, n=1)
    operands["x"][0, 1, 2, 3] = float("nan")
    seen = found(operands, torch.ones_like(operands["x"]))["out"].isnan()
    assert seen[0, 1].all()
    assert not seen[0, [0, 2]].any()


def test_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = tensors(d=5, h=7, w=7, n=1)
    with forms.use("chunked"):
        expected = both(operands)
        monkeypatch.setattr(fused, "supports", lambda *operands: True)
        seen = both(operands)
        again = both({**operands, "A": operands["A"].double(), "D": operands["D"].bfloat16()})
    assert not {name: e for name, x in seen.items() if not (e := distance(x, expected[name])) <= 1e-6}
    assert again["A"].dtype is torch.float64
    assert again["D"].dtype is torch.bfloat16


def test_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By shapes, dtypes and devices alone: of fake tensors."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(kernels, "_new_enough", kernels._new_enough.__wrapped__)  # nothing is remembered
    monkeypatch.setattr(fused, "_room", lambda device: ROOM)
    monkeypatch.setattr(nvrtc, "available", lambda: True)

    def form(d: int, h: int, w: int, n: int = 1, dtype: torch.dtype = torch.bfloat16, device: str = "cuda") -> Any:
        with FakeTensorMode():
            x, delta, B = (
                torch.empty(shape, dtype=dtype, device=device)
                for shape in ((64, d, h, w), (64, 4, d, h * w), (64, 4, n, h * w))
            )
            return operator._form((x, delta, torch.empty(4 * d, n), B, B, None, None))

    for d, side in ((96, 56), (192, 28), (384, 14), (768, 7)):
        assert form(d, side, side) is fused
        assert form(d, side, side, dtype=torch.float32) is fused
    assert form(96, 56, 56, n=2) is composed
    assert form(96, 56, 56, dtype=torch.float64) is composed
    assert form(96, 56, 56, device="xpu") is composed
    assert form(8, 200, 300) is composed
    monkeypatch.setattr(asked, "_form", "triton")
    assert form(96, 56, 56) is composed
    monkeypatch.setattr(asked, "_form", "cuda")
    assert form(96, 56, 56) is fused
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert form(96, 56, 56) is composed


def test_the_parameter_has_the_fields_of_the_source_in_order() -> None:
    text = re.search(r"struct Fused \{(.*?)\};", fused.source("fused_forward"), re.DOTALL)[1]
    declared = re.sub(r"\b(const|void|float|int|i64|Matrix|Grouped)\b|\*", "", re.sub(r"//.*", "", text))
    assert re.findall(r"\w+", declared) == [name for name, _ in fused.Fused._fields_]
