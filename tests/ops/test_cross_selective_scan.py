"""The selective scan of an image in four directions: against float64, and in torch's machinery."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flopscan.ops import cross_selective_scan
from flopscan.ops.cross_selective_scan.order import cross_merge, cross_scan, each_in_order
from flopscan.ops.selective_scan import forms, reference
from ops.scans import TOLERANCE, distance

NAMES = ("x", "delta", "A", "B", "C", "D", "delta_bias")
OPERATOR = torch.ops.flopscan.cross_selective_scan.default
FORMS = [name for name in ("cpu", "chunked") if forms.find(name)]


def tensors(
    b: int = 2, d: int = 6, h: int = 4, w: int = 5, n: int = 3, dtype: torch.dtype = torch.float32,
    given: tuple[str, ...] = ("D", "delta_bias"), last: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Operands by name; with ``last`` the image's channels are next to each other in memory."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    own = torch.float64 if dtype == torch.float64 else torch.float32
    x = random(b, h, w, d).permute(0, 3, 1, 2) if last else random(b, d, h, w)
    found = {
        "x": x.to(dtype), "delta": (0.5 * random(b, 4, d, h * w) - 2).to(dtype),
        "A": -(0.3 * random(4 * d, n)).exp().to(own), "B": random(b, 4, n, h * w).to(dtype),
        "C": random(b, 4, n, h * w).to(dtype), "D": random(4 * d).to(own), "delta_bias": 0.1 * random(4 * d).to(own),
    }  # fmt: skip
    return {name: x if name in (*NAMES[:5], *given) else None for name, x in found.items()}


def scan(operands: dict[str, Any], **options: Any) -> Tensor:
    return cross_selective_scan(**operands, delta_softplus=True, **options)


def by_definition(operands: dict[str, Any], grad: Tensor, softplus: bool = True) -> dict[str, Tensor]:
    """The image and the gradients by name, in float64: the sequences, the definition of the scan, their sum."""
    own = {name: None if x is None else x.double() for name, x in operands.items()}
    h, w = own["x"].shape[2:]
    scanned = {
        "u": cross_scan(own["x"]).flatten(1, 2), "delta": own["delta"].flatten(1, 2),
        **{name: own[name] for name in NAMES[2:]},
    }  # fmt: skip
    y = reference.selective_scan(**scanned, delta_softplus=softplus)
    grads = reference.selective_scan_backward(
        cross_scan(grad.double()).flatten(1, 2), **scanned, delta_softplus=softplus
    )
    named = dict(zip(("x", "delta", "A", "B", "C", "D", "z", "delta_bias"), grads[:8], strict=True))
    named["x"] = cross_merge(named["x"].unflatten(1, (4, -1)), h, w)
    named["delta"] = named["delta"].view(own["delta"].shape)
    return {"out": cross_merge(y.unflatten(1, (4, -1)), h, w), **{k: x for k, x in named.items() if x is not None}}


def both(operands: dict[str, Any], grad: Tensor | None = None, run: Any = scan) -> dict[str, Tensor]:
    """The image and the gradients by name."""
    own = {name: None if x is None else x.clone().requires_grad_() for name, x in operands.items()}
    out = run(own)
    given = {name: x for name, x in own.items() if x is not None}
    grads = torch.autograd.grad(out, list(given.values()), torch.ones_like(out) if grad is None else grad)
    return {"out": out.detach(), **dict(zip(given, grads, strict=True))}


CASES = [
    {"b": 1, "d": 1, "h": 1, "w": 1, "n": 1}, {"h": 1, "w": 70}, {"h": 70, "w": 1}, {"d": 33, "h": 9, "w": 14, "n": 1},
    {"d": 48, "h": 16, "w": 24, "n": 16}, {"b": 1, "d": 20, "h": 7, "w": 7, "n": 60}, {"given": ()},
    {"d": 17, "h": 20, "w": 13, "last": True}, {"b": 1, "h": 30, "w": 31, "n": 256},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_near_to_the_definition_as_its_dtype_allows(case: dict[str, Any], dtype: torch.dtype, form: str) -> None:
    operands = tensors(**case, dtype=dtype)
    grad = torch.randn(operands["x"].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = by_definition(operands, grad)
    with forms.use(form):
        found = both(operands, grad)
    wrong = {k: e for k, x in found.items() if not (e := distance(x, exact[k])) <= TOLERANCE[dtype]}
    assert not wrong


def test_in_float64() -> None:
    operands = tensors(dtype=torch.float64)
    grad = torch.randn_like(operands["x"])
    exact = by_definition(operands, grad)
    assert all(distance(x, exact[name]) < 1e-12 for name, x in both(operands, grad).items())


def test_each_in_its_own_order() -> None:
    image = torch.rand(2, 3, 4, 5)
    same = image.flatten(2).unsqueeze(1).expand(-1, 4, -1, -1)
    assert torch.equal(each_in_order(same, 4, 5), cross_scan(image))
    each = torch.rand(2, 4, 3, 20)
    for k in range(4):
        alone = cross_scan(each[:, k].unflatten(-1, (4, 5)))[:, k]
        assert torch.equal(each_in_order(each, 4, 5)[:, k], alone)


SHAPES = [
    ({"x": torch.rand(2, 6, 20)}, "operand 'x' is (2, 6, 20), expected 'b d h w'"),
    ({"x": torch.rand(2, 6, 4, 4)}, "axis l is 20 in 'delta' (2, 4, 6, 20), expected h w, 4 times 4 in 'x' (2, 6, 4"),
    ({"delta": torch.rand(2, 3, 6, 20)}, "'delta' is (2, 3, 6, 20), expected 'b 4 d l'\n  where b=2, d=6"),
    ({"A": torch.rand(6, 3)}, "operand 'A' is (6, 3), expected '4d n'"),
    ({"B": torch.rand(2, 4, 2, 20)}, "axis n is 2 in 'B', and 3 there"),
    ({"C": torch.rand(2, 3, 20)}, "operand 'C' is (2, 3, 20), expected 'b 4 n l'"),
    ({"D": torch.rand(6)}, "axis 4d is 6 in 'D', and 24 there"),
    ({"delta_bias": torch.rand(24, device="meta")}, "operand 'delta_bias' is on meta and 'x' on cpu"),
]  # fmt: skip
DTYPES = [
    ({"x": torch.ones(2, 6, 4, 5, dtype=torch.int64)}, "operand 'x' is int64, expected float16, bfloat16, float32"),
    ({"delta": torch.rand(2, 4, 6, 20).half()}, "operand 'delta' is float16, expected float32, as 'x'"),
    ({"A": torch.rand(24, 3, dtype=torch.complex64)}, "operand 'A' is complex64, expected float16"),
    ({"D": torch.ones(24, dtype=torch.int32)}, "operand 'D' is int32"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "text"), SHAPES)
def test_shapes_that_do_not_fit(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        scan({**tensors(), **wrong})


@pytest.mark.parametrize(("wrong", "text"), DTYPES)
def test_dtypes_that_do_not_fit(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        scan({**tensors(), **wrong})


def test_sizes_that_no_scan_has() -> None:
    with pytest.raises(ValueError, match=re.escape("axis n is 257 in 'A' (24, 257), expected from 1 to 256")):
        scan(tensors(n=257))
    with pytest.raises(ValueError, match=re.escape("axis h is 0 in 'x' (2, 6, 0, 5), expected at least 1")):
        scan(tensors(h=0))
    assert scan(tensors(b=0)).shape == (0, 6, 4, 5)
    with pytest.raises(TypeError, match="the dtype of the output is int64"):
        scan(tensors(), dtype=torch.int64)


def test_a_nan_goes_where_the_directions_take_it() -> None:
    operands = tensors(b=1, d=2)
    operands["x"][0, 1, 2, 3] = float("nan")
    seen = scan(operands).isnan()
    assert seen[0, 1].all()
    assert not seen[0, 0].any()


@pytest.mark.parametrize("form", FORMS)
def test_the_output_in_another_dtype(form: str) -> None:
    operands = tensors(dtype=torch.bfloat16)
    with forms.use(form):
        wide = scan(operands, dtype=torch.float32)
        assert torch.equal(wide.bfloat16(), scan(operands))
    assert wide.dtype is torch.float32


def test_compiled_whole() -> None:
    operands = tensors()
    torch._dynamo.reset()
    compiled = torch.compile(scan, backend="aot_eager", fullgraph=True)
    for one, other in zip(both(operands, run=compiled).values(), both(operands).values(), strict=True):
        assert torch.equal(one, other)
    larger = tensors(h=7, w=9)  # with symbols for sizes
    assert torch.equal(compiled(larger), scan(larger))


def test_exported_with_any_height_and_width() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            delta = cross_scan(x)
            A = -torch.ones(4 * x.shape[1], 2)
            B = delta[:, :, :2]
            return cross_selective_scan(x, delta, A, B, B, delta_softplus=True)

    height, width = torch.export.Dim("height", min=2, max=64), torch.export.Dim("width", min=2, max=64)
    program = torch.export.export(Model(), (torch.rand(2, 6, 4, 5),), dynamic_shapes=({2: height, 3: width},))
    assert sum(node.target is OPERATOR for node in program.graph.nodes) == 1
    other = torch.rand(2, 6, 9, 7)
    assert torch.equal(program.module()(other), Model()(other))


@pytest.mark.parametrize("keep", [False, True])
def test_the_rules_of_torch_library(keep: bool) -> None:
    operands = tensors()
    if keep:
        operands["A"].requires_grad_()
    torch.library.opcheck(OPERATOR, (*operands.values(), True), {"keep": keep})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fake_results_are_like_real_ones(dtype: torch.dtype, form: str) -> None:
    operands = tensors(dtype=dtype, last=True)
    grad = torch.ones_like(operands["x"])

    def run(own: dict[str, Any], grad: Tensor) -> list[Tensor]:
        out, saved = OPERATOR(*own.values(), True, keep=True)
        backward = torch.ops.flopscan.cross_selective_scan_backward.default(grad, *own.values(), True, saved)
        return [out, saved, *backward]

    with forms.use(form):
        real = run(operands, grad)
        with FakeTensorMode() as mode:
            fake = run({name: mode.from_tensor(x) for name, x in operands.items()}, mode.from_tensor(grad))
    assert [(x.shape, x.dtype, x.stride()) for x in fake] == [(x.shape, x.dtype, x.stride()) for x in real]


def test_nothing_is_kept_without_a_gradient() -> None:
    operands = tensors()
    operands["x"].requires_grad_()
    out = scan(operands)
    assert out.requires_grad
    with torch.inference_mode():
        assert torch.equal(scan(operands), out)
    assert OPERATOR(*tensors().values(), True)[1].numel() == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 16, 100])
def test_what_is_kept_grows_with_steps_and_states_not_their_product(n: int, form: str) -> None:
    b, d, h, w = 1, 3, 40, 45
    with forms.use(form):
        kept = OPERATOR(*tensors(b, d, h, w, n).values(), True, keep=True)[1]
    assert 0 < kept.numel() <= 4 * b * d * (h * w + n)


def test_autocast_takes_the_widest_of_the_streams() -> None:
    operands = tensors(dtype=torch.bfloat16)
    mixed = {**operands, "delta": operands["delta"].float()}
    with pytest.raises(TypeError, match="operand 'delta' is float32, expected bfloat16, as 'x'"):
        scan(mixed)
    wide = {name: x.float() for name, x in operands.items()}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scan(mixed), scan(wide))
        assert scan(operands).dtype is torch.bfloat16
        scan({**mixed, "x": mixed["x"].requires_grad_()}).sum().backward()
    assert mixed["x"].grad.dtype is torch.bfloat16


@pytest.mark.parametrize("mapped", [("x",), ("delta", "B"), ("x", "A", "D"), NAMES])
def test_vmap_is_a_loop(mapped: tuple[str, ...]) -> None:
    operands = tensors()
    many = {name: torch.stack([x, 0.5 * x, 0.1 * x], -1) if name in mapped else x for name, x in operands.items()}
    dims = {name: -1 if name in mapped else None for name in operands}
    found = torch.vmap(scan, in_dims=(dims,))(many)
    each = [scan({name: x[..., i] if name in mapped else x for name, x in many.items()}) for i in range(3)]
    torch.testing.assert_close(found, torch.stack(each))


def test_the_gradient_of_each_sample() -> None:
    operands = tensors(b=3)
    dims = {name: 0 if name in ("x", "delta", "B", "C") else None for name in operands}

    def loss(own: dict[str, Tensor]) -> Tensor:
        return scan(own).square().sum()

    grad = torch.func.grad(loss)
    for name, x in grad(operands).items():
        own = {k: v.clone().requires_grad_(k == name) for k, v in operands.items()}
        assert torch.equal(x, *torch.autograd.grad(loss(own), own[name]))
    samples = {name: x.unsqueeze(1) if dims[name] == 0 else x for name, x in operands.items()}
    found = torch.vmap(grad, in_dims=(dims,))(samples)
    for i in range(3):
        alone = grad({name: x[i] if dims[name] == 0 else x for name, x in samples.items()})
        for name, x in alone.items():
            torch.testing.assert_close(found[name][i], x)


def test_differentiated_once_and_backwards() -> None:
    operands = tensors()
    x = operands["x"].requires_grad_()
    (grad,) = torch.autograd.grad(scan(operands).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cross_selective_scan can be differentiated once"):
        grad.sum().backward()
    with pytest.raises(NotImplementedError, match=re.escape("no forward-mode derivative (torch.func.jvp, jacfwd)")):
        torch.func.jvp(lambda x: scan({**tensors(), "x": x}), (x.detach(),), (x.detach(),))


@contextlib.contextmanager
def threads(count: int) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_on_any_number_of_threads_where_asked(form: str) -> None:
    operands = tensors(b=1, d=80, h=12, w=13)
    torch.use_deterministic_algorithms(True)
    try:
        with forms.use(form):
            found = []
            for count in (1, 2, 3, 7):
                with threads(count):
                    found.append(both(operands))
    finally:
        torch.use_deterministic_algorithms(False)
    for other in found[1:]:
        assert all(torch.equal(x, other[name]) for name, x in found[0].items())


@pytest.mark.skipif("cpu" not in FORMS, reason="Numba is not installed")
def test_the_image_does_not_depend_on_the_number_of_threads() -> None:
    operands = tensors(b=1, d=20, h=12, w=13)
    with threads(1):
        one = scan(operands)
    with threads(9):  # more than blocks: each direction is a piece of work
        assert torch.equal(scan(operands), one)
