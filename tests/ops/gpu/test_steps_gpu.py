"""The decoding step and the causal convolution on a GPU: against plain torch, compiled, captured, on a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import flopscan
from flopscan.ops import causal_conv1d, causal_conv1d_update, selective_state_update
from flopscan.ops.causal_conv1d import cuda, operator
from flopscan.ops.gpu import nvrtc
from flopscan.ops.selective_scan import forms
from ops import conv_cases, step_cases
from ops.conv_cases import CONV_STEPS, CONVS, Conv, ConvStep
from ops.step_cases import LOW, STEPS, Step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
LARGE_STEPS = [
    Step(b=256, d=1536), Step(b=64, d=1537, n=17), Step(b=200, d=1536, **LOW), Step(b=70000, d=1, n=4),
    Step(b=64, heads=80, d=64, n=128, groups=1, tied=True, **LOW), Step(b=64, d=512, indices=torch.int64),
]  # fmt: skip
LARGE_CONVS = [
    Conv(2048, b=8, d=1536, dtype=torch.bfloat16, weights=torch.bfloat16),
    Conv(2048, b=8, d=100, order="channels last"),
    Conv(1999, b=3, d=129, dtype=torch.float16, order="half of channels last"), Conv(65536, b=1, d=33),
    Conv(4096, b=2, d=1536, order="channels last", dtype=torch.bfloat16),
]  # fmt: skip


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """Fresh memory full of NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def plainly(call: Callable[..., Any]) -> Callable[..., Any]:
    """``call`` in plain torch."""

    def run(*args: Any, **named: Any) -> Any:
        with forms.use("chunked"):
            return call(*args, **named)

    return run


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that run."""
    names: list[str] = []
    launch = nvrtc.launch
    monkeypatch.setattr(nvrtc, "launch", lambda *given: (names.append(given[2]), launch(*given)))
    return names


@pytest.mark.parametrize("case", STEPS + LARGE_STEPS, ids=str)
def test_states(case: Step, launched: list[str]) -> None:
    step_cases.compare(case, "cuda", selective_state_update, plainly(selective_state_update))
    assert launched == ["state_update"]


@pytest.mark.parametrize("case", CONVS + LARGE_CONVS, ids=str)
def test_convolutions(case: Conv, launched: list[str]) -> None:
    forward, backward = operator._compute, operator._compute_backward
    conv_cases.compare(case, "cuda", forward, backward, plainly(forward), plainly(backward))
    if case.w > 1 or "initial_states" not in case.given:
        assert len(launched) == 3


@pytest.mark.parametrize("case", [*CONV_STEPS, ConvStep(b=256, d=5120, **LOW)], ids=str)
def test_steps_of_convolutions(case: ConvStep, launched: list[str]) -> None:
    conv_cases.compare_step(case, "cuda", causal_conv1d_update, plainly(operator._update_in_steps))
    assert launched == ["conv_step"]


def test_a_second_call_is_as_the_first(launched: list[str]) -> None:
    for case in (Step(), Step(indices=torch.int64, **LOW), Step(scattered=True), Step(given=()), Step(softplus=False)):
        for _ in range(3):
            step_cases.compare(case, "cuda", selective_state_update, plainly(selective_state_update))
    for other in (ConvStep(), ConvStep(kept=3), ConvStep(indices=torch.int32), ConvStep(activation=None)):
        for _ in range(3):
            conv_cases.compare_step(other, "cuda", causal_conv1d_update, plainly(operator._update_in_steps))
    assert len(launched) == 27
    with pytest.raises(ValueError, match="operand 'A'"):
        selective_state_update(**{**Step().operands("cuda"), "A": torch.ones(5, 3, device="cuda")})


def test_through_autograd() -> None:
    operands = Conv(96).operands("cuda")
    own = {k: v.requires_grad_() if isinstance(v, Tensor) else v for k, v in operands.items()}
    given = [x for x in own.values() if isinstance(x, Tensor)]
    grad = torch.randn(2, 5, 96, device="cuda")
    found = torch.autograd.grad(causal_conv1d(**own), given, grad)
    with forms.use("chunked"):
        right = torch.autograd.grad(causal_conv1d(**own), given, grad)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_the_same_each_time() -> None:
    operands = Conv(2048, b=4, d=300).operands("cuda")
    grad = torch.randn(4, 300, 2048, device="cuda")
    first = cuda.backward(grad, **operands)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, cuda.backward(grad, **operands), strict=True))


def test_gradients_of_a_decoding_step(launched: list[str]) -> None:
    operands = ConvStep().operands("cuda")
    operands["weight"].requires_grad_()
    out = causal_conv1d_update(**operands)
    assert out.requires_grad
    assert "conv_step" not in launched


def test_a_counter_sees_the_convolution() -> None:
    report = flopscan.count(causal_conv1d_update, *list(ConvStep().operands("cuda").values())[:4])
    assert "flopscan::causal_conv1d" in report.by_operator()
    assert int(report.macs) == 3 * 37 * 4


def decode(conv_state: Tensor, state: Tensor, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """A decoding step of a layer: convolution, then scan."""
    u = causal_conv1d_update(x, conv_state, weights["filter"], weights["bias"], "silu")
    B, C = (u @ weights["B"], u @ weights["C"])
    return selective_state_update(state, u, u, weights["A"], B, C, weights["D"], x, weights["bias"], True)


def layer() -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """States, an input and weights."""
    torch.manual_seed(0)
    b, d, n = 4, 64, 16
    weights = {"filter": (d, 4), "bias": (d,), "A": (d, n), "B": (d, n), "C": (d, n), "D": (d,)}
    made = {name: torch.randn(shape, device="cuda") for name, shape in weights.items()}
    made["A"] = -made["A"].exp()
    return (
        torch.randn(b, d, 4, device="cuda"),
        torch.randn(b, d, n, device="cuda"),
        torch.randn(b, d, device="cuda"),
        made,
    )


def alike(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same with states of its own."""
    conv_state, state, *rest = operands
    return conv_state.clone(), state.clone(), *rest


def test_a_decoding_step_compiled_whole() -> None:
    own, other = alike(layer()), alike(layer())
    torch._dynamo.reset()
    compiled = torch.compile(decode, fullgraph=True)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(compiled(*own), decode(*other))
    torch.testing.assert_close(own[:2], other[:2])


def test_a_decoding_step_in_a_cuda_graph(launched: list[str]) -> None:
    given = layer()
    with torch.no_grad():
        warm = alike(given)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            decode(*warm)
        torch.cuda.current_stream().wait_stream(stream)
        own, other = alike(given), alike(given)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = decode(*own)
        assert launched[-2:] == ["conv_step", "state_update"]
        assert torch.equal(own[1], other[1])  # nothing has run yet
        for i in range(3):
            own[2].fill_(i)
            right = decode(other[0], other[1], torch.full_like(other[2], i), other[3])
            graph.replay()
            torch.testing.assert_close(out, right)
    torch.testing.assert_close(own[:2], other[:2])


def test_a_stream_of_its_own() -> None:
    given = layer()
    x = Conv(4096, b=4, d=256).operands("cuda")
    with torch.no_grad():
        right, whole = decode(*alike(given)), causal_conv1d(**x)
        own = alike(given)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            out, again = decode(*own), causal_conv1d(**x)
        stream.synchronize()
    assert torch.equal(out, right) and torch.equal(again, whole)
