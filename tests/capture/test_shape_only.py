"""The shape-only route against the two others: torch's own counter, and a real run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import flopscan
from flopscan.errors import CaptureError, DataDependentError, UsageError


class Small(nn.Module):
    """Convolution, norm, attention, a value-dependent branch on an integer that shapes decide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().flatten(2).transpose(1, 2)
        x = x + self.attend(x, x, x, need_weights=False)[0]
        keep = torch.arange(x.shape[1])
        if keep[-1].item() >= x.shape[1]:
            raise AssertionError("the shadow of arange is wrong")
        return self.head(x.mean(1))


def test_three_routes_agree_forward_and_backward() -> None:
    model, x = Small(), torch.randn(2, 3, 16, 16)
    with flopscan.counting() as c:
        model(x).sum().backward()
    shapes = flopscan.count(model, (2, 3, 16, 16), backward=True)
    runs = flopscan.count(model, x, backward=True, run=True)
    assert shapes.macs == runs.macs == c.report.macs
    assert shapes.by_phase().keys() == {"forward", "backward"}


def test_macs_are_half_of_what_torch_counts_without_attention() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    with FlopCounterMode(display=False) as torch_counter:
        model(torch.randn(2, 3, 8, 8))
    assert 2 * flopscan.count(model, (2, 3, 8, 8)).macs == torch_counter.get_total_flops()


def test_counting_twice_gives_the_same() -> None:
    model = Small()
    first = flopscan.count(model, (2, 3, 16, 16), backward=True)
    assert first.to_dict() == flopscan.count(model, (2, 3, 16, 16), backward=True).to_dict()


def test_a_function_of_tensors_is_counted_too() -> None:
    assert flopscan.count(lambda a, b: a @ b, (2, 3), (3, 4)).macs == 24


def test_inputs_by_name_by_spec_and_real() -> None:
    def add(a: Tensor, *, b: Tensor) -> Tensor:
        return a + b

    reports = [
        flopscan.count(add, (4, 5), b=flopscan.shape(4, 5)),
        flopscan.count(add, torch.ones(4, 5), b=torch.ones(4, 5)),
        flopscan.count(add, flopscan.shape(4, 5), inputs={"b": (4, 5)}),
    ]
    assert [int(r.flops) for r in reports] == [20, 20, 20]
    half = flopscan.count(add, flopscan.shape(4, 5, dtype="float16"), b=flopscan.shape(4, 5, dtype="float16"))
    assert half.bytes_read == 2 * 4 * 5 * 2


def test_real_integers_keep_their_values() -> None:
    def ragged(x: Tensor, lengths: Tensor) -> Tensor:
        return torch.cat([x[:n] @ x[:n].T for n in [int(lengths.max())]])

    assert flopscan.count(ragged, (10, 4), torch.tensor([3, 5])).macs == 5 * 5 * 4


def test_values_of_views_are_forgotten_when_something_unknown_is_written() -> None:
    def write(x: Tensor) -> Tensor:
        table = torch.zeros(4, dtype=torch.int64)
        table[0] = (x.sum() > 0).long()
        return x * int(table[1])  # a sibling of what was written: nobody can be sure of the whole any more

    with pytest.raises(DataDependentError):
        flopscan.count(write, (3,))


def test_a_loop_in_python_is_folded() -> None:
    def scan(x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], x.shape[2])
        for t in range(x.shape[1]):
            h = h * 0.5 + x[:, t]
        return h

    trace = flopscan.count(scan, (2, 500, 8)).ledger.trace
    assert len(trace.records) < 10
    assert flopscan.count(scan, (2, 500, 8)).flops == 500 * 2 * 2 * 8


def test_the_larger_branch_of_cond_counts_and_alone() -> None:
    # one product before (8^3 multiply-adds), then three or one inside: 1 + 3 products of 8^3 = 2,048.
    # FlopCounterMode gives 2,560: it adds the earlier work to the branch (its isolation is a shallow copy)
    def branching(x: Tensor) -> Tensor:
        x = x @ x
        return torch.cond(x.sum() > 0, lambda a: a @ a @ a @ a, lambda a: a @ a, (x,))

    assert flopscan.count(branching, (8, 8)).macs == 4 * 8**3


def test_nested_conditionals_take_the_larger_at_each_level() -> None:
    def nested(x: Tensor) -> Tensor:
        def outer(a: Tensor) -> Tensor:
            return torch.cond(a.sum() > 1, lambda b: b @ b @ b, lambda b: b @ b, (a,))

        return torch.cond(x.sum() > 0, outer, lambda a: a @ a, (x,))

    assert flopscan.count(nested, (4, 4)).macs == 2 * 4**3


def test_broadcast_products_are_whole() -> None:
    # (20, 10) @ (7, 10, 100): 7 products of 20 x 10 x 100 = 140,000; fvcore loses the batch of the right operand
    report = flopscan.count(torch.matmul, (20, 10), (7, 10, 100))
    assert report.macs == 140_000
    assert report.under("fvcore") == 20_000


def test_recomputation_has_a_phase_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    def step(x: Tensor) -> Tensor:
        return checkpoint(model, x, use_reentrant=False)

    with flopscan.counting() as c:
        step(torch.randn(4, 8, requires_grad=True)).sum().backward()
    phases = c.report.by_phase()
    assert phases["forward"].macs == 2 * 4 * 8 * 8
    assert phases["recompute"].macs == 4 * 8 * 8  # torch stops early: nothing needs the last product again
    assert phases["backward"].macs == 4 * 4 * 8 * 8


