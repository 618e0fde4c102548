"""One scan under every convention of the field, by hand."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flopscan
from flopscan import conventions
from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from golden import vmamba

B, D, L, N = 2, 6, 5, 16
STATES, STEPS = B * D * L * N, B * D * L


def scan(*given: str, op: str = "flopscan::selective_scan") -> Call:
    steps, state = TensorSpec((B, D, L)), TensorSpec((B, N, L))
    operands = {"u": steps, "delta": steps, "A": TensorSpec((D, N)), "B": state, "C": state, "delta_softplus": True}
    optional = {"D": TensorSpec((D,)), "z": steps, "delta_bias": TensorSpec((D,))}
    return Call(op, {**operands, **{k: optional[k] for k in given}}, (steps,))


@pytest.mark.parametrize(
    ("name", "bare", "with_skip_and_gate"),
    [
        ("gu", 9 * STATES, 9 * STATES),
        ("vmamba", 9 * STATES, 9 * STATES + 2 * STEPS),
        ("vmamba-v0", 7 * STATES // 2, 7 * STATES // 2 + STEPS),
        ("localvim", 5 * STATES + 2 * STEPS, 5 * STATES + 2 * STEPS),
        ("megatron", 7 * STATES, 7 * STATES),
        ("nemo", 2 * STATES, 2 * STATES),
        ("dispatcher", 2 * STATES, 2 * STATES),
        ("fvcore", 0, 0),
    ],
)
def test_forward(name: str, bare: int, with_skip_and_gate: int) -> None:
    convention = conventions.get(name)
    assert convention.of(scan(), None) == bare
    assert convention.of(scan("D", "z", "delta_bias"), None) == with_skip_and_gate


def test_backward_is_twice_where_a_convention_has_one() -> None:
    for name, factor in (("gu", 18), ("megatron", 14), ("nemo", 4)):
        assert conventions.get(name).of(scan(op="flopscan::selective_scan_backward"), None) == factor * STATES


@pytest.mark.parametrize(
    ("name", "published"), [("vmamba_tiny_v0", 4.461), ("vmamba_small_v0", 9.112), ("vmamba_base_v0", 15.194)]
)
def test_the_papers_first_totals(name: str, published: float) -> None:
    """VMamba's README of January 2024 said 4.5, 9.1 and 15.2 G; a month later 5.6, 11.2 and 18.0."""
    assert round(vmamba.counted(name).under("vmamba_v0") / 1e9, 3) == published


def test_the_dispatcher_sees_what_torchs_counter_reported() -> None:
    # FlopCounterMode on VMamba-T with its scan in plain PyTorch: 9.625 G, nothing of the scan, since n is 1
    assert vmamba.counted("vmamba_tiny").under("dispatcher") == 2 * 4_812_621_312


def test_a_report_shows_its_scans_side_by_side() -> None:
    scan = vmamba.counted("vmamba_tiny_v0").scan
    assert scan is not None
    assert (scan.calls, scan.states, scan.steps) == (15, 211_943_424, 13_246_464)
    rows = {row.convention: row for row in scan.rows}
    assert rows["vmamba"].value == 9 * scan.states + scan.steps
    assert rows["vmamba"].total == 5_626_902_528
    assert rows["gu"].value.unit == "FLOP"
    assert "fvcore" not in rows
    assert flopscan.count(lambda x: x * 2, (3,)).scan is None


# Mamba-2: b=2, l=10, h=4 heads of p=3 channels, g=2 groups, n=5 states, in chunks of q=4, so three of them
SIZES = {"x": (2, 10, 4, 3), "dt": (2, 10, 4), "A": (4,), "B": (2, 10, 2, 5), "C": (2, 10, 2, 5)}
TOKENS = 2 * 10 * (4 * 3) * 5


def call(op: str, shapes: dict[str, tuple[int, ...]], **more: Any) -> Call:
    specs = {name: TensorSpec(shape) for name, shape in shapes.items()}
    return Call(f"flopscan::{op}", {**specs, **more}, (next(iter(specs.values())),))


