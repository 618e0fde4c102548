"""The causal convolution of Mamba: its rules against their tallies and against torch."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
import flopscan.ops  # registers the operators
from flopscan.analysis import price_call
from flopscan.capture.operators import plain
from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Num, Tally, exp2, fma, special
from flopscan.core.trace import Call, TensorSpec
from flopscan.testing import check_rule
from proving import numbers, prove


def forward(x: Tensor, weight: Tensor, bias: Any = None, initial: Any = None, activation: Any = None) -> Tensor:
    before = x.new_zeros(*x.shape[:2], weight.shape[1] - 1) if initial is None else initial
    y = F.conv1d(torch.cat([before, x], -1), weight[:, None], bias, groups=x.shape[1])
    return F.silu(y) if activation else y


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Any = None, initial: Any = None, activation: Any = None
) -> tuple[Tensor, ...]:
    if activation:
        grad = torch.ops.aten.silu_backward(grad, forward(x, weight, bias, initial))
    before = x.new_zeros(*x.shape[:2], weight.shape[1] - 1) if initial is None else initial
    whole, dweight, dbias = torch.ops.aten.convolution_backward(
        grad, torch.cat([before, x], -1), weight[:, None], [len(weight)], [1], [0], [1], False, [0], len(weight),
        [True] * 3,
    )  # fmt: skip
    dstates, dx = whole.split([before.shape[2], x.shape[2]], -1)
    empty = grad.new_empty(0)
    return (
        dx.contiguous(), dweight[:, 0].contiguous(), empty if bias is None else dbias,
        empty if initial is None else dstates.contiguous(),
    )  # fmt: skip


@pytest.mark.parametrize("op", ["flopscan::causal_conv1d", "flopscan::causal_conv1d_backward"])
def test_the_formula_is_the_tally_of_the_definition(op: str) -> None:
    for seed in range(25):
        check_rule(op, seed)


def test_a_wrong_filter_is_not_counted_and_says_why() -> None:
    x = TensorSpec((2, 6, 8))
    priced = price_call(Call("flopscan::causal_conv1d", {"x": x, "weight": TensorSpec((5, 4))}, (x,)))
    assert priced.ideal is None
    assert "axis d is 5 in 'weight' and 6 in 'x'" in priced.note


@pytest.mark.parametrize("seed", range(8))
def test_the_gradient_of_the_last_steps(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    b, d, l, w = rng.randint(1, 2), rng.randint(1, 3), rng.randint(1, 4), rng.choice((2, 3, 4))
    x, weight = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((b, d, l), (d, w)))
    state = torch.randn(b, d, w - 1, dtype=torch.float64, requires_grad=True) if seed % 2 else None
    y = forward(x, weight, None, state, "silu")
    last = F.pad(x if state is None else torch.cat([state, x], -1), (w - 1, 0))[..., 1 - w :]
    grad, dlast = torch.randn_like(y), torch.randn_like(last)
    leaves = [x, weight, *([] if state is None else [state])]
    dx, dweight, *rest = torch.autograd.grad((y * grad).sum() + (last * dlast).sum(), leaves)
    operands = {"grad": grad, "x": x, "weight": weight, "initial_states": state, "dfinal_states": dlast}
    expected = [dx, dweight, None, rest[0] if rest else None]
    prove("flopscan::causal_conv1d_backward", {**operands, "activation": "silu"}, expected)


def test_an_unknown_activation_is_not_counted_and_says_why() -> None:
    operands = {"x": TensorSpec((2, 6, 8)), "weight": TensorSpec((6, 4)), "activation": "gelu"}
    priced = price_call(Call("flopscan::causal_conv1d", operands))
    assert priced.ideal is None
    assert "no formula for the activation 'gelu'" in priced.note


reciprocal = special("div", lambda x: 1.0 / x)


def fast_exp(x: Any) -> Any:
    return exp2(x * math.log2(math.e))


def add_lanes(values: list[Any], partner: Callable[[int, int], int], offset: int) -> list[Any]:
    """One step of a sum over lanes: each adds what its partner has, if there is one."""
    partners = [partner(lane, offset) for lane in range(len(values))]
    return [v if p >= len(values) else v + values[p] for v, p in zip(values, partners, strict=True)]


class Threads:
    """The kernels, thread by thread: ``steps`` a thread, ``block`` steps and ``wide`` channels a block of threads."""

    def __init__(self, operands: dict[str, Any], steps: int, block: int, wide: int) -> None:
        self.tally: Tally[str] = Tally()
        self.o = {k: numbers(v, self.tally) for k, v in operands.items()}
        self.zero, self.steps, self.block, self.last = Num(0.0, self.tally), steps, block, wide > 1
        (self.b, d, self.l), self.w = self.o["x"].shape, self.o["weight"].shape[1]
        self.channels, self.length = range(-(-d // wide) * wide), -(-self.l // block) * block

    def load(self, name: str, *index: int) -> Any:
        array: Array = self.o[name]
        return array[index] if all(0 <= i < s for i, s in zip(index, array.shape, strict=True)) else self.zero

    def threads(self) -> Iterator[tuple[int, int, range]]:
        for b, d, first in itertools.product(range(self.b), self.channels, range(0, self.length, self.steps)):
            yield b, d, range(first, first + self.steps)

    def before_silu(self, b: int, d: int, i: int) -> Any:
        y = self.load("bias", d) if "bias" in self.o else self.zero
        for k in range(self.w):
            y = fma(self.load("weight", d, k), self.load("x", b, d, i - self.w + 1 + k), y)
        return y

    def forward(self) -> dict[Any, Any]:
        out = {}
        for b, d, steps in self.threads():
            for i in steps:
                y = self.before_silu(b, d, i)
                out[b, d, i] = y * reciprocal(1.0 + fast_exp(-y)) if self.o.get("activation") else y
        return out

    def slopes(self, again: int) -> dict[Any, Any]:
        """The gradients before SiLU; a thread computes them for ``again`` steps more than it has."""
        found = {}
        for b, d, steps in self.threads():
            for i in range(steps.start, steps.stop + again):
                grad = self.load("grad", b, d, i)
                if self.o.get("activation"):
                    y = self.before_silu(b, d, i)
                    s = reciprocal(1.0 + fast_exp(-y))
                    grad = grad * s * fma(y, 1.0 - s, 1.0)
                found[b, d, i] = grad
        return found

    def backward(self, again: int) -> dict[str, Any]:
        """The gradients. A thread where steps are neighbours goes on with its sums in the next block of steps."""
        dx, slopes = {}, self.slopes(again)
        own: dict[Any, list[dict[int, Any]]] = {}
        for b, d, steps in self.threads():
            block, thread = divmod(steps.start, self.block)
            place = (b, d, block if self.last else 0)
            blank = [dict.fromkeys(range(0, self.block, self.steps), self.zero) for _ in range(self.w + 1)]
            sums = own.setdefault(place, blank)
            for i in steps:
                if "bias" in self.o or not self.last:
                    sums[self.w][thread] = sums[self.w][thread] + slopes[b, d, i]
                dx[b, d, i] = self.zero
                for k in range(self.w):
                    later = slopes.get((b, d, i + self.w - 1 - k), self.zero)
                    dx[b, d, i] = fma(self.load("weight", d, k), later, dx[b, d, i])
                    x = self.load("x", b, d, i - self.w + 1 + k)
                    sums[k][thread] = fma(x, slopes[b, d, i], sums[k][thread])
        return {"x": dx, **self.in_memory(own)}

    def in_memory(self, own: dict[Any, list[dict[int, Any]]]) -> dict[str, dict[Any, float]]:
        """What the blocks' sums come to: the memory adds these, so the tally does not."""
        found: dict[Any, float] = defaultdict(float)
        for (_, d, _), sums in own.items():
            for k, threads in enumerate(sums if "bias" in self.o else sums[: self.w]):
                found[d, k] += float(self.over_block(list(threads.values())))
        return {"weight": found, "bias": {d: v for (d, k), v in found.items() if k == self.w}}

    def over_block(self, values: list[Any]) -> Any:
        """All threads of a channel exchange their sums; or warps shuffle down, and a thread adds up the warps."""
        if self.last:
            for step in reversed(range(len(values).bit_length() - 1)):
                values = add_lanes(values, lambda lane, offset: lane ^ offset, 1 << step)
            return values[-1]
        warps = [values[first : first + 32] for first in range(0, len(values), 32)]
        for step in range(5):
            warps = [add_lanes(warp, lambda lane, offset: lane + offset, 1 << step) for warp in warps]
        first, *others = (warp[0] for warp in warps)
        return sum(others, first)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_what_the_kernels_run_is_the_tally_of_their_threads(seed: int, channels_last: bool) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    d, l, w = 8 if channels_last else 2, rng.choice((3, 70, 130) if channels_last else (3, 520)), rng.choice((2, 3, 4))
    bias, activation = torch.randn(d).double() if seed % 2 else None, "silu" if seed % 4 < 2 else None
    x, grad = (torch.randn(1, l, d).mT if channels_last else torch.randn(1, d, l) for _ in range(2))
    operands = {"x": x.double(), "weight": torch.randn(d, w).double(), "activation": activation}
    operands |= {} if bias is None else {"bias": bias}
    specs = {k: plain(v.float()) if isinstance(v, Tensor) else v for k, v in operands.items() if v is not None}
    shape = (16, 64, 32) if channels_last else (4, 512, 1)
    long = (32, 128, 32) if channels_last and l > 128 else shape
    run = Threads(operands, *shape)
    out, y = run.forward(), forward(operands["x"], operands["weight"], bias, activation=activation)
    for index in itertools.product(*map(range, y.shape)):
        assert float(out[index]) == pytest.approx(float(y[index]), abs=1e-9)
    priced = price_call(Call("flopscan::causal_conv1d", specs))
    assert priced.executed is not None
    assert priced.executed.arithmetic() == dict(run.tally)
    again = Threads({**operands, "grad": grad.double()}, *long)
    found = again.backward(w - 1 if channels_last else 0)
    wanted = backward(grad.double(), operands["x"], operands["weight"], bias, activation=activation)
    for name, gradient in zip(("x", "weight", "bias"), wanted, strict=False):
        for index in itertools.product(*map(range, gradient.shape)):
            key = index if len(index) > 1 or name != "bias" else index[0]
            assert float(found[name][key]) == pytest.approx(float(gradient[index]), abs=1e-9)
    priced = price_call(Call("flopscan::causal_conv1d_backward", {"grad": specs["x"], **specs}))
    assert priced.executed is not None
    assert priced.executed.arithmetic() == dict(again.tally)


