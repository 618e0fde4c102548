"""The selective scan against a triple loop over plain numbers, its gradient against autograd, and the operators."""

from __future__ import annotations

import cmath
import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flopscan.ops import selective_scan as operator
from flopscan.ops.selective_scan.reference import selective_scan, selective_scan_backward

BATCH, CHANNELS, STATE, LENGTH, GROUPS = 2, 4, 3, 7, 2
FORMS = ("d n", "b n l", "b g n l")
OPTIONAL = ("D", "z", "delta_bias")
GIVEN = [(), ("D",), ("z",), ("delta_bias",), ("D", "z"), OPTIONAL]


def make(
    B: str, C: str, given: tuple[str, ...] = OPTIONAL, *, complex_A: bool = False, dtype: torch.dtype = torch.float64
) -> dict[str, Any]:
    """Random operands by name; ``B`` and ``C`` are the forms of B and C."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator)

    def coefficient(form: str) -> Tensor:
        if form == "d n":
            return random(CHANNELS, STATE, dtype=torch.complex128 if complex_A else dtype)
        last = 2 * LENGTH if complex_A else LENGTH
        return random(BATCH, STATE, last) if form == "b n l" else random(BATCH, GROUPS, STATE, last)

    A = -random(CHANNELS, STATE).exp()
    operands = {
        "u": random(BATCH, CHANNELS, LENGTH),
        "delta": random(BATCH, CHANNELS, LENGTH),
        "A": torch.complex(A, random(CHANNELS, STATE)) if complex_A else A,
        "B": coefficient(B),
        "C": coefficient(C),
        "D": random(CHANNELS),
        "z": random(BATCH, CHANNELS, LENGTH),
        "delta_bias": random(CHANNELS),
    }
    return {name: value if name in given or name not in OPTIONAL else None for name, value in operands.items()}


def scan_numbers(operands: dict[str, Any], softplus: bool) -> tuple[Tensor, Tensor]:
    """The output (b d l) and the last state (b d n), one Python number at a time."""
    u, delta, A, B, C, D, z, bias = (None if v is None else v.tolist() for v in operands.values())
    twice = 2 if operands["A"].is_complex() else 1

    def entry(matrix: list[Any], b: int, d: int, n: int, i: int) -> Any:
        if not isinstance(matrix[0][0], list):
            return matrix[d][n]
        rows = matrix[b] if not isinstance(matrix[0][0][0], list) else matrix[b][d // (CHANNELS // GROUPS)]
        return rows[n][i] if twice == 1 else complex(rows[n][2 * i], rows[n][2 * i + 1])

    out = torch.zeros(BATCH, CHANNELS, LENGTH, dtype=torch.float64)
    last = torch.zeros(BATCH, CHANNELS, STATE, dtype=torch.complex128)
    for b, d in product(range(BATCH), range(CHANNELS)):
        state = [0.0] * STATE
        for i in range(LENGTH):
            step = delta[b][d][i] + (bias[d] if bias else 0)
            step = math.log1p(math.exp(step)) if softplus else step
            y = 0.0
            for n in range(STATE):
                state[n] = cmath.exp(step * A[d][n]) * state[n] + step * u[b][d][i] * entry(B, b, d, n, i)
                y += twice * (entry(C, b, d, n, i) * state[n]).real
            y += D[d] * u[b][d][i] if D else 0
            out[b, d, i] = y * z[b][d][i] / (1 + math.exp(-z[b][d][i])) if z else y
        last[b, d] = torch.tensor(state, dtype=torch.complex128)
    return out, last if twice == 2 else last.real


@pytest.mark.parametrize("complex_A", [False, True])
@pytest.mark.parametrize("B", FORMS)
@pytest.mark.parametrize("C", FORMS)
def test_forward_of_every_form(B: str, C: str, complex_A: bool) -> None:
    operands = make(B, C, complex_A=complex_A)
    out, state = selective_scan(**operands, delta_softplus=True, return_last_state=True)
    expected, last = scan_numbers(operands, softplus=True)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator(**operands, delta_softplus=True), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_forward_with_optional_operands(given: tuple[str, ...], softplus: bool) -> None:
    operands = make("b n l", "b g n l", given)
    expected, _ = scan_numbers(operands, softplus)
    torch.testing.assert_close(selective_scan(**operands, delta_softplus=softplus), expected, rtol=1e-12, atol=1e-12)


def check_gradient(operands: dict[str, Any], softplus: bool) -> None:
    """Assert that the written gradient, and that of the operator, are autograd's through the forward loop."""
    operands = {name: None if value is None else value.requires_grad_() for name, value in operands.items()}
    given = [value for value in operands.values() if value is not None]
    out = selective_scan(**operands, delta_softplus=softplus)
    grad = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(out, given, grad)
    written = selective_scan_backward(grad, **operands, delta_softplus=softplus)
    assert [each is None for each in written] == [*(value is None for value in operands.values()), True]
    through_operator = torch.autograd.grad(operator(**operands, delta_softplus=softplus), given, grad)
    for right, one, other in zip(expected, [g for g in written if g is not None], through_operator, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("complex_A", [False, True])
@pytest.mark.parametrize("B", FORMS)
@pytest.mark.parametrize("C", FORMS)
def test_gradient_of_every_form(B: str, C: str, complex_A: bool) -> None:
    check_gradient(make(B, C, complex_A=complex_A), softplus=True)


@pytest.mark.parametrize("complex_A", [False, True])
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_gradient_with_optional_operands(given: tuple[str, ...], softplus: bool, complex_A: bool) -> None:
    check_gradient(make("b g n l", "b n l", given, complex_A=complex_A), softplus)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_the_float32_scan_rounded_once(dtype: torch.dtype) -> None:
    operands = make("b n l", "b n l", dtype=dtype)
    out = selective_scan(**operands, delta_softplus=True)
    exact = selective_scan(**{name: value.double() for name, value in operands.items()}, delta_softplus=True)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=torch.finfo(dtype).eps + 1e-5, atol=1e-5)