@pytest.mark.parametrize(
    ("name", "forward"),
    [
        ("megatron", 7 * TOKENS),
        ("nemo", 2 * TOKENS),
        # per batch and head: 3 chunks of 4x4x5 and 4x4x3, of 4x5x3 twice, and 4x4 boundaries of 3x5
        ("dispatcher", 2 * 2 * 4 * (3 * (4 * 4 * 5 + 4 * 4 * 3 + 2 * 4 * 5 * 3) + 4 * 4 * 3 * 5)),
        ("fvcore", 0),
    ],
)
def test_mamba_2(name: str, forward: int) -> None:
    convention = conventions.get(name)
    assert convention.of(call("ssd", SIZES, chunk_size=4), None) == forward
    assert convention.of(call("ssd_backward", {"grad": (2, 10, 4, 3), **SIZES}, chunk_size=4), None) == 2 * forward


def test_an_einsum_over_one_is_no_product() -> None:
    dispatcher = conventions.get("dispatcher")
    one_state = {**SIZES, "B": (2, 10, 2, 1), "C": (2, 10, 2, 1)}
    assert dispatcher.of(call("ssd", one_state, chunk_size=4), None) == 16 * (3 * (4 * 4 * 3 + 4 * 3) + 4 * 4 * 3)
    assert dispatcher.of(call("ssd", SIZES, chunk_size=1), None) == 16 * (10 * (5 + 5 * 3) + 11 * 11 * 3 * 5)


@pytest.mark.parametrize(("name", "factor"), [("megatron", 7), ("nemo", 2), ("dispatcher", 2), ("fvcore", 0)])
def test_a_decoding_step(name: str, factor: int) -> None:
    convention = conventions.get(name)
    heads = call("selective_state_update", {"state": (2, 4, 3, 5), "x": (2, 4, 3)})
    cache = call("selective_state_update", {"state": (9, 6, 5), "x": (2, 6)})  # of nine sequences two take a step
    assert convention.of(heads, None) == factor * 2 * 4 * 3 * 5
    assert convention.of(cache, None) == factor * 2 * 6 * 5


CONVOLUTION = {"x": (2, 6, 10), "weight": (6, 4), "bias": (6,)}


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("dispatcher", 2 * 2 * 6 * 13 * 4, 2 * 2 * 2 * 6 * 13 * 4),
        ("fvcore", 0, 0),
        ("vmamba", 2 * 6 * 10 * 4, 0),
        ("vmamba-v0", 2 * 6 * 10 * 4, 0),
        ("localvim", 2 * 6 * 10 * 4, 0),
        ("megatron", 0, 0),
        ("nemo", 0, 0),
        ("gu", 2 * 2 * 6 * 10 * 4, 2 * 2 * 2 * 6 * 10 * 4),
    ],
)
def test_the_causal_convolution(name: str, forward: int, backward: int) -> None:
    convention = conventions.get(name)
    calls = call("causal_conv1d", CONVOLUTION), call("causal_conv1d_backward", {"grad": (2, 6, 10), **CONVOLUTION})
    assert [convention.of(c, price_call(c).ideal) for c in calls] == [forward, backward]


@pytest.mark.parametrize(
    ("name", "forward"),
    [("vmamba", 480), ("vmamba-v0", 480), ("localvim", 480), ("megatron", 0), ("nemo", 0), ("gu", 960)],
)
def test_the_package_own_operators_are_the_causal_convolution_too(name: str, forward: int) -> None:
    x, weight = TensorSpec((2, 6, 10)), TensorSpec((6, 4))
    operands = {"x": x, "weight": weight, "out": x, "silu_activation": True}
    convention = conventions.get(name)
    called = Call("DaoAILab::_causal_conv1d_fwd_cpp", operands)
    assert convention.of(called, price_call(called).ideal) == forward
    step = {**operands, "x": TensorSpec((2, 6)), "conv_state": TensorSpec((2, 6, 4))}
    assert convention.of(Call("DaoAILab::_causal_conv1d_update_cpp", step), Cost(fma=48)) == forward // 10
    own = {**operands, "activation": "silu", "conv_state": TensorSpec((2, 6, 4))}
    assert convention.of(Call("flopscan::causal_conv1d_update", own), Cost(fma=480)) == forward
    gradients = {**operands, "dout": x, "dx": x, "dweight": weight}
    called = Call("DaoAILab::_causal_conv1d_bwd_cpp", gradients)
    backward = convention.of(called, price_call(called).ideal)
    assert backward == (0 if convention.phases or not forward else 3 * forward)  # SiLU's operand is made again


