"""The pieces of Mamba-2's scan: rules against their tallies, and together against the recurrence."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.compat import fused_signatures
from flopscan.core.trace import Call, TensorSpec
from graph_nodes import count, node
from proving import prove

b, c, q, h, p, g, n = 2, 3, 4, 4, 3, 2, 5
l = c * q


def operands(length: int = l) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    dt = F.pad(draw(b, length, h).exp(), (0, 0, 0, l - length)).view(b, c, q, h).permute(0, 3, 1, 2).contiguous()
    sums = (dt * -draw(h).exp().view(h, 1, 1)).cumsum(-1)
    return {
        "B": draw(b, length, g, n), "C": draw(b, length, g, n), "x": draw(b, length, h, p), "dt": dt, "dA_cumsum": sums,
        "D": draw(h, p), "z": draw(b, length, h, p), "prev_states": draw(b, c, h, p, n),
    }  # fmt: skip


def chunked(x: Tensor) -> Tensor:
    """b l . . as b c q . ., padded."""
    return F.pad(x, (0, 0, 0, 0, 0, l - x.shape[1])).unflatten(1, (c, q))


def states(B: Tensor, x: Tensor, dt: Tensor, dA_cumsum: Tensor) -> Tensor:
    decay = (dA_cumsum[..., -1:] - dA_cumsum).exp() * dt
    B = chunked(B).repeat_interleave(h // g, 3)
    return torch.einsum("bcqhn,bhcq,bcqhp->bchpn", B, decay, chunked(x))


def passed(states: Tensor, sums: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    state = torch.zeros_like(states[:, 0]) if initial is None else initial
    before = []
    for chunk in range(states.shape[1]):
        before.append(state)
        state = sums[:, :, chunk].exp().unsqueeze(-1) * state + states[:, chunk]
    return torch.stack(before, 1), state


def outputs(B: Tensor, C: Tensor, x: Tensor, dt: Tensor, sums: Tensor, before: Tensor, D: Any, z: Any) -> Tensor:
    B, C = (chunked(m).repeat_interleave(h // g, 3) for m in (B, C))
    decay = (sums.unsqueeze(-1) - sums.unsqueeze(-2)).exp() * dt.unsqueeze(-2)
    weights = (torch.einsum("bcthn,bcshn->bhcts", C, B) * decay).tril()
    y = torch.einsum("bhcts,bcshp->bcthp", weights, chunked(x))
    y = y + torch.einsum("bcthn,bchpn,bhct->bcthp", C, before, sums.exp())
    y = y.flatten(1, 2)
    if D is not None:
        y = y + x * (D if D.dim() == 2 else D.unsqueeze(-1))
    return y if z is None else y * F.silu(z)


@pytest.mark.parametrize("length", [l, l - 1, l - q + 1])
def test_the_states_of_chunks(length: int) -> None:
    given = {name: operands(length)[name] for name in ("B", "x", "dt", "dA_cumsum")}
    prove("flopscan::ssd_chunk_state", given, states(**given))


@pytest.mark.parametrize("initial", [True, False])
def test_the_passing_of_states(initial: bool) -> None:
    given = operands()
    flat, sums = given["prev_states"].flatten(3), given["dA_cumsum"][..., -1].contiguous()
    start = given["prev_states"][:, 0].flatten(2) * 2 if initial else None
    operand = {"states": flat, "dA_chunk_cumsum": sums, "initial_states": start}
    prove("flopscan::ssd_state_passing", operand, passed(flat, sums, start))


@pytest.mark.parametrize("without", [(), ("D",), ("z",), ("D", "z")])
@pytest.mark.parametrize("one_a_head", [True, False])
def test_the_outputs(without: tuple[str, ...], one_a_head: bool) -> None:
    given: dict[str, Any] = {name: None if name in without else value for name, value in operands().items()}
    if one_a_head and given["D"] is not None:
        given["D"] = given["D"][:, 0].contiguous()
    order = ("B", "C", "x", "dt", "dA_cumsum", "prev_states", "D", "z")
    prove("flopscan::ssd_chunk_scan", given, outputs(*(given[name] for name in order)))


def specs(**more: TensorSpec) -> dict[str, TensorSpec]:
    given = {name: TensorSpec(tuple(value.shape)) for name, value in operands().items()}
    return {**{k: given[k] for k in ("B", "C", "x", "dt", "dA_cumsum", "prev_states")}, **more}


def test_chunks_that_do_not_hold_the_sequence_are_not_counted() -> None:
    longer = {k: TensorSpec((b, l + 1, *v.shape[2:])) for k, v in specs().items() if k in ("B", "C", "x")}
    for op in ("ssd_chunk_scan", "ssd_chunk_state"):
        priced = price_call(Call(f"flopscan::{op}", specs(**longer)))
        assert priced.ideal is None
        assert "3 chunks of 4 steps (from 'dt') do not hold the 13 steps of 'x'" in priced.note


def test_together_they_take_less_than_the_recurrence_on_short_chunks() -> None:
    """1 of 2 mul a state is saved and products of pairs come instead: 2bl(h p n) against 2bl((q + 1)/2)(h p + g n)."""
    pieces = [price_call(Call(f"flopscan::{op}", specs())).ideal for op in ("ssd_chunk_state", "ssd_chunk_scan")]
    assert all(piece is not None for piece in pieces)
    fma = sum(piece.fma for piece in pieces if piece is not None)
    assert fma == b * l * (2 * h * p * n + h * p) + b * (l * (q + 1) // 2) * (g * n + h * p)


class ChunkScanFn(torch.autograd.Function):
    """As mamba_ssm declares it."""

    @staticmethod
    def forward(ctx, B, C, x, dt, dA_cumsum, prev_states, D=None, z=None):
        return torch.zeros_like(x)


class StatePassingFn(torch.autograd.Function):
    """As mamba_ssm declares it."""

    @staticmethod
    def forward(ctx, states, dA_chunk_cumsum, initial_states=None):
        return torch.zeros_like(states), states[:, 0] * 0


class ChunkStateFn(torch.autograd.Function):
    """As mamba_ssm declares it."""

    @staticmethod
    def forward(ctx, B, x, dt, dA_cumsum, states_in_fp32=True):
        return x.new_zeros(b, c, h, p, n)


def test_their_classes_have_handles() -> None:
    given = operands()
    names = ("B", "C", "x", "dt", "dA_cumsum", "prev_states")
    scan = node(lambda *a: ChunkScanFn.apply(*a, None, None), *(given[name] for name in names))
    flat, sums = given["prev_states"].flatten(3), given["dA_cumsum"][..., -1].contiguous()
    passing = node(lambda *a: StatePassingFn.apply(*a)[0], flat, sums)
    state = node(lambda *a: ChunkStateFn.apply(*a, True), *(given[name] for name in ("B", "x", "dt", "dA_cumsum")))
    for values, op in ((scan, "chunk_scan"), (passing, "state_passing"), (state, "chunk_state")):
        expected = specs() if op != "state_passing" else {
            "states": TensorSpec(tuple(flat.shape)), "dA_chunk_cumsum": TensorSpec(tuple(sums.shape)),
        }  # fmt: skip
        price = price_call(Call(f"flopscan::ssd_{op}", expected)).ideal
        assert price is not None
        assert count(values, convention="macs") == price.fma
    assert {"ChunkScanFn", "ChunkStateFn", "StatePassingFn"} <= fused_signatures.binders().keys()


@pytest.mark.packages
def test_the_package_computes_the_same() -> None:
    given = operands()
    with flopscan.stand_ins():
        modules = {
            name: importlib.import_module(f"mamba_ssm.ops.triton.ssd_{name}")
            for name in ("chunk_state", "state_passing", "chunk_scan")
        }
    four = [given[name] for name in ("B", "x", "dt", "dA_cumsum")]
    torch.testing.assert_close(modules["chunk_state"].chunk_state_ref(*four), states(*four))
    order = ("B", "C", "x", "dt", "dA_cumsum", "prev_states", "D", "z")
    given["prev_states"] = states(*four)
    theirs = modules["chunk_scan"].chunk_scan_ref(*(given[name] for name in order))
    torch.testing.assert_close(theirs, outputs(*(given[name] for name in order)))
    flat, sums = given["prev_states"].flatten(3), given["dA_cumsum"][..., -1].contiguous()
    for mine, other in zip(
        passed(flat, sums, None), modules["state_passing"].state_passing_ref(flat, sums), strict=True
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.packages
def test_a_scan_that_calls_them_is_counted_piece_by_piece() -> None:
    with flopscan.stand_ins():
        scan = importlib.import_module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan

    def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Any:
        return scan(x, dt, A, B, C, chunk_size=q)

    shapes = (b, l, h, p), (b, l, h), (h,), (b, l, g, n), (b, l, g, n)
    report = flopscan.count(run, *shapes, strict=True)
    assert {op for op in report.by_operator() if op.startswith("flopscan::")} == {
        "flopscan::ssd_chunk_state", "flopscan::ssd_state_passing", "flopscan::ssd_chunk_scan",
    }  # fmt: skip
    trained = flopscan.count(run, *(torch.empty(s, requires_grad=True) for s in shapes), backward=True)
    assert {row.op for row in trained.uncounted} == {
        f"flopscan::ssd_{piece}_backward" for piece in ("chunk_state", "state_passing", "chunk_scan")
    }