class Watch(TorchDispatchMode):
    """Remembers the name of every operator, and the most elements that one of its outputs has."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.append(func.name())
        self.largest = max(self.largest, out.numel() if isinstance(out, Tensor) else 0)
        return out


def test_forward_never_holds_a_state_for_every_position() -> None:
    b, d, n, length = 2, 8, 16, 32
    operands = [torch.rand(b, d, length), torch.rand(b, d, length), -torch.rand(d, n), *torch.rand(2, b, n, length)]
    with Watch() as watch:
        selective_scan(*operands)
    assert watch.largest == max(b * d * length, b * d * n, b * n * length)


def given_shapes(operands: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the nine gradients; there is no initial state."""
    return [*((0,) if value is None else tuple(value.shape) for value in operands.values()), (0,)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_dispatch_mode_sees_one_call_each_way(device: str) -> None:
    operands = make("b g n l", "b n l", ("D", "z"))
    operands = {name: None if v is None else v.to(device).requires_grad_() for name, v in operands.items()}
    with Watch() as watch:
        out = operator(**operands, delta_softplus=True)
        assert watch.names == ["flopscan::selective_scan"]
        out.backward(torch.ones_like(out))
    assert [name for name in watch.names if "selective_scan" in name] == [
        "flopscan::selective_scan",
        "flopscan::selective_scan_backward",
    ]
    for value in operands.values():
        assert value is None or (value.grad.shape == value.shape and value.grad.dtype == value.dtype)


def test_fake_tensors_have_the_shapes_of_real_ones() -> None:
    operands = make("b g n l", "d n", ("z",), dtype=torch.float32)
    real = operator(**operands)
    grads = torch.ops.flopscan.selective_scan_backward(real, *operands.values(), False)
    assert [tuple(each.shape) for each in grads] == given_shapes(operands)
    with FakeTensorMode() as mode:
        fakes = [None if value is None else mode.from_tensor(value) for value in operands.values()]
        fake = operator(*fakes)
        fake_grads = torch.ops.flopscan.selective_scan_backward(fake, *fakes, False)
    assert (fake.shape, fake.dtype, fake.device) == (real.shape, real.dtype, real.device)
    assert [(g.shape, g.dtype, g.device) for g in fake_grads] == [(g.shape, g.dtype, g.device) for g in grads]


@pytest.mark.parametrize("given", [(), OPTIONAL], ids=["least", "all"])
def test_operators_keep_the_rules_of_torch_library(given: tuple[str, ...]) -> None:
    operands = make("b g n l", "b n l", given)
    # channels last in memory: the outputs must lie the same way on every device all the same
    operands["u"] = operands["u"].transpose(1, 2).contiguous().transpose(1, 2)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (*operands.values(), True)
    torch.library.opcheck(torch.ops.flopscan.selective_scan.default, arguments, test_utils=checks)
    arguments = (torch.ones_like(operands["u"]), *arguments)
    torch.library.opcheck(torch.ops.flopscan.selective_scan_backward.default, arguments, test_utils=checks)


def test_the_gradient_has_no_gradient() -> None:
    operands = make("b n l", "b n l")
    u = operands["u"].requires_grad_()
    (grad,) = torch.autograd.grad(operator(**operands).sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once: its gradient has no gradient"):
        grad.sum().backward()


@pytest.mark.parametrize("complex_A", [False, True])
@pytest.mark.parametrize("kept", [False, True], ids=["output alone", "last state"])
def test_states_are_handed_on(kept: bool, complex_A: bool) -> None:
    """Two halves, the state of the first given to the second, are the whole, and so are the gradients."""
    operands = make("b g n l", "b n l", complex_A=complex_A)
    state = torch.randn(BATCH, CHANNELS, STATE, dtype=operands["A"].dtype, generator=torch.Generator().manual_seed(2))
    operands["initial_state"] = state
    given = [value.requires_grad_() for value in operands.values()]
    whole, last = selective_scan(**operands, delta_softplus=True, return_last_state=True)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(whole.shape, dtype=whole.dtype, generator=generator)
    grad_last = torch.randn(last.shape, dtype=last.dtype, generator=generator) if kept else None
    expected = torch.autograd.grad((whole, last) if kept else whole, given, (grad, grad_last) if kept else grad)
    written = selective_scan_backward(grad, **operands, delta_softplus=True, grad_last_state=grad_last)
    for one, right in zip(written, expected, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-12, atol=1e-12)

    def half(part: slice, start: Tensor) -> Any:
        pairs = slice(*(None if x is None else 2 * x for x in (part.start, part.stop))) if complex_A else part
        cut = {"u": part, "delta": part, "z": part, "B": pairs, "C": pairs}
        own = {name: x[..., cut[name]] if name in cut else x for name, x in operands.items()}
        return selective_scan(**own | {"initial_state": start}, delta_softplus=True, return_last_state=True)

    first, between = half(slice(None, 3), state)
    second, end = half(slice(3, None), between)
    torch.testing.assert_close(torch.cat((first, second), -1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=1e-12, atol=1e-12)


def test_gradcheck_of_the_definition() -> None:
    operands = make("b g n l", "b n l")
    operands["initial_state"] = torch.randn(BATCH, CHANNELS, STATE, dtype=torch.float64)
    names, values = list(operands), tuple(value.requires_grad_() for value in operands.values())

    def scan(*tensors: Tensor) -> Any:
        return selective_scan(**dict(zip(names, tensors, strict=True)), delta_softplus=True, return_last_state=True)

    assert torch.autograd.gradcheck(scan, values)
