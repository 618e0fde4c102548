"""The fused norms of Mamba's package against torch and their tallies."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules.gated_norm import gated_rms_norm, gated_rms_norm_backward
from flopscan.rules.residual_norm import residual_rms_norm, residual_rms_norm_backward
from proving import prove

EPS = 1e-5


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def statistics(x: Tensor, group_size: int, rms: bool) -> tuple[Tensor | None, Tensor]:
    """Mean and one over the standard deviation, as the kernel keeps them: by group, then by row."""
    groups = x.detach().reshape(-1, x.shape[-1] // group_size, group_size)
    mean = torch.zeros_like(groups[..., :1]) if rms else groups.mean(-1, keepdim=True)
    rstd = torch.rsqrt((groups - mean).square().mean(-1) + EPS)
    return None if rms else mean[..., 0].T.flatten(), rstd.T.flatten()


def normalized(x: Tensor, group_size: int, rms: bool) -> Tensor:
    groups = x.unflatten(-1, (-1, group_size))
    groups = groups if rms else groups - groups.mean(-1, keepdim=True)
    return (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + EPS)).flatten(-2)


def gated(
    x: Tensor, weight: Tensor, bias: Any = None, z: Any = None, group_size: Any = None, norm_before_gate: bool = True,
    is_rms_norm: bool = True, **_: Any,
) -> Tensor:  # fmt: skip
    if z is not None and not norm_before_gate:
        x = x * F.silu(z)
    y = normalized(x, group_size or x.shape[-1], is_rms_norm) * weight
    y = y if bias is None else y + bias
    return y * F.silu(z) if z is not None and norm_before_gate else y


def draw_gated(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    size, groups = rng.randint(1, 4), rng.randint(1, 3)
    lead, m = [rng.randint(1, 3) for _ in range(rng.randint(1, 2))], size * groups
    optional = {"bias": rand(m), "z": rand(*lead, m)}
    return {
        "x": rand(*lead, m), "weight": rand(m), **{k: v for k, v in optional.items() if rng.random() < 0.6},
        "group_size": size if groups > 1 or rng.random() < 0.5 else None, "eps": EPS,
        "norm_before_gate": rng.random() < 0.5, "is_rms_norm": rng.random() < 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_gated_norm(seed: int) -> None:
    operands = draw_gated(seed)
    prove("flopscan::gated_rms_norm", operands, gated(**operands), 1e-12)


def gradients(y: Tensor, leaves: dict[str, Tensor], grad: Tensor) -> dict[str, Tensor]:
    return dict(zip(leaves, torch.autograd.grad((y * grad).sum(), list(leaves.values())), strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_the_gradients_of_the_gated_norm(seed: int) -> None:
    operands = draw_gated(seed)
    leaves = {k: operands[k].clone().requires_grad_() for k in ("x", "weight", "bias", "z") if k in operands}
    y = gated(**{**operands, **leaves})
    grad = torch.randn_like(y)
    found = gradients(y, leaves, grad)
    operands["recompute_output"] = seed % 3 == 0
    x, z = operands["x"], operands.get("z")
    inner = x if z is None or operands["norm_before_gate"] else x * F.silu(z)
    mean, rstd = statistics(inner, operands["group_size"] or x.shape[-1], operands["is_rms_norm"])
    expected: list[Any] = [found.get(name) for name in ("x", "weight", "bias", "z")]
    expected += [y.detach()] if operands["recompute_output"] else []
    prove("flopscan::gated_rms_norm_backward", {"grad": grad, **operands, "mean": mean, "rstd": rstd}, expected, 1e-10)


def residual(
    x: Tensor, weight: Tensor, bias: Any = None, residual: Any = None, x1: Any = None, weight1: Any = None,
    bias1: Any = None, rowscale: Any = None, is_rms_norm: bool = False, **_: Any,
) -> tuple[Any, ...]:  # fmt: skip
    x = x if rowscale is None else x * rowscale[:, None]
    x = x if x1 is None else x + x1
    x = x if residual is None else x + residual
    xhat = normalized(x, x.shape[-1], is_rms_norm)
    y1 = None if weight1 is None else xhat * weight1 + (0.0 if bias1 is None else bias1)
    return xhat * weight + (0.0 if bias is None else bias), y1, x


def draw_residual(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    r, m = rng.randint(1, 4), rng.randint(1, 4)
    optional = {"bias": rand(m), "residual": rand(r, m), "x1": rand(r, m), "weight1": rand(m), "rowscale": rand(r)}
    given = {k: v for k, v in optional.items() if rng.random() < 0.5}
    if "weight1" in given and "bias" in given:
        given["bias1"] = rand(m)
    return {
        "x": rand(r, m), "weight": rand(m), **given, "eps": EPS, "dropout_p": rng.choice((0.0, 1e-18)),
        "is_rms_norm": rng.random() < 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_norm_of_a_residual(seed: int) -> None:
    operands = draw_residual(seed)
    prove("flopscan::residual_norm", operands, residual(**operands), 1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_the_gradients_of_the_norm_of_a_residual(seed: int) -> None:
    operands = draw_residual(seed)
    names = ("x", "weight", "bias", "residual", "x1", "weight1", "bias1")
    leaves = {k: operands[k].clone().requires_grad_() for k in names if k in operands}
    y, y1, inner = residual(**{**operands, **leaves})
    grad, dy1 = torch.randn_like(y), None if y1 is None else torch.randn_like(y1)
    dresidual = torch.randn_like(y) if seed % 2 else None
    loss = (y * grad).sum() + (0.0 if y1 is None else (y1 * dy1).sum())
    loss = loss + (0.0 if dresidual is None else (inner * dresidual).sum())
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    mean, rstd = statistics(inner, inner.shape[-1], operands["is_rms_norm"])
    given = {
        **operands, "x": inner.detach(), "grad": grad, "dy1": dy1, "dresidual": dresidual, "mean": mean, "rstd": rstd,
        "has_residual": "residual" in operands, "has_x1": "x1" in operands,
        "recompute_output": y1 is None and seed % 3 == 0,
    }  # fmt: skip
    expected: list[Any] = [found.get(name) for name in names]
    expected += [y.detach()] if given["recompute_output"] else []
    prove("flopscan::residual_norm_backward", given, expected, 1e-10)


def test_groups_that_do_not_divide_a_row_are_not_counted() -> None:
    x = TensorSpec((3, 8))
    priced = price_call(Call("flopscan::gated_rms_norm", {"x": x, "weight": TensorSpec((8,)), "group_size": 3}, (x,)))
    assert priced.note == "flopscan::gated_rms_norm: rows of 8 do not divide into groups of 3"


HALF = torch.bfloat16


def layout(results: Any) -> list[Any]:
    return [None if t is None else (tuple(t.shape), t.dtype) for t in results]


@pytest.mark.parametrize("rms", [False, True])
def test_the_gated_functions_below_autograd(rms: bool) -> None:
    def run(x: Tensor, weight: Tensor, bias: Tensor, z: Tensor) -> Tensor:
        from mamba_ssm.ops.triton import layernorm_gated as package

        options = {"group_size": 4, "norm_before_gate": False, "is_rms_norm": rms}
        y, mean, rstd = package._layer_norm_fwd(x, weight, bias, EPS, z=z, **options)
        kept = ((12,), torch.float32)
        assert layout((y, mean, rstd)) == [((6, 8), HALF), None if rms else kept, kept]
        more = {"recompute_output": True, **options}
        found = package._layer_norm_bwd(y, x, weight, bias, EPS, mean, rstd, z, **more)
        assert layout(found) == [((6, 8), HALF), ((8,), HALF), ((8,), HALF), ((6, 8), HALF), ((6, 8), HALF)]
        return y  # type: ignore[no-any-return]

    specs = [torch.empty(shape, dtype=HALF) for shape in ((6, 8), (8,), (8,), (6, 8))]
    report = flopscan.count(run, *specs, strict=True)
    forward, backward = (report.by_operator()[f"flopscan::gated_rms_norm{kind}"].cost for kind in ("", "_backward"))
    assert forward.arithmetic() == gated_rms_norm(6, 8, frozenset({"bias", "z"}), 4, rms).arithmetic()
    wanted = gated_rms_norm_backward(6, 8, frozenset({"bias", "z"}), 4, False, rms, True)
    assert backward.arithmetic() == wanted.arithmetic()


def test_the_gated_functions_with_a_gradient() -> None:
    def run(x: Tensor, weight: Tensor, z: Tensor) -> Tensor:
        from mamba_ssm.ops.triton.layernorm_gated import layernorm_fn, rmsnorm_fn

        return layernorm_fn(rmsnorm_fn(x, weight, None, z), weight, None)  # type: ignore[no-any-return]

    specs = [torch.empty(shape, requires_grad=True) for shape in ((2, 3, 8), (8,), (2, 3, 8))]
    operators = flopscan.count(run, *specs, backward=True, strict=True).by_operator()
    none, z = frozenset[str](), frozenset({"z"})
    wanted = gated_rms_norm(6, 8, z) + gated_rms_norm(6, 8, none, is_rms_norm=False)
    assert operators["flopscan::gated_rms_norm"].cost.arithmetic() == wanted.arithmetic()
    wanted = gated_rms_norm_backward(6, 8, z) + gated_rms_norm_backward(6, 8, none, is_rms_norm=False)
    assert operators["flopscan::gated_rms_norm_backward"].cost.arithmetic() == wanted.arithmetic()


def test_the_functions_of_a_residual_below_autograd() -> None:
    def run(x: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
        from mamba_ssm.ops.triton import layer_norm as package

        results = package._layer_norm_fwd(
            x, weight, weight, EPS, residual, x, weight, dropout_p=0.5, is_rms_norm=True, return_dropout_mask=True
        )
        y, wide, mask = ((6, 8), HALF), ((6, 8), torch.float32), ((6, 8), torch.bool)
        assert layout(results) == [y, y, None, ((6,), torch.float32), wide, ((12,), torch.int64), mask, mask]
        _, _, mean, rstd, inner, seeds, *_ = results
        found = package._layer_norm_bwd(
            x, inner, weight, weight, EPS, mean, rstd, inner, x, weight, None, seeds, 0.5, has_residual=True,
            has_x1=True, is_rms_norm=True, x_dtype=HALF,
        )  # fmt: skip
        parameter = ((8,), HALF)
        assert layout(found) == [y, parameter, parameter, wide, y, parameter, None]
        plain = package._layer_norm_fwd(x, weight, None, EPS)
        statistics = ((6,), torch.float32)
        assert layout(plain) == [y, None, statistics, statistics, y, None, None, None]
        return results[0]  # type: ignore[no-any-return]

    specs = [torch.empty(s, dtype=t) for s, t in (((6, 8), HALF), ((8,), HALF), ((6, 8), torch.float32))]
    report = flopscan.count(run, *specs, strict=True)
    forward, backward = (report.by_operator()[f"flopscan::residual_norm{kind}"].cost for kind in ("", "_backward"))
    given = frozenset({"bias", "residual", "x1", "weight1"})
    wanted = residual_rms_norm(6, 8, given, 0.5, True) + residual_rms_norm(6, 8, frozenset())
    assert forward.arithmetic() == wanted.arithmetic()
    given = frozenset({"bias", "dresidual", "dy1", "weight1"})
    assert backward.arithmetic() == residual_rms_norm_backward(6, 8, given, 0.5, True, True).arithmetic()