def test_the_dispatcher_sees_the_states_before_a_convolution() -> None:
    step = {**CONVOLUTION, "x": (2, 6, 1), "initial_states": (2, 6, 4)}
    assert conventions.get("dispatcher").of(call("causal_conv1d", step), None) == 2 * 2 * 6 * 2 * 4


@pytest.mark.parametrize("name", ["megatron", "nemo"])
def test_depthwise_convolutions_are_left_out_backward_too(name: str) -> None:
    model = nn.Sequential(nn.Conv1d(6, 6, 4, groups=6, padding=3), nn.Conv1d(6, 2, 3))
    dense = 2 * 2 * 11 * 2 * 6 * 3  # 2 per multiply-add, 2 sequences, 11 positions
    x = torch.empty(2, 6, 10, requires_grad=True)
    assert flopscan.count(model, x).under(name) == dense
    assert flopscan.count(model, x, backward=True).under(name) == 3 * dense


# b=2, l=10, g=2, h=4, k=3, v=5
DELTA = {"query": (2, 10, 2, 3), "key": (2, 10, 2, 3), "value": (2, 10, 4, 5), "beta": (2, 10, 4)}
GATED, CHANNELWISE = {**DELTA, "decay": (2, 10, 4)}, {**DELTA, "decay": (2, 10, 4, 3)}


