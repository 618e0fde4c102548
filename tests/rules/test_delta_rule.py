"""The gated delta rule and KDA: the rules against their tallies, against autograd and against transformers."""

from __future__ import annotations

import importlib
import random
import types
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.core.ledger import Price
from flopscan.core.trace import Call, TensorSpec
from proving import prove

DOUBLE = {"dtype": torch.float64}


def unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def log_decay(x: Tensor, A_log: Tensor | None, dt_bias: Tensor | None, lower_bound: float | None) -> Tensor:
    if dt_bias is not None:
        x = x + dt_bias.view(x.shape[2:])
    rate = 1.0 if A_log is None else A_log.exp().view(-1, *[1] * (x.dim() - 3))
    if lower_bound is None:
        return -rate * F.softplus(x)
    return lower_bound * torch.sigmoid(rate * x)


def delta_rule(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor | None = None, beta: Tensor | None = None,
    initial_state: Tensor | None = None, A_log: Tensor | None = None, dt_bias: Tensor | None = None,
    scale: float | None = None, use_qk_l2norm_in_kernel: bool = False, use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False, use_gate_in_kernel: bool = False, lower_bound: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    heads = value.shape[2]
    query, key = (x.repeat_interleave(heads // x.shape[2], 2) for x in (query, key))
    if use_qk_l2norm_in_kernel:
        query, key = unit(query), unit(key)
    query = query * (scale or key.shape[-1] ** -0.5)
    if beta is not None and use_beta_sigmoid_in_kernel:
        beta = torch.sigmoid(beta) * (2 if allow_neg_eigval else 1)
    if decay is not None and use_gate_in_kernel:
        decay = log_decay(decay, A_log, dt_bias, lower_bound)
    state = query.new_zeros(len(query), heads, query.shape[-1], value.shape[-1])
    state = state if initial_state is None else initial_state
    out = []
    for i in range(query.shape[1]):
        if decay is not None:
            factor = decay[:, i].exp()
            state = state * (factor[..., None] if decay.dim() == 4 else factor[..., None, None])
        error = value[:, i] - torch.einsum("bhkv,bhk->bhv", state, key[:, i])
        if beta is not None:
            error = error * (beta[:, i, :, None] if beta.dim() == 3 else beta[:, i])
        state = state + torch.einsum("bhk,bhv->bhkv", key[:, i], error)
        out.append(torch.einsum("bhkv,bhk->bhv", state, query[:, i]))
    return torch.stack(out, 1), state


def case(seed: int, op: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Random operands and flags."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    b, l, g, k, v = (draw.randint(1, 3) for _ in range(5))
    h = g * draw.randint(1, 2)
    channels = (k,) if op == "kda" else ()
    inside = draw.random() < 0.5
    bounded = inside and op == "kda" and draw.random() < 0.5
    sizes: dict[str, tuple[int, ...]] = {"query": (b, l, g, k), "key": (b, l, g, k), "value": (b, l, h, v)}
    if op == "kda" or inside or draw.random() < 0.8:
        sizes["decay"] = (b, l, h, *channels)
    if draw.random() < 0.8:
        sizes["beta"] = (b, l, h)
    if draw.random() < 0.5:
        sizes["initial_state"] = (b, h, k, v)
    if inside and (not bounded or draw.random() < 0.5):
        sizes["A_log"] = (h,)
    if inside and draw.random() < 0.5:
        sizes["dt_bias"] = (h * (k if op == "kda" else 1),)
    flags: dict[str, Any] = {name: draw.random() < 0.5 for name in FLAGS}
    flags.update(use_gate_in_kernel=inside, lower_bound=-3.0 if bounded else None, scale=draw.choice((None, 0.7)))
    operands = {name: torch.randn(shape, **DOUBLE) for name, shape in sizes.items()}
    if not inside and "decay" in operands:
        operands["decay"] = -operands["decay"].abs()
    return operands, flags


FLAGS = ("use_qk_l2norm_in_kernel", "use_beta_sigmoid_in_kernel", "allow_neg_eigval")
NAMES = ("query", "key", "value", "decay", "beta", "initial_state", "A_log", "dt_bias")


@pytest.mark.parametrize("op", ["gated_delta_rule", "kda"])
@pytest.mark.parametrize("seed", range(25))
def test_the_formula_is_the_tally_of_the_recurrence(op: str, seed: int) -> None:
    operands, flags = case(seed, op)
    prove(f"flopscan::{op}", {**operands, **flags}, delta_rule(**operands, **flags))


@pytest.mark.parametrize("op", ["gated_delta_rule", "kda"])
@pytest.mark.parametrize("seed", range(25))
def test_the_formula_is_the_tally_of_the_gradients(op: str, seed: int) -> None:
    operands, flags = case(seed, op)
    for x in operands.values():
        x.requires_grad_()
    out, _ = delta_rule(**operands, **flags)
    grad = torch.randn_like(out)
    slopes = dict(zip(operands, torch.autograd.grad(out, list(operands.values()), grad), strict=True))
    real = {name: x.detach() for name, x in operands.items()}
    prove(f"flopscan::{op}_backward", {"grad": grad, **real, **flags}, tuple(slopes.get(n) for n in NAMES))


def price(op: str, operands: dict[str, Any]) -> Price:
    specs = {name: TensorSpec(x) if isinstance(x, tuple) else x for name, x in operands.items()}
    return price_call(Call(f"flopscan::{op}", specs, (specs["value"],)))


PLAIN: dict[str, Any] = {"query": (2, 64, 3, 128), "key": (2, 64, 3, 128), "value": (2, 64, 6, 128), "beta": (2, 64, 6)}
GATED = {**PLAIN, "decay": (2, 64, 6)}
CHANNELWISE = {**PLAIN, "decay": (2, 64, 6, 128)}
STEPS, STATES = 2 * 64 * 6, 2 * 64 * 6 * 128 * 128


def test_seven_flops_a_state_and_six_without_a_decay() -> None:
    gated, plain = price("gated_delta_rule", GATED).ideal, price("gated_delta_rule", PLAIN).ideal
    assert gated is not None and plain is not None
    around = 128 * STEPS + 128 * STEPS // 2  # beta, and the scale of the query
    assert gated.arithmetic() == {"fma": 3 * STATES, "mul": STATES + around, "exp": STEPS}
    assert plain.arithmetic() == {"fma": 3 * STATES, "mul": around}
    each_channel = price("kda", CHANNELWISE).ideal
    assert each_channel is not None
    assert each_channel.arithmetic() == {**gated.arithmetic(), "exp": 128 * STEPS}


def test_beta_may_be_one_a_value() -> None:
    wide = price("gated_delta_rule", {**GATED, "beta": (2, 64, 6, 128)})
    assert wide.ideal is not None
    assert wide.ideal.arithmetic() == price("gated_delta_rule", GATED).ideal.arithmetic()  # type: ignore[union-attr]


def test_a_wrong_decay_is_not_counted_and_says_why() -> None:
    priced = price("kda", GATED)
    assert priced.ideal is None
    assert "operand 'decay' is (2, 64, 6), expected 'b l h k'" in priced.note


# what fla-core 0.6.0 did in Triton's interpreter: the multiply-adds of every tl.dot, one chunk of one head
MEASURED = [
    ("gated_delta_rule", 64, 128, 128, {}, 5_636_096, 16_252_928),
    ("gated_delta_rule", 32, 128, 128, {}, 2_236_416, 6_094_848),
    ("gated_delta_rule", 64, 256, 128, {}, 10_158_080, 29_884_416),
    ("gated_delta_rule", 64, 64, 64, {}, 2_064_384, 6_291_456),
    ("kda", 64, 128, 128, {}, 5_177_344, 13_893_632),
    ("kda", 32, 128, 64, {}, 1_122_304, 3_014_656),
    ("kda", 64, 128, 64, {"safe_gate": True}, 3_342_336, 8_912_896),
    ("kda", 64, 128, 128, {"disable_recompute": True}, 5_177_344, 10_747_904),
]


@pytest.mark.parametrize(("op", "c", "k", "v", "flags", "forward", "backward"), MEASURED)
def test_executed_is_what_the_kernels_multiplied(
    op: str, c: int, k: int, v: int, flags: dict[str, Any], forward: int, backward: int
) -> None:
    h, l = 2, 3 * c - 1
    decay = (1, l, h, k) if op == "kda" else (1, l, h)
    operands: dict[str, Any] = {
        "query": (1, l, 1, k), "key": (1, l, 1, k), "value": (1, l, h, v), "decay": decay, "beta": (1, l, h),
        "chunk_size": c, **flags,
    }  # fmt: skip
    written_out = written_out_backward = 0
    if op == "kda" and not flags.get("safe_gate"):  # no tl.dot: sums over k of each pair in a diagonal block of 16
        written_out, written_out_backward = 2 * k * c // 16 * 136, 4 * k * c // 16 * 256
    substitution = c // 16 * 14 * 256
    executed = price(op, operands).executed
    assert executed is not None
    assert executed.fma == 3 * h * (forward + written_out + substitution)
    executed = price(f"{op}_backward", {"grad": operands["value"], **operands}).executed
    assert executed is not None
    assert executed.fma == 3 * h * (backward + written_out_backward)


def test_a_kernel_that_goes_step_by_step_executes_the_recurrence() -> None:
    priced = price("kda", CHANNELWISE)
    assert priced.ideal == priced.executed


def chunked(q: Tensor, v: Tensor, g: Tensor) -> Tensor:
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    out, last = chunk_gated_delta_rule(q, q, v, g, g, use_qk_l2norm_in_kernel=True, output_final_state=True)
    assert (last.shape, last.dtype) == ((2, 4, 8, 6), torch.float32)
    return out


def stepwise(q: Tensor, v: Tensor, g: Tensor) -> Tensor:
    from fla.ops import fused_recurrent_kda

    start = torch.zeros(2, 4, 6, 8, device=q.device)
    decay = g[..., None].expand(*g.shape, 8)
    out, last = fused_recurrent_kda(
        q, q, v, decay, g, initial_state=start, state_v_first=True, use_gate_in_kernel=True, A_log=g[0, 0]
    )
    assert last is None
    return out


def test_flas_functions_are_seen() -> None:
    shapes = ((2, 5, 2, 8), (2, 5, 4, 6), (2, 5, 4))
    operands = [torch.empty(shape, requires_grad=True) for shape in shapes]
    report = flopscan.count(chunked, *operands, backward=True, strict=True)
    operators = report.by_operator()
    states = 2 * 5 * 4 * 8 * 6
    assert operators["flopscan::gated_delta_rule"].cost.fma == 3 * states + 2 * 8 * (2 * 5 * 2)
    assert operators["flopscan::gated_delta_rule_backward"].calls == 1
    report = flopscan.count(stepwise, *shapes, strict=True)
    assert report.by_operator()["flopscan::kda"].cost.exp == 2 * 5 * 4 * 8 * 3 + 4  # e^decay, softplus, e^A_log


def test_decays_of_values_are_refused_in_words() -> None:
    from flopscan.rules.delta_seams import own

    with pytest.raises(ValueError, match="beside g have no formula"):
        own({"q": TensorSpec((1,)), "gv": TensorSpec((1,))})


class _Double:
    """torch, where float32 is float64: the bodies of transformers cast to float32 before anything else."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


BODIES = [
    ("qwen3_next", "torch_chunk_gated_delta_rule", "gated_delta_rule"),
    ("qwen3_next", "torch_recurrent_gated_delta_rule", "gated_delta_rule"),
    ("kimi_linear", "chunk_kimi_delta_attention", "kda"),
    ("kimi_linear", "recurrent_kimi_delta_attention", "kda"),
]


def body(model: str, name: str) -> Any:
    """The body in plain torch of a function of transformers, in double precision."""
    module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    function = getattr(module, name).__wrapped__
    known = {**function.__globals__, "torch": _Double()}
    known["l2norm"] = types.FunctionType(known["l2norm"].__code__, known, argdefs=known["l2norm"].__defaults__)
    return types.FunctionType(function.__code__, known, argdefs=function.__defaults__)


@pytest.mark.peers
@pytest.mark.parametrize(("model", "name", "op"), BODIES)
@pytest.mark.parametrize("norms", [False, True])
def test_the_recurrence_is_the_body_of_transformers(model: str, name: str, op: str, norms: bool) -> None:
    pytest.importorskip("transformers", minversion="5")
    torch.manual_seed(norms)
    b, l, h, k, v = 2, 5, 4, 3, 2
    g = 2 if op == "gated_delta_rule" else h
    operands = {
        "query": torch.randn(b, l, g, k, **DOUBLE), "key": torch.randn(b, l, g, k, **DOUBLE),
        "value": torch.randn(b, l, h, v, **DOUBLE), "g": -torch.rand(b, l, h, *(k,)[: op == "kda"], **DOUBLE),
        "beta": torch.rand(b, l, h, **DOUBLE), "initial_state": torch.randn(b, h, k, v, **DOUBLE),
    }  # fmt: skip
    for x in operands.values():
        x.requires_grad_()
    chunks = {"chunk_size": 4} if "chunk" in name else {}
    theirs = body(model, name)(**operands, output_final_state=True, use_qk_l2norm_in_kernel=norms, **chunks)
    grad = torch.randn_like(theirs[0])
    slopes = torch.autograd.grad(theirs[0], list(operands.values()), grad)
    ours = {"decay" if n == "g" else n: x.detach() for n, x in operands.items()}
    ours["use_qk_l2norm_in_kernel"] = norms  # type: ignore[assignment]
    tolerance = 1e-6 if name == "chunk_kimi_delta_attention" else 1e-9  # its decays are cast by .float()
    prove(f"flopscan::{op}", ours, theirs, tolerance)
    prove(f"flopscan::{op}_backward", {"grad": grad, **ours}, (*slopes, None, None), tolerance)


@pytest.mark.peers
@pytest.mark.parametrize(("model", "name", "op"), BODIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
def test_a_seam_gives_what_transformers_returns(model: str, name: str, op: str, dtype: torch.dtype, last: bool) -> None:
    pytest.importorskip("transformers", minversion="5")
    function = getattr(importlib.import_module(f"transformers.models.{model}.modeling_{model}"), name)
    seen: list[Any] = []

    def call(query: Tensor, value: Tensor, g: Tensor, beta: Tensor, run: Any = function) -> Tensor:
        out, state = run(query, query, value, g=g, beta=beta, initial_state=None, output_final_state=last, rest=1)
        seen.append([None if x is None else (x.shape, x.dtype) for x in (out, state)])
        return out

    k = (3,) if op == "kda" else ()
    operands = [torch.rand(shape, dtype=dtype) for shape in ((2, 5, 2, 3), (2, 5, 2, 4), (2, 5, 2, *k), (2, 5, 2))]
    report = flopscan.count(call, *operands, strict=True)
    call(*operands, run=function.__wrapped__)
    assert seen[0] == seen[1]
    assert report.by_operator()[f"flopscan::{op}"].cost.fma == 3 * 2 * 5 * 2 * 3 * 4
