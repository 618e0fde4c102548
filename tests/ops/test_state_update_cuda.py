"""The kernel of the decoding step against plain torch and the definition, run on the CPU by g++."""

from __future__ import annotations

import ctypes

import pytest
import torch

from flopscan.ops import selective_state_update
from flopscan.ops.gpu import kernels, nvrtc
from flopscan.ops.selective_state_update import cuda
from ops import emulation
from ops.step_cases import STEPS, Step, compare

pytestmark = pytest.mark.usefixtures("emulated")


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_as_near_to_the_definition_as_plain_torch(case: Step) -> None:
    compare(case, "cpu", cuda.update)


@pytest.mark.parametrize("lanes", [1, 2, 4, 32])
def test_every_form(lanes: int) -> None:
    form = cuda.Form(lanes, chunks=2, threads=64)
    for case in (Step(b=5, n=19), Step(b=5, n=16, indices=torch.int32), Step(b=3, heads=2, d=3, n=40, groups=2)):
        compare(case, "cpu", lambda **own: cuda.update(**own, form=form))


def test_what_is_not_at_hand_stays() -> None:
    operands = Step(indices=torch.int64).operands()
    before = operands["state"].clone()
    cuda.update(**operands)
    others = [i for i in range(before.shape[0]) if i not in operands["state_batch_indices"]]
    assert torch.equal(operands["state"][others], before[others])


@pytest.mark.parametrize("n", [16, 5])
def test_a_nan_stays_in_its_row(n: int) -> None:
    for name in ("x", "state", "dt"):
        operands = Step(n=n).operands()
        operands[name][1, 2] = float("nan")
        assert cuda.update(**operands).isnan().nonzero().tolist() == [[1, 2]]
        assert operands["state"].isnan().any(-1).nonzero().tolist() == [[1, 2]]


def test_large_values_do_as_in_plain_torch() -> None:
    for name, value in (("x", float("inf")), ("z", -200.0), ("z", 200.0), ("dt", 200.0), ("dt", -200.0)):
        operands = Step(n=5).operands()
        operands[name].fill_(value)
        other = {**operands, "state": operands["state"].clone()}
        torch.testing.assert_close(cuda.update(**operands), selective_state_update(**other), equal_nan=True)
        torch.testing.assert_close(operands["state"], other["state"], equal_nan=True)


def test_the_operator_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = Step().operands()
    assert not cuda.supports(operands["state"])  # of a CPU
    other = {**operands, "state": operands["state"].clone()}
    monkeypatch.setattr(cuda, "supports", lambda *operands: True)
    seen = []
    monkeypatch.setattr(nvrtc, "launch", lambda *given: (seen.append(given[2]), emulation.launch(*given)))
    version = operands["state"]._version
    out = selective_state_update(**operands)
    assert seen == ["state_update"]
    assert operands["state"]._version > version
    monkeypatch.undo()
    torch.testing.assert_close(out, selective_state_update(**other))


def test_a_plan_serves_calls_alike() -> None:
    case = Step(b=3, indices=torch.int32)
    plan = cuda.planned(**case.operands())
    cuda.update(**case.operands(), plan=plan)
    compare(case, "cpu", lambda **own: cuda.update(**own, plan=plan))
    plans = kernels.Plans(most=2)
    for key in (1, 2, 3, None):
        plans.keep(key, plan)
    assert [plans.find(key) for key in (1, 2, 3, None)] == [None, None, plan, None]
    assert kernels.signature((torch.ones(2), None)) is None  # of a CPU


def test_a_form_covers_every_state() -> None:
    for states in (1, 2, 3, 16, 17, 64, 128, 255, 256, 1000):
        for size in (2, 4):
            form = cuda.default_form(states, size)
            assert form.lanes in (1, 2, 4, 8, 16, 32)
            assert states > 512 or form.lanes * form.chunks * 16 // size >= states


def test_the_parameter_is_that_of_the_source() -> None:
    one = torch.float32
    options = kernels.macros(
        TS=one, TX=one, TT=one, TA=one, TB=one, TC=one, TD=one, TK=one, TZ=one, LANES=4, VEC=4, CHUNKS=1, BATCHES=1,
        THREADS=128, TIED=False, WHOLE=True,
    )  # fmt: skip
    source = kernels.source("selective_state_update/step.cu")
    library = emulation.compiled(source, options, "state_update", "Step")
    assert library.parameter_size() == ctypes.sizeof(cuda.Step)