def test_delta_rules_by_their_products() -> None:
    dispatcher = conventions.get("dispatcher")
    through = 3 * 4 * 3 * 5  # three products with the state, of 4 by 3 by 5
    gated, channelwise = 3 * (4 * 4 * (2 * 3 + 5) + through), 3 * (4 * 4 * (3 + 2 * 5) + through)
    forward = [call("gated_delta_rule", GATED, chunk_size=4), call("kda", CHANNELWISE, chunk_size=4)]
    assert [dispatcher.of(c, None) for c in forward] == [16 * gated, 16 * channelwise]
    solves, ends = 3 * 4 * 4 * (3 + 5), 4 * 4 * 3 * 5
    backward = [Call(f"{c.op}_backward", {"grad": c["value"], **c.args}, c.outputs) for c in forward]
    assert [dispatcher.of(c, None) for c in backward] == [
        16 * (2 * gated + solves - ends),
        16 * (2 * channelwise - ends),
    ]
    started = Call(backward[0].op, {**backward[0].args, "initial_state": TensorSpec((2, 4, 3, 5))}, backward[0].outputs)
    assert dispatcher.of(started, None) == 16 * (2 * gated + solves - ends // 2)


def test_delta_rules_step_by_step_have_no_product() -> None:
    for op, operands in (("gated_delta_rule", GATED), ("kda", CHANNELWISE)):
        for form in (op, f"{op}_backward"):
            assert conventions.get("dispatcher").of(call(form, operands), None) == 0


def test_megatrons_gated_delta_rule() -> None:
    megatron = conventions.get("megatron")
    assert megatron.of(call("gated_delta_rule", GATED), None) == 8 * 2 * 10 * 4 * 5 * 5
    assert megatron.of(call("gated_delta_rule_backward", GATED), None) == 16 * 2 * 10 * 4 * 5 * 5


def test_an_element_wise_scan_has_no_product() -> None:
    operands = {"A": (2, 5, 3, 2), "X": (2, 5, 3, 2)}
    for op in ("pscan", "pscan_backward"):
        priced = call(op, {"grad": (2, 5, 3, 2), **operands})
        assert conventions.get("dispatcher").of(priced, price_call(priced).ideal) == 0


def slow(model: str, name: str) -> Any:
    module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    return getattr(module, name).__wrapped__


def counted(function: Any, *operands: torch.Tensor, **more: Any) -> list[int]:
    """FlopCounterMode on a slow path, forward and backward from its output."""
    with FlopCounterMode(display=False) as forward:
        result = function(*operands, **more)
    out = result[0] if isinstance(result, tuple) else result
    with FlopCounterMode(display=False) as backward:
        out.backward(torch.ones_like(out))
    return [forward.get_total_flops(), backward.get_total_flops()]


def seen(op: str, operands: dict[str, torch.Tensor], **more: Any) -> list[int]:
    forward = call(op, {name: tuple(x.shape) for name, x in operands.items()}, **more)
    backward = Call(f"{forward.op}_backward", forward.args, forward.outputs)
    return [conventions.get("dispatcher").of(c, None) for c in (forward, backward)]


def parameters(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.rand(shape, requires_grad=True) for name, shape in shapes.items()}


@pytest.mark.peers
@pytest.mark.parametrize(
    ("b", "l", "h", "p", "g", "n", "q"),
    [
        (2, 10, 4, 3, 2, 5, 4), (1, 8, 2, 3, 1, 1, 4), (2, 5, 2, 1, 1, 3, 1), (1, 7, 4, 2, 4, 3, 16),
        (1, 6, 2, 1, 1, 1, 1), (1, 1, 2, 3, 1, 4, 8),
    ],
)  # fmt: skip
def test_torch_counts_mamba_2s_slow_path(b: int, l: int, h: int, p: int, g: int, n: int, q: int) -> None:
    pytest.importorskip("transformers", minversion="5")
    operands = parameters(x=(b, l, h, p), dt=(b, l, h), A=(h,), B=(b, l, g, n), C=(b, l, g, n))
    theirs = counted(slow("mamba2", "mamba2_chunk_scan"), *operands.values(), q)
    assert seen("ssd", operands, chunk_size=q) == theirs


@pytest.mark.peers
@pytest.mark.parametrize(("b", "l", "g", "h", "k", "v", "c"), [
    (2, 10, 2, 4, 3, 5, 4), (1, 7, 1, 1, 2, 3, 16), (1, 9, 2, 2, 1, 1, 4), (2, 4, 1, 2, 3, 2, 1),
])  # fmt: skip
@pytest.mark.parametrize("started", [False, True])
def test_torch_counts_the_delta_rules_slow_paths(
    b: int, l: int, g: int, h: int, k: int, v: int, c: int, started: bool
) -> None:
    pytest.importorskip("transformers", minversion="5")
    start = parameters(initial_state=(b, h, k, v)) if started else {}
    rest = parameters(value=(b, l, h, v), beta=(b, l, h))
    gated = {**parameters(query=(b, l, g, k), key=(b, l, g, k), g=(b, l, h)), **rest, **start}
    channelwise = {**parameters(query=(b, l, h, k), key=(b, l, h, k), g=(b, l, h, k)), **rest, **start}
    for op, model, names, operands in (
        ("gated_delta_rule", "qwen3_next", ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"), gated),
        ("kda", "kimi_linear", ("chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"), channelwise),
    ):
        chunks, steps = (slow(model, name) for name in names)
        assert seen(op, operands, chunk_size=c) == counted(chunks, **operands, chunk_size=c)
        plain = {"initial_state": None, **operands}
        assert seen(op, operands) == counted(steps, **plain, output_final_state=False) == [0, 0]


@pytest.mark.peers
def test_torch_counts_the_causal_convolutions_and_the_steps_slow_paths() -> None:
    pytest.importorskip("transformers", minversion="5")
    dispatcher = conventions.get("dispatcher")
    operands = parameters(x=(2, 6, 10), weight=(6, 4), bias=(6,))
    theirs = counted(slow("mamba2", "causal_conv1d_fn"), *operands.values(), "silu")
    forward, gradients = seen("causal_conv1d", operands)
    assert (forward, gradients) == (theirs[0], 2 * theirs[0])
    assert theirs[1] == (1 + 6) * theirs[0]  # the weight's gradient, once for each group
    for kept in (3, 4):
        x, state, weight = torch.rand(2, 6, 2), torch.rand(2, 6, kept), torch.rand(6, 4)
        with FlopCounterMode(display=False) as counter:
            slow("mamba2", "causal_conv1d_update")(x, state, weight)
        shapes = {"x": (2, 6, 2), "weight": (6, 4), "initial_states": (2, 6, kept)}
        assert dispatcher.of(call("causal_conv1d", shapes), None) == counter.get_total_flops()
    for model, name, shapes in (
        (
            "mamba2",
            "mamba2_selective_state_update",
            [(2, 4, 3, 5), (2, 4, 3), (2, 4, 3), (4, 3, 5), (2, 2, 5), (2, 2, 5)],
        ),
        ("mamba", "mamba_selective_state_update", [(2, 6, 5), (2, 6), (2, 6), (6, 5), (2, 5), (2, 5)]),
    ):
        with FlopCounterMode(display=False) as counter:
            slow(model, name)(*map(torch.rand, shapes))
        step = call("selective_state_update", {"state": shapes[0], "x": shapes[1]})
        assert dispatcher.of(step, None) == counter.get_total_flops()


@pytest.mark.peers
@pytest.mark.parametrize(("l", "q", "g"), [(10, 4, 2), (8, 8, 1), (33, 8, 4)])
def test_torch_counts_a_whole_mamba_2(l: int, q: int, g: int) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    config = transformers.Mamba2Config(
        hidden_size=32,
        num_heads=8,
        head_dim=8,
        state_size=6,
        n_groups=g,
        chunk_size=q,
        num_hidden_layers=2,
        vocab_size=50,
    )
    model, tokens = transformers.Mamba2Model(config).eval(), torch.randint(0, 50, (2, l))
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    report = flopscan.count(model, tokens, strict=True)
    assert report.by_operator()["flopscan::ssd"].calls == 2
    assert report.under("dispatcher") == counter.get_total_flops()


class Mamba2(nn.Module):
    """A chunk scan and a decoding step through the stand-ins of mamba_ssm, on the sizes above."""

    def forward(self, *operands: torch.Tensor) -> torch.Tensor:
        combined = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
        return combined.mamba_chunk_scan_combined(*operands, chunk_size=4)


class Decoding(nn.Module):
    """One step of a scan with heads."""

    def forward(self, state: torch.Tensor, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        step = importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
        return step.selective_state_update(state, x, x, A, B, B)


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="mamba_ssm is installed")
def test_a_report_shows_the_scans_of_mamba_2() -> None:
    inputs = (torch.empty(shape, device="meta", requires_grad=True) for shape in SIZES.values())
    report = flopscan.count(Mamba2(), *inputs, backward=True)
    scan = report.scan
    assert scan is not None and scan.kinds == ("SSD",)
    assert (scan.calls, scan.states, scan.steps) == (2, TOKENS, 2 * 10 * 4 * 3)
    assert scan.shapes == ("2 x b=2 l=10 h=4 p=3 g=2 n=5 chunk=4",)
    rows = {row.convention: row for row in scan.rows}
    assert rows["megatron"].value == 3 * 7 * TOKENS and rows["megatron"].formula == "7bdln"
    assert rows["flops"].value == report.flops
    assert "vmamba" not in rows and "gu" not in rows


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="mamba_ssm is installed")
def test_a_report_shows_decoding_steps() -> None:
    shapes = (2, 4, 3, 5), (2, 4, 3), (4, 3, 5), (2, 2, 5)
    scan = flopscan.count(Decoding(), *(flopscan.shape(*shape) for shape in shapes)).scan
    assert scan is not None and scan.kinds == ("decoding step",)
    assert (scan.states, scan.steps) == (2 * 4 * 3 * 5, 2 * 4 * 3)
    assert scan.shapes == ("1 x b=2 h=4 p=3 n=5",)
    rows = {row.convention: row for row in scan.rows}
    assert rows["nemo"].value == 2 * scan.states
    assert "vmamba" not in rows
