"""Mamba's fused blocks: the sum of their parts against torch, against their tally and against a model without them."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
import flopscan.api
from flopscan import rules
from flopscan.analysis import price_call
from flopscan.core.composite import Composite
from flopscan.core.cost import Cost, total
from flopscan.core.trace import Call, TensorSpec
from proving import prove
from rules.ssd_definition import recurrence

INNER = "flopscan::mamba_inner"


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any, z: Tensor, bias: Any) -> Tensor:
    """The selective scan with softplus; B and C of one group, or constant."""
    delta = F.softplus(delta if bias is None else delta + bias[:, None])
    B, C = (m[:, 0] if m.dim() == 4 else m.expand(len(u), -1, -1)[..., None] for m in (B, C))
    h, ys = u.new_zeros(*u.shape[:2], A.shape[1]), []
    for i in range(u.shape[2]):
        b, c = (m[..., i][:, None] if m.dim() == 3 else m[..., 0] for m in (B, C))
        h = torch.exp(delta[..., i, None] * A) * h + (delta[..., i] * u[..., i])[..., None] * b
        ys.append((h * c).sum(-1))
    y = torch.stack(ys, -1)
    return (y if D is None else y + D[:, None] * u) * F.silu(z)


def normalized(x: Tensor, weight: Any) -> Tensor:
    """Over the features, which are the second axis from the right."""
    if weight is None:
        return x
    return x * torch.rsqrt(x.square().mean(-2, keepdim=True) + 1e-6) * weight[:, None]


def inner(
    xz: Tensor, conv1d_weight: Tensor, x_proj_weight: Tensor, delta_proj_weight: Tensor, A: Tensor,
    conv1d_bias: Any = None, out_proj_weight: Any = None, out_proj_bias: Any = None, A_b: Any = None, B: Any = None,
    C: Any = None, D: Any = None, delta_bias: Any = None, B_proj_bias: Any = None, C_proj_bias: Any = None,
    b_rms_weight: Any = None, c_rms_weight: Any = None, dt_rms_weight: Any = None, **_: Any,
) -> Tensor:  # fmt: skip
    x, z = xz.chunk(2, 1)
    w, n, r = conv1d_weight.shape[2], A.shape[1], delta_proj_weight.shape[1]
    u = F.silu(F.conv1d(F.pad(x, (w - 1, 0)), conv1d_weight, conv1d_bias, groups=x.shape[1]))
    x_dbl = x_proj_weight @ u
    delta = normalized(delta_proj_weight @ x_dbl[:, :r], dt_rms_weight)

    def states(found: Tensor, bias: Any, weight: Any) -> Tensor:
        return normalized(found if bias is None else found + bias[:, None], weight)[:, None]

    B = states(x_dbl[:, r : r + n], B_proj_bias, b_rms_weight) if B is None else B
    C = states(x_dbl[:, -n:], C_proj_bias, c_rms_weight) if C is None else C
    y = scan(u, delta, A, B, C, D, z, delta_bias)
    if A_b is not None:
        back = [m.flip(-1) if m.dim() > 2 else m for m in (B, C)]
        y = y + scan(u.flip(-1), delta.flip(-1), A_b, *back, D, z.flip(-1), delta_bias).flip(-1)
    return y if out_proj_weight is None else F.linear(y.mT, out_proj_weight, out_proj_bias)


def draw_inner(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    b, d, l, n, r, m = (rng.randint(1, 3) for _ in range(6))
    w, constant = rng.choice((2, 3, 4)), {k: rand(d, n) for k in ("B", "C") if rng.random() < 0.2}
    optional = {"conv1d_bias": rand(d), "D": rand(d), "delta_bias": rand(d), "A_b": -rand(d, n).exp()}
    optional |= {f"{k}_proj_bias": rand(n) for k in ("B", "C") if k not in constant}
    if rng.random() < 0.7:
        optional["out_proj_bias"] = rand(m)
    optional |= {f"{k.lower()}_rms_weight": rand(n) for k in ("B", "C") if k not in constant}
    optional["dt_rms_weight"] = rand(d)
    chosen = {k: v for k, v in optional.items() if rng.random() < 0.5}
    if "out_proj_bias" in optional:
        chosen["out_proj_weight"] = rand(m, d)
    return {
        "xz": rand(b, 2 * d, l), "conv1d_weight": rand(d, 1, w), "x_proj_weight": rand(r + n * (2 - len(constant)), d),
        "delta_proj_weight": rand(d, r), "A": -rand(d, n).exp(), **constant, **chosen, "delta_softplus": True,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_parts_of_the_block_are_the_tally_of_its_definition(seed: int) -> None:
    operands = draw_inner(seed)
    prove(INNER, operands, inner(**operands), 1e-12)


GRADIENTS = (
    "xz", "conv1d_weight", "x_proj_weight", "delta_proj_weight", "A", "conv1d_bias", "out_proj_weight",
    "out_proj_bias", "A_b", "B", "C", "D", "delta_bias", "B_proj_bias", "C_proj_bias",
    "b_rms_weight", "c_rms_weight", "dt_rms_weight",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_parts_of_its_gradients_are_the_tally_of_theirs(seed: int) -> None:
    operands = draw_inner(seed)
    leaves = {k: operands[k].clone().requires_grad_() for k in GRADIENTS if k in operands}
    y = inner(**{**operands, **leaves})
    grad = torch.randn_like(y)
    found = dict(zip(leaves, torch.autograd.grad((y * grad).sum(), list(leaves.values())), strict=True))
    operands |= {"grad": grad, "checkpoint_lvl": seed % 2}
    prove(f"{INNER}_backward", operands, [found.get(name) for name in GRADIENTS], 1e-12)


def test_what_the_package_computes_again_is_executed_and_not_ideal() -> None:
    operands = {name: TensorSpec(INNER_SHAPES[name]) for name in PLAIN}
    grad = {"grad": TensorSpec((2, 5, 7)), "delta_softplus": True}
    kept, again = (
        price_call(Call(f"{INNER}_backward", {**grad, **operands, "checkpoint_lvl": level})) for level in (0, 1)
    )
    assert kept.ideal == again.ideal is not None
    assert kept.executed is not None and again.executed is not None
    x = TensorSpec((2, 16, 5))
    convolution = {"x": x, "weight": TensorSpec((16, 4)), "bias": TensorSpec((16,)), "activation": "silu"}
    first = price_call(Call("flopscan::causal_conv1d", convolution, (x,)))
    assert first.ideal is not None
    more = (first.executed or first.ideal).arithmetic()
    found = {k: v - kept.executed.arithmetic().get(k, 0) for k, v in again.executed.arithmetic().items()}
    assert {k: v for k, v in found.items() if v} == {**more, "fma": more["fma"] + 16 * 3 * 10}


def test_the_second_block_computes_its_convolution_and_its_output_again() -> None:
    operands = {name: TensorSpec(SPLIT_SHAPES[name]) for name in SPLIT_SHAPES}
    options = {"chunk_size": 4, "headdim": 8, "ngroups": 2}
    call = Call(f"{SPLIT}_backward", {"grad": TensorSpec((2, 6, 10)), **operands, **options})
    ideal, composite = price_call(call).ideal, rules.find(call.op)
    assert isinstance(composite, Composite) and ideal is not None
    again = run_by_the_package(call.op, dict(call.args)).arithmetic()
    more = {k: v - ideal.arithmetic().get(k, 0) for k, v in again.items()}
    convolved, normalized = 2 * 6 * 48, 2 * 6 * (32 + 3)  # the latter with the unit beside
    assert {k: v for k, v in more.items() if v} == {
        "fma": convolved * 4, "exp": convolved, "add": convolved, "div": convolved, "mul": normalized,
    }  # fmt: skip


SPLIT = "flopscan::mamba_split"


def split(
    zxbcdt: Tensor, conv1d_weight: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, conv1d_bias: Any = None,
    initial_states: Any = None, dt_limit: Any = None, activation: Any = "silu", rmsnorm_weight: Any = None,
    outproj_weight: Any = None, outproj_bias: Any = None, headdim: Any = None, ngroups: int = 1,
    norm_before_gate: bool = True, **_: Any,
) -> Tensor:  # fmt: skip
    c, w = conv1d_weight.shape
    h, p = D.shape if D.dim() == 2 else (len(D), headdim)
    k = (zxbcdt.shape[2] - h * p - c - h) // 2
    beside, z, xbc, dt = zxbcdt.split([2 * k, h * p, c, h], -1)
    xbc = F.conv1d(F.pad(xbc.mT, (w - 1, 0)), conv1d_weight[:, None], conv1d_bias, groups=c).mT
    xbc = F.silu(xbc) if activation else xbc
    x, B, C = xbc.split([h * p, (c - h * p) // 2, (c - h * p) // 2], -1)
    B, C = (m.unflatten(-1, (ngroups, -1)) for m in (B, C))
    heads = z.unflatten(-1, (h, p)) if rmsnorm_weight is None else None
    y, _last = recurrence(x.unflatten(-1, (h, p)), dt, A, B, C, D, heads, dt_bias, initial_states, None, True, dt_limit)
    y = y.flatten(-2)
    if rmsnorm_weight is not None:
        y = y if norm_before_gate else y * F.silu(z)
        groups = y.unflatten(-1, (ngroups, -1))
        y = (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + 1e-6)).flatten(-2) * rmsnorm_weight
        y = y * F.silu(z) if norm_before_gate else y
    first, second = beside.chunk(2, -1)
    y = torch.cat([F.silu(first) * second, y], -1) if k else y
    return y if outproj_weight is None else F.linear(y, outproj_weight, outproj_bias)


def draw_split(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    b, l, p, n, g, m = (rng.randint(1, k) for k in (2, 4, 3, 3, 2, 3))
    h, k, w = g * rng.randint(1, 2), rng.choice((0, 0, 2)), rng.choice((2, 3, 4))
    c, dim = h * p + 2 * g * n, h * p
    optional = {
        "conv1d_bias": rand(c), "initial_states": rand(b, h, p, n), "rmsnorm_weight": rand(dim),
        "outproj_weight": rand(m, k + dim), "outproj_bias": rand(m),
    }  # fmt: skip
    chosen = {name: v for name, v in optional.items() if rng.random() < 0.6}
    if "outproj_weight" not in chosen:
        chosen.pop("outproj_bias", None)
    whole = rng.random() < 0.5
    return {
        "zxbcdt": rand(b, l, 2 * k + dim + c + h), "conv1d_weight": rand(c, w), "dt_bias": rand(h),
        "A": -rand(h).exp(), "D": rand(h, p) if whole else rand(h), **chosen, "headdim": None if whole else p,
        "ngroups": g, "chunk_size": 4, "norm_before_gate": rng.random() < 0.5,
        "dt_limit": rng.choice((None, (0.1, 1.0))), "activation": rng.choice(("silu", "swish")),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_parts_of_the_second_block_are_the_tally_of_its_definition(seed: int) -> None:
    operands = draw_split(seed)
    prove(SPLIT, operands, split(**operands), 1e-12)


SPLIT_GRADIENTS = (
    "zxbcdt", "conv1d_weight", "dt_bias", "A", "D", "conv1d_bias", "initial_states", "rmsnorm_weight",
    "outproj_weight", "outproj_bias",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_parts_of_the_gradients_of_the_second_are_the_tally_of_theirs(seed: int) -> None:
    operands = draw_split(seed)
    leaves = {k: operands[k].clone().requires_grad_() for k in SPLIT_GRADIENTS if k in operands}
    y = split(**{**operands, **leaves})
    grad = torch.randn_like(y)
    found = dict(zip(leaves, torch.autograd.grad((y * grad).sum(), list(leaves.values())), strict=True))
    operands = {"grad": grad, **operands}
    prove(f"{SPLIT}_backward", operands, [found.get(name) for name in SPLIT_GRADIENTS], 1e-12)


@pytest.mark.parametrize("recompute_output", [False, True])
def test_the_gated_unit(recompute_output: bool) -> None:
    torch.manual_seed(0)
    xy = rand(2, 3, 8).requires_grad_()
    out = F.silu(xy[..., :4]) * xy[..., 4:]
    prove("flopscan::swiglu", {"xy": xy.detach()}, out.detach())
    grad = torch.randn_like(out)
    expected = [torch.autograd.grad((out * grad).sum(), xy)[0], *([out.detach()] if recompute_output else [])]
    operands = {"grad": grad, "xy": xy.detach(), "recompute_output": recompute_output}
    prove("flopscan::swiglu_backward", operands, expected)


def run_by_the_package(op: str, operands: dict[str, Any]) -> Cost:
    """The sum of what ``op`` consists of in the package, with what it computes again."""
    composite = rules.find(op)
    assert isinstance(composite, Composite)
    prices = [price_call(part) for part in (composite.runs or composite.parts)(Call(op, operands))]
    return total((price.ideal, 1) for price in prices if price.ideal is not None)


def inside_of(trace: Any, op: str) -> set[str]:
    """The operators that were recorded directly inside ``op``."""
    frames = [i for i, frame in enumerate(trace.frames) if trace.calls[frame.call].op == op]
    return {trace.calls[r.call].op for r in trace.records if r.inside in frames and not r.envelope}


def arithmetic(trace: Any) -> dict[str, Cost]:
    """What was recorded forward and backward, ideal."""
    costs = {"forward": Cost(), "backward": Cost()}
    for record in trace.records:
        if not record.envelope:
            price = price_call(trace.calls[record.call])
            assert price.ideal is not None, price.note
            costs[record.phase] += price.ideal * record.count
    return costs


def products(cost_by_operator: dict[str, Any]) -> int:
    """The multiply-adds of matrix products."""
    names = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm")
    return sum(row.cost.fma for op, row in cost_by_operator.items() if op in names)


INNER_SHAPES = {
    "xz": (2, 32, 5), "conv1d_weight": (16, 1, 4), "conv1d_bias": (16,), "x_proj_weight": (11, 16),
    "delta_proj_weight": (16, 3), "out_proj_weight": (7, 16), "out_proj_bias": (7,), "A": (16, 4), "A_b": (16, 4),
    "D": (16,), "delta_bias": (16,), "B_proj_bias": (4,), "C_proj_bias": (4,), "b_rms_weight": (4,),
    "c_rms_weight": (4,), "dt_rms_weight": (16,),
}  # fmt: skip
PLAIN = [name for name in INNER_SHAPES if name != "A_b" and not name.endswith(("proj_bias", "rms_weight"))]


def tensors(shapes: dict[str, Any], names: list[str]) -> list[Tensor]:
    """Operands with gradients, except the bias that the package cannot differentiate."""
    return [torch.empty(shapes[name], requires_grad=name != "out_proj_bias") for name in names]


@pytest.mark.parametrize("level", [0, 1])
def test_the_block_of_a_missing_package_counts_the_projections_of_a_plain_model(level: int) -> None:
    def fused(*operands: Tensor) -> Tensor:
        from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn

        y = mamba_inner_fn(**dict(zip(PLAIN, operands, strict=True)), out_proj_bias=None, checkpoint_lvl=level)
        assert y.shape == (2, 5, 7)
        return y  # type: ignore[no-any-return]

    def plainly(xz: Tensor, x_proj: Tensor, dt_proj: Tensor, out_proj: Tensor) -> Tensor:
        x_dbl = F.linear(xz[:, :16].mT.reshape(10, 16), x_proj)
        dt = F.linear(x_dbl[:, :3], dt_proj)
        return F.linear(dt, out_proj).sum() + x_dbl.sum()

    report = flopscan.count(fused, *tensors(INNER_SHAPES, PLAIN), backward=True, strict=True)
    operators = report.by_operator()
    assert {k.removeprefix("flopscan::"): v.calls for k, v in operators.items() if k.startswith("flopscan::")} == {
        "causal_conv1d": 1 + level, "causal_conv1d_backward": 1, "selective_scan": 1, "selective_scan_backward": 1,
    }  # fmt: skip
    names = ["xz", "x_proj_weight", "delta_proj_weight", "out_proj_weight"]
    plain_report = flopscan.count(plainly, *tensors(INNER_SHAPES, names), backward=True, strict=True)
    again = 16 * 3 * 10 if level else 0
    assert products(operators) == products(plain_report.by_operator()) + again


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="the package is there")
def test_the_block_without_its_last_product_and_the_one_in_two_directions() -> None:
    def none(*operands: Tensor) -> Tensor:
        from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn_no_out_proj

        names = [name for name in PLAIN if name != "out_proj_weight"]
        return mamba_inner_fn_no_out_proj(**dict(zip(names, operands, strict=True)))  # type: ignore[no-any-return]

    def both(*operands: Tensor) -> Tensor:
        from mamba_ssm.ops.selective_scan_interface import bimamba_inner_fn

        named = dict(zip([*PLAIN, "A_b"], operands, strict=True))
        return bimamba_inner_fn(**named, out_proj_bias=None)  # type: ignore[no-any-return]

    one = flopscan.count(none, *tensors(INNER_SHAPES, [n for n in PLAIN if n != "out_proj_weight"]), backward=True)
    two = flopscan.count(both, *tensors(INNER_SHAPES, [*PLAIN, "A_b"]), backward=True, strict=True)
    assert not one.uncounted
    calls = {k: (one.by_operator()[k].calls, two.by_operator()[k].calls) for k in ("flopscan::selective_scan",)}
    assert calls == {"flopscan::selective_scan": (1, 2)}
    assert two.by_operator()["flopscan::selective_scan_backward"].calls == 2
    assert products(two.by_operator()) - products(one.by_operator()) == 3 * 10 * 16 * 7


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="the package is there")
def test_a_class_of_a_missing_package_is_applied_as_its_function_is_called() -> None:
    shapes = [INNER_SHAPES[name] for name in PLAIN if name != "out_proj_weight"]

    def by_class(*operands: Tensor) -> Tensor:
        from mamba_ssm.ops.selective_scan_interface import MambaInnerFnNoOutProj

        *first, D, bias = operands
        return MambaInnerFnNoOutProj.apply(*first, None, None, D, bias)  # type: ignore[no-any-return]

    report = flopscan.count(by_class, *map(torch.empty, shapes), strict=True)
    assert report.by_operator()["flopscan::selective_scan"].calls == 1


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="the package is there")
def test_a_block_whose_operands_do_not_fit_is_uncounted_and_says_why() -> None:
    def wrong(*operands: Tensor) -> Tensor:
        from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn

        return mamba_inner_fn(**dict(zip(PLAIN, operands, strict=True)), out_proj_bias=None)  # type: ignore[no-any-return]

    shapes = {**INNER_SHAPES, "x_proj_weight": (10, 16)}
    report = flopscan.count(wrong, *tensors(shapes, PLAIN))
    assert [(row.op, "has 10 rows, expected 11" in row.reason) for row in report.uncounted] == [(INNER, True)]


def test_a_block_with_complex_states() -> None:
    spec = TensorSpec
    operands = {name: spec(shape) for name, shape in INNER_SHAPES.items() if name in PLAIN}
    operands |= {"A": spec((16, 4), "complex64"), "x_proj_weight": spec((3 + 2 * 8, 16))}
    priced = price_call(Call(INNER, operands))
    scan_call = Call(
        "flopscan::selective_scan",
        {
            "u": spec((2, 16, 5)), "delta": spec((2, 16, 5)), "A": operands["A"], "B": spec((2, 1, 4, 10)),
            "C": spec((2, 1, 4, 10)), "D": spec((16,)), "z": spec((2, 16, 5)), "delta_bias": spec((16,)),
        },
    )  # fmt: skip
    scanned = price_call(scan_call).ideal
    assert priced.ideal is not None and scanned is not None, priced.note
    rest = 10 * 16 * (4 + 19 + 3 + 7)
    assert priced.ideal.fma == scanned.fma + rest
    assert priced.ideal.trig == scanned.trig > 0


def test_operands_that_do_not_fit_say_why() -> None:
    operands = {name: TensorSpec(shape) for name, shape in INNER_SHAPES.items() if name in PLAIN}
    priced = price_call(Call(INNER, {**operands, "x_proj_weight": TensorSpec((10, 16))}))
    assert priced.ideal is None
    assert "'x_proj_weight' has 10 rows, expected 11: 3 for dt and 4 each for those of B and C" in priced.note
    names = ("conv1d_weight", "dt_bias", "A", "D")
    sizes = dict(zip(names, ((20, 4), (2,), (2,), (2, 8)), strict=True))
    split_operands = {name: TensorSpec(shape) for name, shape in sizes.items()}
    priced = price_call(Call(SPLIT, {"zxbcdt": TensorSpec((1, 4, 39)), **split_operands, "chunk_size": 4}))
    assert "do not fit 2 heads of 8 channels in 1 groups" in priced.note


SPLIT_SHAPES = {
    "zxbcdt": (2, 6, 2 * 3 + 64 + 16 + 4), "conv1d_weight": (48, 4), "conv1d_bias": (48,), "dt_bias": (4,), "A": (4,),
    "D": (4,), "rmsnorm_weight": (32,), "outproj_weight": (10, 35), "outproj_bias": (10,),
    "initial_states": (2, 4, 8, 4),
}  # fmt: skip


def test_the_second_block_of_a_missing_package_counts_its_parts() -> None:
    def fused(*operands: Tensor) -> Tensor:
        from mamba_ssm.ops.triton.ssd_combined import mamba_split_conv1d_scan_combined

        named = dict(zip(SPLIT_SHAPES, operands, strict=True))
        out, last = mamba_split_conv1d_scan_combined(
            **named, chunk_size=4, headdim=8, ngroups=2, return_final_states=True
        )
        assert (out.shape, last.shape) == ((2, 6, 10), (2, 4, 8, 4))
        return out  # type: ignore[no-any-return]

    report = flopscan.count(fused, *tensors(SPLIT_SHAPES, list(SPLIT_SHAPES)), backward=True, strict=True)
    operators = report.by_operator()
    assert {k.removeprefix("flopscan::"): v.calls for k, v in operators.items() if k.startswith("flopscan::")} == {
        "causal_conv1d": 2, "causal_conv1d_backward": 1, "ssd": 1, "ssd_backward": 1, "gated_rms_norm": 1,
        "gated_rms_norm_backward": 1, "swiglu": 1, "swiglu_backward": 1,
    }  # fmt: skip
    assert products(operators) == 3 * 12 * 10 * 35


@pytest.mark.packages
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    "more", [[], ["out_proj_bias"], ["B_proj_bias", "C_proj_bias"], ["b_rms_weight", "dt_rms_weight"]]
)
def test_the_parts_are_what_the_package_dispatches(level: int, more: list[str]) -> None:
    with flopscan.stand_ins():
        from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn

    names = [*PLAIN, *more]

    def fused(*operands: Tensor) -> Tensor:
        named = {"out_proj_bias": None, **dict(zip(names, operands, strict=True))}
        return mamba_inner_fn(**named, checkpoint_lvl=level)  # type: ignore[no-any-return]

    trace = flopscan.api.trace_of(fused, *tensors(INNER_SHAPES, names), backward=True, training=True)
    found = arithmetic(trace)
    operands = {name: TensorSpec(INNER_SHAPES[name]) for name in names}
    operands |= {"delta_softplus": True, "checkpoint_lvl": level}  # type: ignore[dict-item]
    for phase, op, grad in (("forward", INNER, {}), ("backward", f"{INNER}_backward", {"grad": TensorSpec((2, 5, 7))})):
        wanted = run_by_the_package(op, {**grad, **operands})
        surplus = 7 - 1 if phase == "backward" and "out_proj_bias" in more else 0  # the package sums to one number
        assert found[phase].arithmetic() == (wanted + Cost(add=surplus)).arithmetic()
    assert "flopscan::selective_scan" in inside_of(trace, INNER)


@pytest.mark.packages
@pytest.mark.parametrize("without", [[], ["outproj_bias"], ["initial_states"], ["conv1d_bias"]])
@pytest.mark.parametrize("norm_before_gate", [False, True])
def test_the_parts_of_the_second_are_what_the_package_dispatches(without: list[str], norm_before_gate: bool) -> None:
    with flopscan.stand_ins():
        from mamba_ssm.ops.triton.ssd_combined import mamba_split_conv1d_scan_combined

    names = [name for name in SPLIT_SHAPES if name not in without]
    options = {"chunk_size": 4, "headdim": 8, "ngroups": 2, "norm_before_gate": norm_before_gate}

    def fused(*operands: Tensor) -> Tensor:
        named = {"conv1d_bias": None, **dict(zip(names, operands, strict=True))}
        return mamba_split_conv1d_scan_combined(**named, **options)  # type: ignore[no-any-return]

    trace = flopscan.api.trace_of(fused, *tensors(SPLIT_SHAPES, names), backward=True, training=True)
    found = arithmetic(trace)
    operands = {name: TensorSpec(SPLIT_SHAPES[name]) for name in names} | options  # type: ignore[operator]
    for phase, op, grad in (
        ("forward", SPLIT, {}),
        ("backward", f"{SPLIT}_backward", {"grad": TensorSpec((2, 6, 10))}),
    ):
        assert found[phase].arithmetic() == run_by_the_package(op, {**grad, **operands}).arithmetic()
    assert inside_of(trace, SPLIT) >= {"flopscan::ssd", "flopscan::gated_rms_norm", "flopscan::swiglu"}
