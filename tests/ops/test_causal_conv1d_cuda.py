"""The kernels of the causal convolution against plain torch and the definition, run on the CPU by g++."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch._subclasses import FakeTensorMode

from flopscan.ops import causal_conv1d, causal_conv1d_update
from flopscan.ops.causal_conv1d import cuda, operator
from flopscan.ops.gpu import kernels, nvrtc
from ops import emulation
from ops.conv_cases import CONV_STEPS, CONVS, Conv, ConvStep, compare, compare_step

pytestmark = pytest.mark.usefixtures("emulated")


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_outputs_and_gradients(case: Conv) -> None:
    compare(case, "cpu", cuda.forward, cuda.backward, operator._compute, operator._compute_backward)


@pytest.mark.parametrize("case", CONV_STEPS, ids=str)
def test_decoding_steps(case: ConvStep) -> None:
    compare_step(case, "cpu", cuda.update)


def test_a_plan_serves_calls_alike() -> None:
    case = ConvStep(indices=torch.int32)
    plan = cuda.planned(**case.operands())
    compare_step(case, "cpu", lambda **own: cuda.update(**own, plan=plan))


@pytest.mark.parametrize("lanes", [4, 32])
@pytest.mark.parametrize("rounds", [1, 2])
def test_segments_add_up(rounds: int, lanes: int) -> None:
    for case in (Conv(296, d=3), Conv(200, d=70, order="channels last")):
        span = 8 if case.order == "rows" else 0
        form = cuda.Form(span, lanes=lanes if span else 1, rounds=rounds)

        def gradient(*args: object, form: cuda.Form = form, **named: object) -> object:
            return cuda.backward(*args, **named, form=form)

        compare(case, "cpu", cuda.forward, gradient, operator._compute, operator._compute_backward)


@pytest.mark.parametrize("order", ["rows", "channels last"])
def test_a_nan_goes_where_the_filter_takes_it(order: str) -> None:
    operands = Conv(80, order=order, given=()).operands()
    operands["x"][1, 2, 15] = float("nan")
    seen = cuda.forward(**operands).isnan().nonzero().tolist()
    assert seen == [[1, 2, i] for i in range(15, 19)]
    grad = torch.zeros(2, 5, 80)
    grad[0, 1, 70] = float("nan")
    operands = Conv(80, order=order, given=()).operands()
    found = cuda.backward(grad, **operands)
    assert found[0].isnan().nonzero().tolist() == [[0, 1, i] for i in range(67, 71)]
    assert found[1].isnan().any(-1).nonzero().tolist() == [[1]]


def test_the_operators_take_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = Conv().operands()
    right = causal_conv1d(**operands)
    seen = []
    monkeypatch.setattr(cuda, "supports", lambda *operands: True)
    monkeypatch.setattr(nvrtc, "launch", lambda *given: (seen.append(given[2]), emulation.launch(*given)))
    operands["x"].requires_grad_()
    out = causal_conv1d(**operands)
    torch.testing.assert_close(out, right)
    out.sum().backward()
    assert seen == ["conv_rows", "conv_tiles_backward", "conv_sums"]  # the gradient of a sum is expanded
    step = ConvStep().operands()
    like = {**step, "conv_state": step["conv_state"].clone()}
    expected = causal_conv1d_update(**like)
    monkeypatch.setattr(operator, "_is_whole", lambda *operands: True)
    del seen[:]
    version = step["conv_state"]._version
    torch.testing.assert_close(causal_conv1d_update(**step), expected)
    assert seen == ["conv_step"]
    assert torch.equal(step["conv_state"], like["conv_state"])
    assert step["conv_state"]._version > version


def test_a_step_as_an_operator_is_the_step() -> None:
    for case in (ConvStep(), ConvStep(9), ConvStep(indices=torch.int64)):
        compare_step(case, "cpu", torch.ops.flopscan.causal_conv1d_update.default)
    operands = ConvStep().operands()
    torch.library.opcheck(torch.ops.flopscan.causal_conv1d_update.default, tuple(operands.values()))
    assert not operator._is_whole(operands["x"])  # of a CPU


def test_a_step_as_an_operator_is_compiled_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    case = ConvStep(indices=torch.int64)
    monkeypatch.setattr(operator, "_is_whole", lambda *operands: True)
    torch._dynamo.reset()
    compare_step(case, "cpu", torch.compile(causal_conv1d_update, backend="aot_eager", fullgraph=True))


def test_a_counter_sees_the_convolution() -> None:
    with FakeTensorMode():
        x = torch.empty(2, 6, device="cuda")
        assert x.is_cuda and not operator._is_whole(x)


def test_tiles_fit_into_shared_memory() -> None:
    width = cuda.MAX_WIDTH
    assert 4 * 64 * (cuda._pitch(62 + 2 * width) + cuda._pitch(63 + width)) <= 48 * 1024


def test_the_parameters_are_those_of_the_sources() -> None:
    for files, name, of in (
        (("conv.cuh", "forward.cu"), "conv_rows", cuda.Conv),
        (("step.cu",), "conv_step", cuda.ConvStep),
    ):
        one = torch.float32
        options = kernels.macros(
            TX=one, TW=one, TB=one, TI=one, TS=one, WIDTH=4, SILU=True, SPAN=8, LANES=32, THREADS=256,
            X_ALONG=0, OUT_WHOLE=True, WHOLE=True, KEPT=4,
        )  # fmt: skip
        library = emulation.compiled(
            kernels.source(*(f"causal_conv1d/{name}" for name in files)), options, name, of.__name__
        )
        assert library.parameter_size() == ctypes.sizeof(of)
