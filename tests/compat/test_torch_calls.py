"""Scripts for torch's FlopCounterMode with flopscan's, and torch's own with flopscan's formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import flop_counter

from compat.nets_of_scripts import CASES, Small, made, state
from flopscan import ops
from flopscan.compat.torch import FlopCounterMode, install, register_flop_formula
from flopscan.errors import UsageError
from flopscan.ops.selective_scan import selective_scan

aten = torch.ops.aten
CONVOLUTION, CLASSIFIER = 2 * 15552, 2 * 160


def test_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = made("small")
    before = state(model)
    with FlopCounterMode(depth=1) as counter:
        model(x).sum().backward()
    assert counter.get_total_flops() == 2 * CONVOLUTION + 3 * CLASSIFIER
    counts = counter.get_flop_counts()
    assert counts["Small.body"] == {aten.convolution: CONVOLUTION, aten.convolution_backward: CONVOLUTION}
    assert counts["Small.head.fc.0"] == counter.flop_counts["Small.head.fc"] == {aten.mm: 3 * CLASSIFIER}
    assert set(counts) == {"Global", "Small", "Small.body", "Small.body.0", "Small.head.fc", "Small.head.fc.0"}
    assert capsys.readouterr().out == (
        "Module                           FLOP    % Total\n"
        "----------------------------  -------  ---------\n"
        "Small                         63.168K    100.00%\n"
        " - aten.convolution           31.104K     49.24%\n"
        " - aten.mm                     0.960K      1.52%\n"
        " - aten.convolution_backward  31.104K     49.24%\n"
    )
    assert state(model) == before


def test_counts_are_there_while_it_runs_and_begin_anew() -> None:
    with FlopCounterMode(display=False) as counter:
        torch.rand(2, 3) @ torch.rand(3, 4)
        assert counter.get_total_flops() == 48
        torch.rand(2, 3) @ torch.rand(3, 4)
        assert counter.get_total_flops() == 96
    assert counter.flop_counts == {"Global": {aten.mm: 96}}
    with counter:
        pass
    assert counter.get_total_flops() == 0
    assert counter.get_table().splitlines()[-1].split() == ["Global", "0", "0%"]


def test_work_outside_of_modules_is_global() -> None:
    with FlopCounterMode(display=False) as counter:
        nn.Linear(3, 4)(torch.rand(2, 3)) @ torch.rand(4, 1)
    rows = [line.split() for line in counter.get_table().splitlines()[2:]]
    assert rows == [
        ["Global", "64", "100.00%"], ["-", "aten.addmm", "48", "75.00%"], ["-", "aten.mm", "16", "25.00%"],
        ["Linear", "48", "75.00%"], ["-", "aten.addmm", "48", "75.00%"],
    ]  # fmt: skip


def test_formulas_of_shapes() -> None:
    seen: list[Any] = []

    def gelu(x: torch.Size, *args: Any, out_shape: torch.Size, **kwargs: Any) -> int:
        seen.append((x, args, out_shape, kwargs))
        return 8 * out_shape.numel()

    def addmm(a: torch.Size, b: torch.Size, c: torch.Size, *, out_shape: torch.Size) -> int:
        return 1

    with FlopCounterMode(display=False, custom_mapping={aten.gelu: gelu, aten.addmm: addmm}) as counter:
        F.gelu(nn.Linear(3, 4)(torch.rand(2, 3)))
        F.gelu(torch.rand(5), approximate="tanh")
    assert counter.flop_counts["Global"] == {aten.addmm: 1, aten.gelu: 64 + 40}
    assert seen[:2] == [((2, 4), (), (2, 4), {}), ((5,), (), (5,), {"approximate": "tanh"})]


def test_a_formula_of_tensors() -> None:
    def relu(x: torch.Tensor, out_val: torch.Tensor) -> int:
        return x.element_size() * out_val.numel()

    relu._get_raw = True  # type: ignore[attr-defined]
    with FlopCounterMode(display=False, custom_mapping={aten.relu: relu}) as counter:
        torch.relu(torch.rand(5, dtype=torch.float64))
    assert counter.get_total_flops() == 40


def test_formulas_that_are_registered_with_torch_count_too() -> None:
    try:
        register_flop_formula(aten.tanh)(lambda x, out_shape, **kwargs: 11 * x.numel())
        with FlopCounterMode(display=False) as counter:
            torch.tanh(torch.rand(2, 3))
        assert counter.flop_counts["Global"] == {aten.tanh: 66}
    finally:
        del flop_counter.flop_registry[aten.tanh]


def test_a_formula_of_the_kernel_of_attention() -> None:
    def attention(query: torch.Size, key: torch.Size, value: torch.Size, out_shape: Any) -> int:
        assert out_shape[0] == query
        return 5

    kernel = aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: attention}) as counter:
        F.scaled_dot_product_attention(*torch.rand(3, 1, 2, 4, 8))
        F.scaled_dot_product_attention(*torch.rand(3, 2, 1, 2, 4, 8))  # five axes: no kernel
    assert counter.flop_counts["Global"] == {kernel: 5, aten.bmm: 2 * 2 * 2 * 2 * 4 * 4 * 8}


def test_kernels_that_torch_does_not_see() -> None:
    """A scan counts as its slow path does: a product for the read-out of more than one state."""
    u, A, B = torch.rand(1, 4, 9), torch.rand(4, 3), torch.rand(1, 3, 9)
    with FlopCounterMode(display=False) as counter:
        selective_scan(u, u, A, B, B)
    assert counter.get_total_flops() == 2 * 4 * 9 * 3


def test_wrong_use_is_said() -> None:
    with pytest.raises(UsageError, match=r"an operator such as torch.ops.aten.gelu"):
        FlopCounterMode(custom_mapping={"gelu": lambda: 1})
    with pytest.warns(UserWarning, match="mods is not needed"):
        FlopCounterMode(Small(), display=False)
    counter = FlopCounterMode(display=False)
    with counter, pytest.raises(UsageError, match="already counting"):
        counter.__enter__()


def test_an_error_leaves_nothing_behind() -> None:
    call = nn.Module.__call__
    with pytest.raises(ZeroDivisionError), FlopCounterMode(display=False) as counter:
        torch.rand(2, 3) @ torch.rand(3, 4)
        raise ZeroDivisionError
    assert counter.get_total_flops() == 48
    assert nn.Module.__call__ is call


def theirs(run: Any) -> flop_counter.FlopCounterMode:
    with flop_counter.FlopCounterMode(display=False) as counter:
        run()
    return counter


def test_torchs_own_counter_with_formulas() -> None:
    before = dict(flop_counter.flop_registry)
    vector, matrix = torch.rand(4), torch.rand(3, 4)
    u, A, B = torch.rand(1, 4, 9), torch.rand(4, 3), torch.rand(1, 3, 9)
    with install() as formulas:
        assert "flopscan::selective_scan" in formulas.names
        assert theirs(lambda: torch.dot(vector, vector)).get_total_flops() == 8
        assert theirs(lambda: torch.mv(matrix, vector)).get_total_flops() == 24
        assert theirs(lambda: F.scaled_dot_product_attention(*torch.rand(3, 1, 2, 4, 8))).get_total_flops() > 0
        scan = theirs(lambda: selective_scan(u, u, A, B, B)).get_flop_counts()["Global"]
        assert scan[torch.ops.flopscan.selective_scan] > 0
        assert theirs(lambda: matrix @ matrix.T).get_total_flops() == 2 * 3 * 4 * 3  # torch's own formula
    assert dict(flop_counter.flop_registry) == before


def of_our_own() -> dict[str, Any]:
    """Something to run with each of our operators, by the operator; those with a gradient run it too."""
    u, A, B = torch.rand(1, 4, 9), -torch.rand(4, 3), torch.rand(1, 3, 9)
    image, delta, four, states = (
        torch.rand(1, 1, 3, 3),
        torch.rand(1, 4, 1, 9),
        -torch.rand(4, 3),
        torch.rand(1, 4, 3, 9),
    )

    def both(run: Any, *operands: torch.Tensor) -> Any:
        def forward_and_backward() -> None:
            run(*(x.clone().requires_grad_() for x in operands)).sum().backward()

        return forward_and_backward

    return {
        "selective_scan": both(lambda u, A, B: ops.selective_scan(u, u, A, B, B), u, A, B),
        "cross_selective_scan": both(
            lambda x, delta, A, B: ops.cross_selective_scan(x, delta, A, B, B), image, delta, four, states
        ),
        "causal_conv1d": both(ops.causal_conv1d, u, torch.rand(4, 2)),
        "selective_state_update": lambda: ops.selective_state_update(
            torch.rand(1, 4, 3), u[..., 0], u[..., 0], A, B[..., 0], B[..., 0]
        ),
    }


STATES, STEPS, TAPS = 1 * 4 * 9 * 3, 1 * 4 * 9, 1 * 4 * 9 * 2
FLOPS = {
    # of a state 2 products and 2 multiply-adds, of a step delta u; backward 18 of a state and 4 of a step
    "selective_scan": (6 * STATES + STEPS, 18 * STATES + 4 * STEPS),
    # and three additions a pixel each way
    "cross_selective_scan": (6 * STATES + STEPS + 3 * 9, 18 * STATES + 4 * STEPS + 3 * 9),
    "causal_conv1d": (2 * TAPS, 4 * TAPS),
    # of a state 2 products and 2 multiply-adds, of a channel dt x
    "selective_state_update": (6 * 4 * 3 + 4, None),
}


@pytest.mark.parametrize("name", FLOPS)
def test_torchs_own_counter_with_the_formulas_of_our_operators(name: str) -> None:
    run = of_our_own()[name]
    operators = [getattr(torch.ops.flopscan, name), getattr(torch.ops.flopscan, f"{name}_backward", None)]
    assert not any(operator in theirs(run).get_flop_counts().get("Global", {}) for operator in operators)
    with install():
        counts = theirs(run).get_flop_counts()["Global"]
    assert tuple(counts.get(operator) for operator in operators) == FLOPS[name]


def test_formulas_that_are_asked_for() -> None:
    before = dict(flop_counter.flop_registry)
    x = torch.rand(2, 3)
    formulas = install("aten::add", "aten::silu")
    try:
        assert formulas.names == ["aten::add", "aten::silu"]
        assert theirs(lambda: F.silu(x + 1)).get_total_flops() == 6 + 6 * 3 - 6  # exp is no FLOP here: 1 + e, division
    finally:
        formulas.uninstall()
    assert dict(flop_counter.flop_registry) == before
    with pytest.raises(UsageError, match="'aten::nothing_such' is no operator"):
        install("aten::nothing_such")
    assert dict(flop_counter.flop_registry) == before


def test_a_formula_that_somebody_replaced_stays() -> None:
    formulas = install("aten::silu")
    flop_counter.flop_registry[aten.silu] = replaced = lambda *args, **kwargs: 7
    formulas.uninstall()
    assert flop_counter.flop_registry.pop(aten.silu) is replaced


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_as_torch(name: str, backward: bool) -> None:
    def run() -> None:
        output = model(x.requires_grad_(backward))
        if backward:
            output.sum().backward()

    model, x = made(name)
    expected = theirs(run)
    with FlopCounterMode(display=False) as counter:
        run()
    found, wanted = counter.get_flop_counts(), expected.get_flop_counts()
    assert counter.get_total_flops() == expected.get_total_flops()
    assert found["Global"] == wanted["Global"]
    if not backward:
        assert found == wanted
    else:  # where torch names the module by hooks, see the module's docstring
        wrong = {"small": ("Small.drop", "Small.nothing"), "shared": ("Shared.a",)}.get(name, ())
        assert {k: v for k, v in found.items() if k not in wrong} == {k: v for k, v in wanted.items() if k not in wrong}
