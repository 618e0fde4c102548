"""A decoding step: the definition against torch and its tally, the kernel's form against a run block by block."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.capture.operators import plain
from flopscan.core.cost import Cost
from flopscan.core.tally import Array, Num, Tally, exp2, fma, select
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules.ssd_kernel import power
from proving import call_on, numbers, prove

OP = "flopscan::selective_state_update"


def update(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any = None, z: Any = None,
    dt_bias: Any = None, state_batch_indices: Any = None, dt_softplus: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The definition in torch."""
    rows = slice(None) if state_batch_indices is None else state_batch_indices
    dt = dt if dt_bias is None else dt + dt_bias
    dt = F.softplus(dt) if dt_softplus else dt
    B, C = (m if m.dim() == 3 else m[:, None] for m in (B, C))
    if x.dim() == 2:
        B, C = B.expand(-1, x.shape[1], -1), C.expand(-1, x.shape[1], -1)
    else:
        B, C = (m.repeat_interleave(x.shape[1] // m.shape[1], 1)[:, :, None] for m in (B, C))
    after = torch.exp(dt[..., None] * A) * state[rows] + (dt * x)[..., None] * B
    y = (after * C).sum(-1)
    y = y if D is None else y + D * x
    states = state.clone()
    states[rows] = after
    return (y if z is None else y * F.silu(z)), states


def draw(seed: int, most: int = 4) -> dict[str, Any]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    b, g, p, n = (rng.randint(1, most) for _ in range(4))
    h, heads = g * rng.randint(1, 2), rng.random() < 0.6
    channels = (h, p) if heads else (p,)
    group = (g,) if heads and rng.random() < 0.8 else rng.choice(((), (1,)))

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64)

    slots = b + rng.randint(0, 2)
    optional = {
        "D": rand(*channels), "z": rand(b, *channels), "dt_bias": rand(*channels),
        "state_batch_indices": torch.randperm(slots)[:b],
    }  # fmt: skip
    chosen = {name: value for name, value in optional.items() if rng.random() < 0.6}
    return {
        "state": rand(slots if "state_batch_indices" in chosen else b, *channels, n), "x": rand(b, *channels),
        "dt": rand(b, *channels), "A": -rand(*channels, n).exp(), "B": rand(b, *group, n), "C": rand(b, *group, n),
        **chosen, "dt_softplus": rng.random() < 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_the_formula_is_the_tally_of_the_definition(seed: int) -> None:
    operands = draw(seed)
    prove(OP, operands, update(**operands), 1e-12)


def fast_exp(x: Any) -> Any:
    return exp2(x * math.log2(math.e))


def log_of(x: Any) -> Any:
    """A logarithm by a polynomial: what it comes to, and what that takes."""
    for kind, times in {"fma": 11, "mul": 1, "add": 1}.items():
        x.did(kind, 0.0, times)
    return Num(math.log(float(x)), x.tally)


class Program:
    """The Triton program of one block of channels, thread by thread; lanes past the end load zeros."""

    def __init__(self, o: dict[str, Any], tied: bool, at: tuple[int, int, int], block: int, zero: Num) -> None:
        self.o, self.tied, self.zero = o, tied, zero
        self.b, self.h, self.first = at
        self.g = self.h * o["B"].shape[1] // o["x"].shape[1]
        n = o["A"].shape[-1]
        self.lanes, self.items, self.block, self.threads = power(n), 1 if n % 16 else 4, block, 128
        self.rounds = range(max(1, block * self.lanes // (self.threads * self.items)))

    def load(self, name: str, *index: int) -> Any:
        array: Array = self.o[name]
        return array[index] if all(i < s for i, s in zip(index, array.shape, strict=True)) else self.zero

    def size(self, i: int) -> Any:
        dt = self.load("dt", self.b, self.h, i)
        dt = dt + self.load("dt_bias", self.h, i) if "dt_bias" in self.o else dt
        return select(dt <= 20.0, log_of(fast_exp(dt) + 1.0), dt) if self.o["dt_softplus"] else dt

    def place(self, thread: int, turn: int) -> tuple[int, range]:
        """One of the channels of a thread, and its states; threads that are left over hold copies."""
        flat = (turn * self.threads + thread) * self.items % (self.block * self.lanes)
        i, k = divmod(flat, self.lanes)
        return self.first + i, range(k, k + self.items)

    def factors(self) -> Iterator[tuple[int, int, dict[int, tuple[Any, Any]]]]:
        """Of each thread and channel: of each of its states the decay and dt B."""
        for t in range(self.threads):
            if self.tied:
                dt = self.size(0)
                decay = fast_exp(self.load("A", self.h, 0, 0) * dt)
                same = {k: (decay, self.load("B", self.b, self.g, k) * dt) for k in self.place(t, 0)[1]}
            for turn in self.rounds:
                i, states = self.place(t, turn)
                if not self.tied:
                    dt = self.size(i)
                    decays = {k: fast_exp(self.load("A", self.h, i, k) * dt) for k in states}
                    same = {k: (decays[k], self.load("B", self.b, self.g, k) * dt) for k in states}
                yield t, turn, same

    def sums(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Of each thread and channel: its states times C, added up, and the factors of the last product."""
        found, last = {}, {}
        for t, turn, same in self.factors():
            i, states = self.place(t, turn)
            y: Any = None
            for k in states:
                decay, dB = same[k]
                drive = dB * self.load("x", self.b, self.h, i)
                state = fma(self.load("state", self.b, self.h, i, k), decay, drive)
                C = self.load("C", self.b, self.g, k)
                y = state * C if y is None else fma(state, C, y)
                last[t, turn] = state, C
            found[t, turn] = y
        return found, last

    def run(self) -> dict[Any, Any]:
        """The outputs: threads of a channel exchange their sums, and each of them goes on with the total."""
        values, factors = self.sums()
        offset = 1
        while offset * self.items < self.lanes:
            others = {(t, turn): values[t ^ offset, turn] for t, turn in values}
            fused = self.items == 1 and offset == 1
            values = {at: fma(*factors[at], others[at]) if fused else y + others[at] for at, y in values.items()}
            offset *= 2
        out = {}
        for (t, turn), y in values.items():
            i, _ = self.place(t, turn)
            y = fma(self.load("x", self.b, self.h, i), self.load("D", self.h, i), y) if "D" in self.o else y
            if "z" in self.o:
                z = self.load("z", self.b, self.h, i)
                y = y * (z * (1.0 * (1.0 / (1.0 + fast_exp(0.0 - z)))))
            out[self.b, self.h, i] = y
        return out


def kernel(operands: dict[str, Any], tied: bool, block: int, tally: Tally[str]) -> dict[Any, Any]:
    """All programs."""
    o: dict[str, Any] = {k: numbers(v, tally) for k, v in operands.items() if v is not None}
    batch, heads, p = o["x"].shape
    out: dict[Any, Any] = {}
    for at in itertools.product(range(batch), range(heads), range(0, p, block)):
        out |= Program(o, tied, at, block, Num(0.0, tally)).run()
    return out


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_what_the_kernel_runs_is_the_tally_of_its_blocks(seed: int, tied: bool) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    b, g, p, n = rng.randint(1, 2), rng.randint(1, 2), rng.choice((1, 5, 16, 33)), rng.choice((1, 3, 8, 16, 20))
    h = g * rng.randint(1, 2)

    def rand(*shape: int, per_head: int = 0) -> Tensor:
        if not (tied and per_head):
            return torch.randn(shape, dtype=torch.float64)
        return torch.randn(shape[:-per_head] + (1,) * per_head, dtype=torch.float64).expand(shape)

    operands = {
        "state": rand(b, h, p, n), "x": rand(b, h, p), "dt": rand(b, h, p, per_head=1), "A": rand(h, p, n, per_head=2),
        "B": rand(b, g, n), "C": rand(b, g, n), "dt_softplus": rng.random() < 0.5,
        "dt_bias": rand(h, p, per_head=1) if tied or rng.random() < 0.5 else None,
        "D": rand(h, p) if rng.random() < 0.5 else None, "z": rand(b, h, p) if rng.random() < 0.5 else None,
    }  # fmt: skip
    y, _ = update(**operands)
    tally: Tally[str] = Tally()
    tied = tied and p > 1 and n > 1  # an axis of one is not expanded
    found = kernel(operands, tied, 32 if n <= 16 else 16, tally)
    for index in itertools.product(*map(range, y.shape)):
        assert float(found[index]) == pytest.approx(float(y[index]), abs=1e-9)
    executed = price_call(call_on(OP, operands, y)).executed
    assert executed is not None
    assert executed.arithmetic() == {k: v for k, v in tally.items() if v}


def test_states_are_read_and_written_in_place() -> None:
    spec = TensorSpec
    state, x, A, B = spec((9, 6, 4)), spec((2, 6), "bfloat16"), spec((6, 4)), spec((2, 4), "bfloat16")
    call = Call(
        OP, {"state": state, "x": x, "dt": x, "A": A, "B": B, "C": B, "state_batch_indices": spec((2,), "int32")}, (x,)
    )
    cost = price_call(call).ideal
    assert cost is not None
    assert (cost.read, cost.written) == (4 * 48 + 2 * 24 + 4 * 24 + 2 * 16 + 8, 4 * 48 + 24)
    assert cost.arithmetic() == Cost(mul=2 * 48 + 12, exp=48, fma=2 * 48).arithmetic()


def test_heads_that_do_not_divide_into_groups_are_not_counted() -> None:
    x, B = torch.zeros(2, 3, 4), torch.zeros(2, 2, 5)
    operands = {"state": torch.zeros(2, 3, 4, 5), "x": x, "dt": x, "A": torch.zeros(3, 4, 5), "B": B, "C": B}
    priced = price_call(Call(OP, {k: plain(v) for k, v in operands.items()}))
    assert priced.ideal is None and "axis g is 2, which does not divide h, 3 in 'state'" in priced.note


def test_the_function_of_the_package_on_shapes() -> None:
    def run(state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, bias: Tensor) -> Tensor:
        from mamba_ssm.ops.triton.selective_state_update import selective_state_update

        dt, bias = dt[..., None].expand(-1, -1, 32), bias[:, None].expand(-1, 32)
        y = selective_state_update(
            state, x, dt, A[:, None, None].expand(-1, 32, 16), B, B, dt_bias=bias, dt_softplus=True
        )
        assert y.shape == x.shape
        return y  # type: ignore[no-any-return]

    report = flopscan.count(run, (2, 4, 32, 16), (2, 4, 32), (2, 4), (4,), (2, 1, 16), (4,), strict=True)
    assert report.by_operator()[OP].cost.fma == 2 * 2 * 4 * 32 * 16
    executed = report.ledger.executed()
    assert executed.exp < report.by_operator()[OP].cost.exp  # one exponential a thread


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(12))
def test_the_bodies_that_transformers_has_compute_the_same(seed: int) -> None:
    from transformers.models.mamba.modeling_mamba import mamba_selective_state_update
    from transformers.models.mamba2.modeling_mamba2 import mamba2_selective_state_update

    operands = {k: v for k, v in draw(seed).items() if k != "state_batch_indices"}
    operands["state"] = operands["state"][: operands["x"].shape[0]].clone()
    if operands["x"].dim() == 2:
        body = mamba_selective_state_update
        operands |= {k: operands[k].flatten(1) for k in ("B", "C")}
    else:
        body = mamba2_selective_state_update
        operands |= {k: operands[k] if operands[k].dim() == 3 else operands[k][:, None] for k in ("B", "C")}
    wanted, states = update(**operands)
    state, x = operands.pop("state"), operands.pop("x")
    with flopscan.counting() as counted:
        y = body(state, x, **operands)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, states, rtol=1e-4, atol=1e-4)
    assert counted.report.by_operator().keys() == {OP}
