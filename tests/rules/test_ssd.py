"""Mamba-2's scan: its recurrence against torch and its tally, the kernels' chunk form against a run tile by tile."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flopscan.core.tally import Num, Tally
from flopscan.rules.ssd_kernel import Tiles, executed_backward, executed_forward
from proving import numbers, prove
from rules.ssd_tiles import Kernels
from rules.ssd_tiles_backward import BackwardKernels

OPTIONAL = ("D", "z", "dt_bias", "initial_states", "seq_idx")
GRADIENTS = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_states")


def recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any = None, z: Any = None, dt_bias: Any = None,
    initial_states: Any = None, seq_idx: Any = None, dt_softplus: bool = False, dt_limit: Any = None, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The definition in torch, step by step."""
    dt = dt if dt_bias is None else dt + dt_bias
    dt = F.softplus(dt) if dt_softplus else dt
    dt = dt.clamp(*(dt_limit or (0.0, math.inf)))
    B, C = (m.repeat_interleave(x.shape[2] // m.shape[2], 2) for m in (B, C))
    S = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3]) if initial_states is None else initial_states
    ys = []
    for i in range(x.shape[1]):
        if seq_idx is not None:
            same = seq_idx[:, i] == (seq_idx[:, i - 1] if i else 0)
            S = S * same[:, None, None, None]
        decay = torch.exp(dt[:, i] * A)[..., None, None]
        S = decay * S + (dt[:, i, :, None] * x[:, i])[..., None] * B[:, i, :, None]
        ys.append((S * C[:, i, :, None]).sum(-1))
    y = torch.stack(ys, 1)
    if D is not None:
        y = y + x * (D[:, None] if D.dim() == 1 else D)
    return (y if z is None else y * F.silu(z)), S


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


SMALL = Tiles(side=4, least=2, inner=2, dot=2, wide=2)


def run(operands: dict[str, Any], tiles: Tiles, kernels: Any) -> tuple[Any, Tally[str]]:
    tally: Tally[str] = Tally()
    return kernels({k: numbers(v, tally) for k, v in operands.items()}, tiles, tally), tally


def tiled(seed: int) -> tuple[dict[str, Any], Tiles]:
    """Operands for the kernels, which take it that states decay: dt is not below zero."""
    operands = {k: v for k, v in draw(seed, 5).items() if k != "seq_idx"}
    low, high = operands["dt_limit"] or (0.0, math.inf)
    operands["dt_limit"] = (max(low, 0.0), high)
    operands["chunk_size"] = random.Random(seed).choice((1, 2, 3, 4, 5))
    return operands, SMALL if seed % 2 else Tiles(side=2, least=1, inner=1, dot=1, wide=4)


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