def test_half_precision_takes_longer_blocks_and_long_sequences_longer_ones_yet() -> None:
    def executed(op: str, l: int, dtype: str, strides: Any) -> int:
        x = TensorSpec((1, 64, l), dtype, strides)
        priced = price_call(Call(op, {"grad": x, "x": x, "weight": TensorSpec((64, 4), dtype)}))
        assert priced.executed is not None
        return int(priced.executed.fma) // (64 * 4)

    forward, backward = "flopscan::causal_conv1d", "flopscan::causal_conv1d_backward"
    assert [executed(forward, 5, dtype, None) for dtype in ("float32", "bfloat16")] == [512, 1024]
    last = [(64 * l, 1, 64) for l in (5, 129)]
    assert [executed(backward, l, "bfloat16", s) for l, s in zip((5, 129), last, strict=True)] == [2 * 64, 2 * 256]


def test_a_decoding_step_runs_without_padding_and_writes_its_state() -> None:
    x, state = TensorSpec((2, 8, 1)), TensorSpec((2, 8, 3))
    operands = {"x": x, "weight": TensorSpec((8, 4)), "initial_states": state, "update": True}
    priced = price_call(Call("flopscan::causal_conv1d", operands, (x,)))
    assert priced.ideal is not None and priced.executed is not None
    assert priced.executed.arithmetic() == priced.ideal.arithmetic() == {"fma": 64}
    assert priced.ideal.written == 4 * (16 + 48)