def test_an_optimizer_step_has_a_phase_of_its_own() -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with flopscan.counting() as c:
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
    assert c.report.by_phase()["optimizer"].flops > 0


def test_modules_are_named_and_own_their_backward() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    rows = flopscan.count(model, (3, 4), backward=True).by_module()
    assert rows["0"].macs == 3 * 4 * 8 * 2  # forward, and the gradient of the weight: the input needs none
    assert rows["2"].macs == 3 * 8 * 2 * 3
    assert rows[""].macs == rows["0"].macs + rows["2"].macs
    assert (rows["0"].params, rows["2"].params, rows[""].params) == (40, 18, 58)


def test_a_shared_module_is_charged_to_each_caller_and_its_parameters_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Linear(4, 4))
            self.b = nn.Sequential(self.a[0])

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    report = flopscan.count(Twice(), (1, 4))
    rows = report.by_module()
    assert rows["a.0"].macs == rows["b.0"].macs == 16
    assert report.params == 20 == rows[""].params


def test_source_lines_are_recorded_on_request() -> None:
    report = flopscan.count(Small(), (1, 3, 8, 8), lines=True)
    lines = report.by_line()
    assert any("test_shape_only.py" in name and "forward" in name for name in lines)
    assert sum(int(row.value) for row in lines.values()) == report.flops
    assert flopscan.count(Small(), (1, 3, 8, 8)).by_line() == {}


def test_attention_is_one_operator_on_every_route() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    q = torch.randn(1, 4, 16, 8)
    on_shapes = flopscan.count(attend, (1, 4, 16, 8), (1, 4, 16, 8), (1, 4, 16, 8))
    for_real = flopscan.count(attend, q, q, q, run=True)
    assert on_shapes.by_operator().keys() == for_real.by_operator().keys()
    # causal: 16 * 17 / 2 pairs of each of 4 heads, 8 multiply-adds for the score and 8 for the output
    assert on_shapes.macs == for_real.macs == 4 * (16 * 17 // 2) * 16


def raising(x: Tensor) -> Tensor:
    raise RuntimeError("deliberate")


def test_what_a_model_raises_is_chained_and_placed() -> None:
    with pytest.raises(CaptureError) as caught:
        flopscan.count(raising, (2, 3))
    text = str(caught.value)
    assert "raising raised RuntimeError: deliberate" in text
    assert "float32[2, 3]" in text
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_wrong_shape_names_the_module_and_the_operator() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2))
    with pytest.raises(CaptureError) as caught:
        flopscan.count(model, (3, 4))
    assert "module 1 (Linear)" in str(caught.value)
    assert "float32[3, 4]" in str(caught.value)


def test_a_missing_argument_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"does not take these inputs: .*missing 1 required positional argument"):
        flopscan.count(nn.Bilinear(2, 2, 2), (1, 2))


def test_a_branch_on_a_value_says_where_and_what_to_do() -> None:
    def branch(x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(DataDependentError) as caught:
        flopscan.count(branch, (3,))
    text = str(caught.value)
    assert "test_shape_only.py" in text
    assert "the value of a shape-only tensor was asked for" in text
    assert "flopscan.counting()" in text


@pytest.mark.parametrize("function", [torch.nonzero, torch.unique, lambda x: x[x > 0]])
def test_a_result_whose_shape_is_a_value_is_refused(function: object) -> None:
    with pytest.raises((DataDependentError, CaptureError)) as caught:
        flopscan.count(function, (3,))  # type: ignore[arg-type]
    assert "counting()" in str(caught.value)


def test_something_that_is_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a model, a function or a target name to count, got int"):
        flopscan.count(3, (1,))  # type: ignore[arg-type]


def test_a_mask_that_is_known_selects_what_it_selects() -> None:
    def pick(x: Tensor) -> Tensor:
        keep = torch.arange(6) % 2 == 0
        return x[keep] @ x[keep].T

    assert flopscan.count(pick, (6, 5)).macs == 3 * 3 * 5


def test_integer_indices_need_no_values() -> None:
    def gather(x: Tensor, where: Tensor) -> Tensor:
        return x[where.argsort()] @ x.T

    assert flopscan.count(gather, (6, 5), (6,)).macs == 6 * 6 * 5


def test_sparse_products_are_listed_and_not_counted_as_dense() -> None:
    report = flopscan.count(torch.matmul, torch.eye(100).to_sparse(), torch.ones(100, 100), run=True)
    assert report.macs == 0
    assert [u.reason for u in report.uncounted] == ["no formula for the layout sparse_coo"]


@pytest.mark.parametrize("ask", [torch.equal, torch.allclose])
def test_comparing_values_is_refused_as_what_it_is(ask: object) -> None:
    with pytest.raises(DataDependentError, match="the value of a shape-only tensor was asked for"):
        flopscan.count(ask, (3,), (3,))  # type: ignore[arg-type]


def test_complex_outputs_have_a_backward() -> None:
    x = torch.empty(8, requires_grad=True)
    assert flopscan.count(torch.fft.rfft, x, backward=True).by_phase()["backward"].flops > 0


def test_backward_without_a_gradient_says_what_to_give() -> None:
    with pytest.raises(CaptureError, match="no output has a gradient; expected one that depends on a parameter"):
        flopscan.count(torch.relu, (3,), backward=True)
