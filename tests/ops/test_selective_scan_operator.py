"""The selective scan in torch's machinery: checks, compilation, export, autocast, vmap, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flopscan.ops import selective_scan
from flopscan.ops.selective_scan import forms
from ops.scans import Case

CASE = Case(20, 4, b=2, d=8, g=2)


def tensors(case: Case = CASE, **more: Any) -> dict[str, Any]:
    return {**case.operands(), **more}


def scan(operands: dict[str, Any], **options: Any) -> Any:
    return selective_scan(**operands, delta_softplus=True, **options)


SHAPES = [
    ({"delta": torch.rand(2, 8, 19)}, "'delta' is (2, 8, 19), expected 'b d l'\n  where b=2, d=8, l=20 (from 'u'"),
    ({"u": torch.rand(8, 20)}, "operand 'u' is (8, 20), expected 'b d l'"),
    ({"A": torch.rand(7, 4)}, "axis d is 7 in 'A', and 8 there"),
    ({"B": torch.rand(2, 2, 4, 100)}, "operand 'B' is (2, 2, 4, 100), expected 'd n', 'b n l' or 'b g n l'"),
    ({"B": torch.rand(2, 2, 4, 100)}, "and n=4 (from 'A' (8, 4)): axis l is 100 in 'B', and 20 there"),
    ({"B": torch.rand(2, 3, 4, 20), "C": torch.rand(2, 4, 20)}, "axis g is 3 in 'B' (2, 3, 4, 20), and does not"),
    ({"C": torch.rand(2, 4, 4, 20)}, "axis g is 4 in 'C', and 2 there"),
    ({"D": torch.rand(8, 1)}, "operand 'D' is (8, 1), expected 'd'"),
    ({"initial_state": torch.rand(2, 8, 5)}, "expected 'b d n'"),
    ({"z": torch.rand(2, 8, 20, device="meta")}, "operand 'z' is on meta and 'u' on cpu"),
    ({"z": torch.rand(2, 8, 20).to_sparse()}, "operand 'z' is torch.sparse_coo, expected a strided tensor"),
]  # fmt: skip
DTYPES = [
    ({"delta": torch.ones(2, 8, 20, dtype=torch.int64)}, "operand 'delta' is int64, expected float32, as 'u'"),
    ({"u": torch.ones(2, 8, 20, dtype=torch.int32)}, "'u' is int32, expected float16, bfloat16, float32"),
    ({"B": torch.rand(2, 4, 20).half()}, "operand 'B' is float16, expected float32, as 'u'"),
    ({"A": torch.ones(8, 4, dtype=torch.int8)}, "operand 'A' is int8"),
    ({"B": torch.rand(8, 4, dtype=torch.complex64)}, "operand 'B' is complex64"),
    ({"D": [1.0]}, "operand 'D' is list, expected a tensor"),
    ({"initial_state": torch.rand(2, 8, 4, dtype=torch.complex64)}, "beside float32 in 'A'"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "text"), SHAPES)
def test_shapes_that_do_not_fit(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        scan(tensors(**wrong))


@pytest.mark.parametrize(("wrong", "text"), DTYPES)
def test_dtypes_that_do_not_fit(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, RuntimeError), match=re.escape(text) if "list" not in text else "D"):
        scan(tensors(**wrong))


def test_sizes_that_no_scan_has() -> None:
    with pytest.raises(ValueError, match=re.escape("axis n is 257 in 'A' (8, 257), expected from 1 to 256")):
        scan(Case(2, 257, d=8).operands())
    with pytest.raises(ValueError, match=re.escape("axis l is 0 in 'u' (1, 6, 0), expected at least 1")):
        scan(Case(0).operands())
    nothing = scan(Case(5, b=0).operands())
    assert nothing.shape == (0, 6, 5)


def test_complex_operands_that_do_not_fit() -> None:
    operands = Case(9, 3, B="d n", C="b n l", complex_A=True).operands()
    with pytest.raises(
        TypeError, match="operand 'B' is float32, expected complex64 or complex128, beside complex64 in 'A'"
    ):
        scan({**operands, "B": torch.rand(6, 3)})
    with pytest.raises(ValueError, match=re.escape("expected 'd n', 'b n 2l' or 'b g n 2l'")):
        scan({**operands, "C": torch.rand(1, 3, 9)})


def both(run: Any, operands: dict[str, Any]) -> list[Tensor]:
    """The output and the gradients of what is run."""
    own = {k: None if v is None else v.clone().requires_grad_() for k, v in operands.items()}
    out = run(own)
    return [out, *torch.autograd.grad(out.square().sum(), [v for v in own.values() if v is not None])]


@pytest.mark.parametrize("given", [("D", "delta_bias"), ("z", "initial_state")])
def test_compiled_whole(given: tuple[str, ...]) -> None:
    operands = tensors(Case(20, 4, b=2, d=8, g=2, given=given))
    torch._dynamo.reset()
    compiled = torch.compile(scan, backend="aot_eager", fullgraph=True)
    for one, other in zip(both(compiled, operands), both(scan, operands), strict=True):
        assert torch.equal(one, other)
    longer = tensors(Case(37, 4, b=2, d=8, g=2, given=given))  # with symbols for sizes
    assert torch.equal(compiled(longer), scan(longer))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(-torch.rand(8, 4))

    def forward(self, u: Tensor, B: Tensor) -> Any:
        return selective_scan(u, u, self.A, B, B, delta_softplus=True, return_last_state=True)


@pytest.mark.parametrize("strict", [True, False])
def test_exported(strict: bool) -> None:
    model, length = Model(), torch.export.Dim("length", min=2, max=4096)
    operands = torch.rand(2, 8, 20), torch.rand(2, 4, 20)
    program = torch.export.export(model, operands, dynamic_shapes=({2: length}, {2: length}), strict=strict)
    scans = [node for node in program.graph.nodes if node.target is torch.ops.flopscan.selective_scan.default]
    assert len(scans) == 1
    other = torch.rand(2, 8, 300), torch.rand(2, 4, 300)
    for one, right in zip(program.module()(*other), model(*other), strict=True):
        assert torch.equal(one, right)


@pytest.mark.parametrize("options", [{}, {"keep": True, "return_last_state": True}])
def test_the_rules_of_torch_library(options: dict[str, bool]) -> None:
    operands = tensors(Case(9, 3, d=4))
    if options:
        operands["A"].requires_grad_()
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    arguments = (*(operands[name] for name in names), True, operands["initial_state"])
    torch.library.opcheck(torch.ops.flopscan.selective_scan.default, arguments, options)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_fake_results_are_like_real_ones(device: str) -> None:
    operands = tensors()
    options = {"keep": True, "return_last_state": True, "dtype": torch.float64}
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")

    def run(own: dict[str, Any]) -> Any:
        args = (*(own[name] for name in names), True, own["initial_state"])
        return torch.ops.flopscan.selective_scan.default(*args, **options)

    real = run(operands)
    if device == "cpu":
        with FakeTensorMode() as mode:
            fake = run({k: mode.from_tensor(v) for k, v in operands.items()})
    else:
        fake = run({k: v.to("meta") for k, v in operands.items()})
    assert [(x.shape, x.dtype, x.stride()) for x in fake] == [(x.shape, x.dtype, x.stride()) for x in real]


def test_nothing_is_kept_without_a_gradient() -> None:
    operands = tensors()
    operands["u"].requires_grad_()
    out = scan(operands)
    assert out.requires_grad
    with torch.no_grad():
        assert not scan(operands).requires_grad
    with torch.inference_mode():
        assert torch.equal(scan(operands), out)


def test_autocast_takes_the_widest_of_the_streams() -> None:
    operands = tensors(dtype := Case(20, 4, b=2, d=8, g=2, dtype=torch.bfloat16))
    assert dtype.dtype is torch.bfloat16
    mixed = {**operands, "delta": operands["delta"].float()}
    with pytest.raises(TypeError, match="operand 'delta' is float32, expected bfloat16, as 'u'"):
        scan(mixed)
    with torch.autocast("cpu", torch.bfloat16):
        assert scan(mixed).dtype is torch.float32
        low = scan(operands)
    assert low.dtype is torch.bfloat16
    assert torch.equal(low, scan(operands))
    wide = {name: x.float() for name, x in operands.items()}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scan(mixed), scan(wide))
        out = scan({**mixed, "u": mixed["u"].requires_grad_()})
        out.sum().backward()
    assert mixed["u"].grad.dtype is torch.bfloat16


@pytest.mark.parametrize("B", ["d n", "b n l", "b g n l"])
@pytest.mark.parametrize("mapped", [("u", "delta"), ("u", "B", "A"), ("z", "C", "D", "initial_state", "delta_bias")])
def test_vmap_is_a_loop(mapped: tuple[str, ...], B: str) -> None:
    operands = tensors(Case(9, 3, b=2, d=4, g=2, B=B))
    many = {name: torch.stack([x, 0.5 * x, 0.1 * x]) if name in mapped else x for name, x in operands.items()}
    dims = {name: 0 if name in mapped else None for name in operands}
    found = torch.vmap(lambda own: scan(own, return_last_state=True), in_dims=(dims,))(many)
    each = [scan({n: x[i] if n in mapped else x for n, x in many.items()}, return_last_state=True) for i in range(3)]
    for one, right in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(right))


def loss(operands: dict[str, Any]) -> Tensor:
    out, state = scan(operands, return_last_state=True)
    return out.square().sum() + state.square().sum()


@pytest.mark.parametrize("B", ["d n", "b n l", "b g n l"])
def test_the_gradient_of_torch_func_is_that_of_autograd(B: str) -> None:
    operands = tensors(Case(9, 3, b=2, d=4, g=2, B=B))
    found = torch.func.grad(loss)(operands)
    for name, x in operands.items():
        own = {k: v.clone().requires_grad_(k == name) for k, v in operands.items()}
        assert torch.equal(found[name], *torch.autograd.grad(loss(own), own[name])), (name, x.shape)
    value, pull = torch.func.vjp(lambda u: scan({**operands, "u": u}), operands["u"])
    assert torch.equal(
        *pull(2 * value), torch.func.grad(lambda u: scan({**operands, "u": u}).square().sum())(operands["u"])
    )


@pytest.mark.parametrize("B", ["d n", "b n l", "b g n l"])
def test_the_gradient_of_each_sample(B: str) -> None:
    operands = tensors(Case(9, 3, b=3, d=4, g=2, B=B))
    shared = {"A", "D", "delta_bias", *(("B",) if B == "d n" else ())}
    dims = {name: None if name in shared else 0 for name in operands}
    samples = {name: x if name in shared else x.unsqueeze(1) for name, x in operands.items()}
    found = torch.vmap(torch.func.grad(loss), in_dims=(dims,))(samples)
    for i in range(3):
        alone = torch.func.grad(loss)({name: x if name in shared else x[i] for name, x in samples.items()})
        for name, x in alone.items():
            torch.testing.assert_close(found[name][i], x)


def test_many_gradients_of_one_scan() -> None:
    operands = tensors(Case(5, 3, b=1, d=2))
    out, pull = torch.func.vjp(lambda A: scan({**operands, "A": A}), operands["A"])
    many = torch.randn(3, *out.shape)
    (found,) = torch.vmap(pull)(many)
    torch.testing.assert_close(found, torch.stack([pull(each)[0] for each in many]))
    whole = torch.func.jacrev(lambda A: scan({**operands, "A": A}))(operands["A"])
    each = torch.eye(out.numel()).view(-1, *out.shape)
    torch.testing.assert_close(whole.flatten(0, 2), torch.stack([pull(one)[0] for one in each]))


def test_autograd_around_a_vmap_and_a_gradient_around_it() -> None:
    operands = tensors(Case(9, 3, b=2, d=4, g=2))
    A, twice = operands["A"].clone().requires_grad_(), torch.stack([operands["u"], 2 * operands["u"]])

    def both_of(A: Tensor) -> Tensor:
        return torch.vmap(lambda u: scan({**operands, "u": u, "A": A}))(twice).square().sum()

    right = torch.autograd.grad(sum(scan({**operands, "u": u, "A": A}).square().sum() for u in twice), A)[0]
    torch.testing.assert_close(torch.autograd.grad(both_of(A), A)[0], right)
    torch.testing.assert_close(torch.func.grad(both_of)(operands["A"]), right)


def test_what_torch_func_is_refused() -> None:
    operands = tensors()

    def of_u(u: Tensor) -> Tensor:
        return scan({**operands, "u": u}).square().sum()

    u = operands["u"]
    with pytest.raises(
        NotImplementedError, match=re.escape("no forward-mode derivative (torch.func.jvp, jacfwd): use")
    ):
        torch.func.jvp(of_u, (u,), (u,))
    with pytest.raises(NotImplementedError, match="selective_scan can be differentiated once: its gradient has no"):
        torch.func.grad(lambda u: torch.func.grad(of_u)(u).sum())(u)


@pytest.mark.parametrize("form", [name for name in ("cpu", "chunked") if forms.find(name)])
@pytest.mark.parametrize(
    "case", [Case(130, 16, d=80), Case(300, 1, b=2, d=40, g=2), Case(65, 4, d=33, B="d n")], ids=str
)
def test_the_same_on_any_number_of_threads_where_asked(case: Case, form: str) -> None:
    operands, before, found = tensors(case), torch.get_num_threads(), []
    torch.use_deterministic_algorithms(True)
    try:
        with forms.use(form):
            for count in (1, 2, 3, 7, 1):
                torch.set_num_threads(count)
                found.append(both(scan, operands))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


def test_differentiated_once_and_no_more() -> None:
    operands = tensors()
    u = operands["u"].requires_grad_()
    (grad,) = torch.autograd.grad(scan(operands).sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="selective_scan can be differentiated once: its gradient has no gradient"):
        grad.sum().backward()


def test_the_last_state_alone_has_a_gradient() -> None:
    operands = tensors()
    A = operands["A"].requires_grad_()
    _, state = scan(operands, return_last_state=True)
    (grad,) = torch.autograd.grad(state.sum(), A)
    assert grad.abs().sum() > 0


def test_asking_for_a_form() -> None:
    with pytest.raises(ValueError, match="the form 'other' of selective_scan cannot be used here"), forms.use("other"):
        pass
    with forms.use("chunked"):
        assert forms.choose(tuple(tensors().values()))[0] is forms.chunked