X, WEIGHT, BIAS, STATE = (2, 8, 5), (8, 4), (8,), (2, 8, 3)
COMPILED = {
    "fwd": [
        (), ("seq_idx",), ("seq_idx", "initial_states", "final_states_out"),
        ("seq_idx", "initial_states", "out", "final_states_out"),
    ],
    "bwd": [
        ("dx",), ("seq_idx", "dx"), ("seq_idx", "initial_states", "dfinal_states", "dx", "return_dinitial"),
        ("seq_idx", "initial_states", "dfinal_states", "dx", "dweight", "dbias", "dinitial_states"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("extra", range(4))
def test_the_compiled_functions_of_every_version(extra: int) -> None:
    def run(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
        import causal_conv1d_cuda as kernels

        outs = {"out": x, "dx": x, "dweight": weight, "dbias": bias}
        outs |= {"initial_states": state, "dinitial_states": state, "return_dinitial": True}
        middle = [outs.get(name) for name in COMPILED["fwd"][extra]]
        y = kernels.causal_conv1d_fwd(x, weight, bias, *middle, True)
        middle = [outs.get(name) for name in COMPILED["bwd"][extra]]
        found = kernels.causal_conv1d_bwd(x, weight, bias, y, *middle, True)
        assert [g.shape for g in found] == [x.shape, weight.shape, bias.shape, state.shape][: 3 + (extra > 1)]
        return y  # type: ignore[no-any-return]

    report = flopscan.count(run, X, WEIGHT, BIAS, STATE, strict=True)
    costs = {op: row.cost for op, row in report.by_operator().items() if op.startswith("flopscan::")}
    steps = 2 * 8 * 5
    assert costs["flopscan::causal_conv1d"].fma == 4 * steps
    assert costs["flopscan::causal_conv1d_backward"].fma == 12 * steps + (2 * 8 * 3 * 4 if extra > 1 else 0)


@pytest.mark.parametrize("extra", [(), ("cache_seqlens",), ("cache_seqlens", "conv_state_indices")])
def test_the_compiled_decoding_step_of_every_version(extra: tuple[str, ...]) -> None:
    def run(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
        import causal_conv1d_cuda as kernels

        return kernels.causal_conv1d_update(x, state, weight, bias, True, *[None for _ in extra])  # type: ignore[no-any-return]

    report = flopscan.count(run, (2, 8), WEIGHT, BIAS, STATE, strict=True)
    assert report.by_operator()["flopscan::causal_conv1d"].cost.fma == 2 * 8 * 4


def test_a_state_that_is_one_of_many() -> None:
    def run(x: Tensor, weight: Tensor, state: Tensor, which: Tensor) -> Tensor:
        from causal_conv1d import causal_conv1d_update

        return causal_conv1d_update(x, state, weight, None, "silu", None, which)  # type: ignore[no-any-return]

    report = flopscan.count(run, X, WEIGHT, (9, 8, 3), (2,), strict=True)
    assert report.by_operator()["flopscan::causal_conv1d"].cost.fma == 2 * 8 * 5 * 4


def test_the_activation_was_the_fourth_operand_once() -> None:
    def run(x: Tensor, weight: Tensor) -> Tensor:
        from causal_conv1d import causal_conv1d_fn

        return causal_conv1d_fn(x, weight, None, "silu")  # type: ignore[no-any-return]

    report = flopscan.count(run, X, WEIGHT, strict=True)
    assert report.by_operator()["flopscan::causal_conv1d"].cost.exp == 2 * 8 * 5


def test_outputs_keep_the_order_of_axes_in_memory() -> None:
    def run(x: Tensor, weight: Tensor) -> Tensor:
        from causal_conv1d import causal_conv1d_fn

        y, last = causal_conv1d_fn(x[:, :, 2:10].mT, weight, return_final_states=True)
        assert (y.stride(), last.stride(), last.shape) == ((40, 1, 8), (24, 1, 8), (2, 8, 3))
        return y + causal_conv1d_fn(x.mT[:, 2:10].contiguous(), weight)  # type: ignore[no-any-return]

    assert flopscan.count(run, (2, 5, 12), WEIGHT, strict=True).by_operator()["flopscan::causal_conv1d"].calls == 2


def test_the_operators_of_the_package_cost_what_its_functions_do() -> None:
    x, weight, bias, state = (TensorSpec(shape) for shape in (X, WEIGHT, BIAS, STATE))
    named = {"x": x, "weight": weight, "bias": bias, "silu_activation": True}
    plain_form = {"x": x, "weight": weight, "bias": bias, "activation": "silu"}

    def check(kind: str, operands: dict[str, Any], op: str, own: dict[str, Any]) -> Cost:
        found = price_call(Call(f"DaoAILab::_causal_conv1d_{kind}_cpp", operands))
        wanted = price_call(Call(op, own))
        assert found.ideal is not None and wanted.ideal is not None, found.note
        assert found.ideal.arithmetic() == wanted.ideal.arithmetic()
        if found.executed and wanted.executed:
            assert found.executed.arithmetic() == wanted.executed.arithmetic()
        return found.ideal

    forward = "flopscan::causal_conv1d"
    cost = check("fwd", {**named, "initial_states": state, "out": x}, forward, plain_form)
    assert (cost.read, cost.written) == (4 * (80 + 32 + 8 + 48), 4 * 80)
    cost = check("update", {**named, "conv_state": state, "out": x}, forward, plain_form)
    assert (cost.read, cost.written) == (4 * (80 + 32 + 8 + 48), 4 * (80 + 48))
    results = {"dx": x, "dweight": weight, "dbias": bias, "dinitial_states": state}
    both = {"initial_states": state, "dfinal_states": state}
    cost = check(
        "bwd", {**named, **both, "dout": x, **results}, f"{forward}_backward", {"grad": x, **plain_form, **both}
    )
    assert (cost.read, cost.written) == (4 * (80 + 32 + 8 + 48 + 48 + 80), 4 * (80 + 32 + 8 + 48))


@pytest.mark.parametrize("cached", [False, True])
def test_the_own_step_is_a_convolution_that_moves_its_state(cached: bool) -> None:
    """As a graph that torch.compile made has it; a cache of more sequences is touched where these are."""
    x, weight, state = TensorSpec((2, 8, 5)), TensorSpec((8, 4)), TensorSpec((7 if cached else 2, 8, 6))
    named = {"x": x, "weight": weight, "activation": "silu"}
    slots = {"conv_state_indices": TensorSpec((2,), "int64")} if cached else {}
    found = price_call(Call("flopscan::causal_conv1d_update", {**named, "conv_state": state, **slots}, (x,)))
    plain_form = price_call(Call("flopscan::causal_conv1d", named, (x,)))
    assert found.ideal is not None and plain_form.ideal is not None, found.note
    assert found.ideal.arithmetic() == plain_form.ideal.arithmetic()
    moved = 4 * 2 * 8 * 6
    assert (found.ideal.read, found.ideal.written) == (4 * (80 + 32) + moved + (16 if cached else 0), 4 * 80 + moved)


@pytest.mark.peers
@pytest.mark.parametrize("activation", [None, "silu"])
def test_the_bodies_that_transformers_has_compute_the_same(activation: str | None) -> None:
    from transformers.models.mamba.modeling_mamba import causal_conv1d_fn, causal_conv1d_update

    torch.manual_seed(0)
    x, weight, bias, state = torch.randn(2, 8, 5), torch.randn(8, 4), torch.randn(8), torch.randn(2, 8, 3)
    with flopscan.counting() as counted:
        y = causal_conv1d_fn(x, weight, bias, activation)
        step = causal_conv1d_update(x[..., :1], state.clone(), weight, bias, activation)
    torch.testing.assert_close(y, forward(x, weight, bias, None, activation))
    torch.testing.assert_close(step, forward(x[..., :1], weight, bias, state, activation))
    row = counted.report.by_operator()["flopscan::causal_conv1d"]
    assert (row.calls, row.cost.fma) == (2, (80 + 16) * 4)
    assert counted.report.by_operator().keys() - {"flopscan::causal_conv1d"} == {"aten::clone", "aten::slice"}
