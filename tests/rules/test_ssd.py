"""Mamba-2's scan: its recurrence against torch and its tally, the kernels' chunk form against a run tile by tile."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.tally import Num, Tally
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules.ssd import ssd
from flopscan.rules.ssd_backward import ssd_backward
from flopscan.rules.ssd_kernel import KERNELS, Tiles, executed_backward, executed_forward
from proving import numbers, prove
from rules.ssd_definition import recurrence
from rules.ssd_tiles import Kernels
from rules.ssd_tiles_backward import BackwardKernels

OPTIONAL = ("D", "z", "dt_bias", "initial_states", "seq_idx")
GRADIENTS = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_states")


def draw(seed: int, most: int = 3) -> dict[str, Any]:
    """Operands of random sizes, those that may be absent there or not."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    b, g, l, p, n = (rng.randint(1, k) for k in (2, 2, 2 * most, most, most))
    h = g * rng.randint(1, 2)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64)

    optional = {
        "D": rand(h, p) if rng.random() < 0.5 else rand(h), "z": rand(b, l, h, p), "dt_bias": rand(h),
        "initial_states": rand(b, h, p, n), "seq_idx": torch.randint(0, 2, (b, l)).sort(1).values,
    }  # fmt: skip
    return {
        "x": rand(b, l, h, p), "dt": rand(b, l, h), "A": -rand(h).exp(), "B": rand(b, l, g, n), "C": rand(b, l, g, n),
        **{name: value for name, value in optional.items() if rng.random() < 0.6},
        "dt_softplus": rng.random() < 0.5, "chunk_size": rng.choice((1, 2, 4)),
        "dt_limit": rng.choice((None, (0.1, math.inf), (0.2, 0.9), (-math.inf, 0.7))),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_formula_is_the_tally_of_the_recurrence(seed: int) -> None:
    operands = draw(seed)
    prove("flopscan::ssd", operands, recurrence(**operands), 1e-12)


def gradients(operands: dict[str, Any], with_final: bool) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
    """The operands with gradients of the results, what torch makes of them, and the output."""
    leaves = {k: v.clone().requires_grad_() for k, v in operands.items() if k in GRADIENTS}
    y, last = recurrence(**{**operands, **leaves})
    given = {"grad": torch.randn_like(y), **({"dfinal_states": torch.randn_like(last)} if with_final else {})}
    loss = (y * given["grad"]).sum() + (last * given.get("dfinal_states", torch.zeros_like(last))).sum()
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    return {**operands, **given}, found, y.detach()


@pytest.mark.parametrize("seed", range(30))
def test_the_backward_formula_is_the_tally_of_the_recurrence(seed: int) -> None:
    operands, found, y = gradients(draw(seed), with_final=seed % 2 > 0)
    expected: list[Any] = [found.get(name) for name in GRADIENTS]
    if seed % 3 == 0 and "z" in operands:
        operands["recompute_output"] = True
        expected.append(y)
    prove("flopscan::ssd_backward", operands, expected, 1e-12)


TILES = (
    Tiles(m=4, n=4, k=2, dot=2, wide=2, least=2), Tiles(m=2, n=2, k=1, dot=1, wide=4, least=1),
    Tiles(m=4, n=2, k=2, dot=2, wide=4, least=None), Tiles(m=2, n=4, k=1, dot=2, wide=2, least=None),
)  # fmt: skip


def run(operands: dict[str, Any], tiles: Tiles, kernels: Any) -> tuple[Any, Tally[str]]:
    tally: Tally[str] = Tally()
    return kernels({k: numbers(v, tally) for k, v in operands.items()}, tiles, tally), tally


def tiled(seed: int) -> tuple[dict[str, Any], Tiles]:
    """Operands for the kernels, which take it that states decay: dt is not below zero."""
    operands = {k: v for k, v in draw(seed, 5).items() if k != "seq_idx"}
    low, high = operands["dt_limit"] or (0.0, math.inf)
    operands["dt_limit"] = (max(low, 0.0), high)
    operands["chunk_size"] = random.Random(seed).choice((1, 2, 3, 4, 5))
    return operands, TILES[seed % len(TILES)]


def sizes(operands: dict[str, Any]) -> dict[str, Any]:
    (b, l, h, p), (g, n) = operands["x"].shape, operands["B"].shape[2:]
    named = {"b": b, "l": l, "h": h, "p": p, "g": g, "n": n, "chunk_size": operands["chunk_size"]}
    given = frozenset(k for k, v in operands.items() if isinstance(v, Tensor))
    return {**named, "given": given, "dt_softplus": operands["dt_softplus"]}


@pytest.mark.parametrize("seed", range(12))
def test_the_chunk_form_is_the_tally_of_its_tiles(seed: int) -> None:
    operands, tiles = tiled(seed)
    kernels, tally = run(operands, tiles, Kernels)
    out, final = kernels.forward()
    y, last = recurrence(**operands)
    for index in itertools.product(*map(range, y.shape)):
        b, i, h, p = index
        c, i = divmod(i, operands["chunk_size"])
        assert float(out[b, c, h, i, p]) == pytest.approx(float(y[index]), abs=1e-9)
    for index, value in final.items():
        assert float(value) == pytest.approx(float(last[index]), abs=1e-9)
    assert executed_forward(**sizes(operands), tiles=tiles).arithmetic() == {k: v for k, v in tally.items() if v}


@pytest.mark.parametrize("seed", range(12))
def test_the_chunk_form_of_the_gradients_is_the_tally_of_its_tiles(seed: int) -> None:
    operands, tiles = tiled(seed)
    operands, expected, y = gradients(operands, with_final=seed % 2 > 0)
    operands["recompute_output"] = seed % 3 == 0
    kept, _ = run(operands, tiles, Kernels)
    kept.forward()
    kernels, tally = run(operands, tiles, BackwardKernels)
    results = kernels.backward({k: Num(float(v), tally) for k, v in kept.outputs()[0].items()})
    if operands["recompute_output"] and "z" in operands:
        expected["out"] = y
    for name, wanted in expected.items():
        flat = wanted.sum(1) if name == "D" and wanted.dim() == 2 else wanted
        for index in itertools.product(*map(range, flat.shape)):
            assert at(results[name], name, index, operands) == pytest.approx(float(flat[index]), abs=1e-9), name
    cost = executed_backward(**sizes(operands), recompute_output=operands["recompute_output"], tiles=tiles)
    assert cost.arithmetic() == {k: v for k, v in tally.items() if v}


def at(grid: dict[Any, Any], name: str, index: tuple[int, ...], operands: dict[str, Any]) -> float:
    """An element of a result of the kernels, which have steps by chunk; D's gradient summed over channels."""
    if name == "D":
        return sum(float(v) for (h, p), v in grid.items() if h == index[0] and p < operands["x"].shape[3])
    if name in ("x", "z", "dt", "B", "C", "out"):
        b, i, *rest = index
        c, i = divmod(i, operands["chunk_size"])
        return float(grid[(b, c, rest[0], i, *rest[1:])])
    return float(grid[index[0] if len(index) == 1 else index])


def price(op: str, l: int, h: int, p: int, g: int, n: int, q: int, **more: Any) -> tuple[Cost, Cost]:
    """The ideal and the executed cost of a batch of one, nothing optional there."""
    x, dt, B = TensorSpec((1, l, h, p)), TensorSpec((1, l, h)), TensorSpec((1, l, g, n))
    found = price_call(
        Call(op, {"grad": x, "x": x, "dt": dt, "A": TensorSpec((h,)), "B": B, "C": B, "chunk_size": q, **more})
    )
    assert found.ideal is not None and found.executed is not None, found.note
    return found.ideal, found.executed


def flops(cost: Cost) -> int:
    return int(2 * cost.fma + cost.add + cost.mul + cost.div + cost.sqrt)


def test_five_flops_a_state_and_the_chunk_form_of_a_large_model() -> None:
    l, h, p, g, n, q, tile = 2048, 80, 64, 1, 128, 256, 64
    elements, chunks = l * h * p * n, l // q
    ideal, executed = price("flopscan::ssd", l, h, p, g, n, q)
    assert ideal.arithmetic() == {"mul": elements + l * h * (p + 1), "fma": 2 * elements, "exp": l * h, "cmp": l * h}
    causal, scores, passing = Fraction(q + tile, n), Fraction(2 * q * g, h * p), Fraction(2, q)
    assert Fraction(2 * executed.fma, elements) == 4 + causal + scores + passing
    _, executed = price("flopscan::ssd_backward", l, h, p, g, n, q)
    back = passing * Fraction(chunks - 1, chunks)
    assert Fraction(2 * executed.fma, elements) == 10 + 3 * causal + 3 * scores + passing + back


def test_every_kernel_cuts_by_its_own_tiles() -> None:
    """With every kernel's tiles known those assumed do not matter; with one kernel's, only that kernel changes."""
    known, assumed = TILES[0], TILES[1]
    for seed, executed in itertools.product(range(4), (executed_forward, executed_backward)):
        named = sizes(tiled(seed)[0])
        everywhere = executed(**named, tiles=known)
        assert executed(**named, tiles=assumed, known=dict.fromkeys(KERNELS, known)) == everywhere
        steps = [executed(**named, tiles=assumed, known=dict.fromkeys(list(KERNELS)[:k], known)) for k in range(15)]
        assert (steps[0], steps[-1]) == (executed(**named, tiles=assumed), everywhere)
        changes = [after.fma - before.fma for before, after in itertools.pairwise(steps)]
        for kernel, change in zip(KERNELS, changes, strict=True):
            alone = executed(**named, tiles=assumed, known={kernel: known}).fma - steps[0].fma
            assert alone == change


def test_short_chunks_of_large_states_take_fewer_flops_than_the_recurrence() -> None:
    ideal, executed = price("flopscan::ssd", 512, 8, 64, 1, 256, 32)
    assert flops(executed) < flops(ideal)
    ideal, executed = price("flopscan::ssd", 512, 8, 64, 1, 32, 256)
    assert flops(executed) > flops(ideal)


def test_operands_that_do_not_fit_are_not_counted_and_say_why() -> None:
    x, dt, B = TensorSpec((1, 4, 3, 2)), TensorSpec((1, 4, 3)), TensorSpec((1, 4, 2, 5))
    operands = {"x": x, "dt": dt, "A": TensorSpec((3,)), "B": B, "C": B, "chunk_size": 2}
    priced = price_call(Call("flopscan::ssd", operands))
    assert priced.ideal is None and "axis g is 2, which does not divide h, 3 in 'x'" in priced.note
    priced = price_call(Call("flopscan::ssd", {**operands, "C": TensorSpec((1, 5, 2, 5))}))
    assert "axis l is 5 in 'C' and 4 in 'x'" in priced.note


SHAPES = {
    "x": (2, 10, 4, 8), "dt": (2, 10, 4), "A": (4,), "B": (2, 10, 2, 3), "C": (2, 10, 2, 3), "D": (4, 8),
    "z": (2, 10, 4, 8), "dt_bias": (4,), "initial_states": (2, 4, 8, 3),
}  # fmt: skip


def inputs(*names: str) -> list[Tensor]:
    return [torch.empty(SHAPES[name], dtype=torch.bfloat16, requires_grad=True) for name in names]


def test_the_function_of_the_package_on_shapes() -> None:
    def run(*tensors: Tensor) -> Tensor:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        x, dt, A, B, C, D, z, dt_bias, start = tensors
        out, last = mamba_chunk_scan_combined(
            x, dt, A, B, C, 4, D=D, z=z, dt_bias=dt_bias, initial_states=start, dt_softplus=True,
            dt_limit=(0.0, 1.0), return_final_states=True,
        )  # fmt: skip
        assert (out.shape, out.dtype, last.shape, last.dtype) == (x.shape, x.dtype, start.shape, torch.float32)
        return out  # type: ignore[no-any-return]

    report = flopscan.count(run, *inputs(*SHAPES), backward=True, strict=True)
    operators = report.by_operator()
    assert [operators[f"flopscan::ssd{kind}"].calls for kind in ("", "_backward")] == [1, 1]
    options = {"dt_softplus": True, "dt_limit": (0.0, 1.0), "given": frozenset(SHAPES)}
    named = dict(zip("blhpgn", (2, 10, 4, 8, 2, 3), strict=True))
    assert operators["flopscan::ssd"].cost.arithmetic() == ssd(**named, **options).arithmetic()
    assert operators["flopscan::ssd_backward"].cost.arithmetic() == ssd_backward(**named, **options).arithmetic()


@pytest.mark.parametrize("gated", [False, True])
def test_the_functions_below_autograd_give_what_the_package_gives(gated: bool) -> None:
    def run(*tensors: Tensor) -> Tensor:
        from mamba_ssm.ops.triton import ssd_combined as package

        x, dt, A, B, C, D, z, dt_bias, start = tensors
        more = {"D": D, "z": z if gated else None, "dt_bias": dt_bias, "initial_states": start}
        results = package._mamba_chunk_scan_combined_fwd(x, dt, A, B, C, chunk_size=4, **more)
        out, before, steps, running, states, last = results
        assert (before is None) != gated
        assert steps.shape == running.shape == (2, 4, 3, 4)
        assert (states.shape, states.dtype) == ((2, 3, 4, 8, 3), torch.bfloat16)
        assert [t.dtype for t in (out, steps, running, last)] == [torch.bfloat16, *[torch.float32] * 3]
        grads = package._mamba_chunk_scan_combined_bwd(
            out, x, dt, A, B, C, before, 4, **more, dfinal_states=last, recompute_output=True
        )
        wanted = [x, dt, A, B, C, D, z if gated else None, dt_bias, start, x]
        assert [g is None for g in grads] == [w is None for w in wanted]
        assert [g.shape for g in grads if g is not None] == [w.shape for w in wanted if w is not None]
        in_float32 = [g.dtype is torch.float32 for g in grads if g is not None]
        assert in_float32 == [w is A or w is dt_bias for w in wanted if w is not None]
        return out  # type: ignore[no-any-return]

    report = flopscan.count(run, *inputs(*SHAPES), strict=True)
    backward = report.by_operator()["flopscan::ssd_backward"].cost
    given = frozenset({*SHAPES} - (set() if gated else {"z"}))
    wanted = ssd_backward(2, 10, 4, 8, 2, 3, given, recompute_output=True)
    assert backward.arithmetic() == wanted.arithmetic()


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(8))
def test_the_body_that_transformers_has_computes_the_same(seed: int) -> None:
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    operands = {k: v for k, v in draw(seed).items() if k not in ("z", "seq_idx")}
    if operands.get("D") is not None and operands["D"].dim() == 2:
        operands["D"] = operands["D"][:, 0].contiguous()
    wanted, last = recurrence(**operands)
    limit = operands.pop("dt_limit") or (0.0, math.inf)
    with flopscan.counting() as counted:
        out, final = mamba2_chunk_scan(operands.pop("x"), **operands, dt_limit=limit, return_final_states=True)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final.double(), last, rtol=1e-4, atol=1e-4)
    assert counted.report.by_operator().keys() == {"flopscan::ssd"}


@pytest.mark.peers
def test_a_model_of_transformers_counts_the_scan_on_shapes_and_for_real() -> None:
    from transformers import Mamba2Config, Mamba2Model

    config = Mamba2Config(
        vocab_size=8,
        hidden_size=16,
        state_size=4,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=8,
        n_groups=2,
        chunk_size=8,
    )
    ids = torch.zeros(1, 12, dtype=torch.long)
    on_shapes = flopscan.count(Mamba2Model(config), ids, backward=True, training=True, strict=True).by_operator()
    assert [on_shapes[f"flopscan::ssd{kind}"].calls for kind in ("", "_backward")] == [2, 2]
    real = flopscan.count(Mamba2Model(config).eval(), ids, run=True).by_operator()
    assert real["flopscan::ssd"].cost.arithmetic() == on_shapes["flopscan::ssd"].cost.arithmetic()
