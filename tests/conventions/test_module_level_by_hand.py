"""Counters that hook modules and patch functions, layer by layer; test_against_module_level_peers.py runs real ones.

Each number is what the counter's rule gives, worked out here; a rule that is wrong stands there with what is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import flopscan
from conventions.module_level_layers import Around, Holder, Twice
from flopscan import analysis, conventions
from flopscan.conventions import _einsum
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Frame, Module, Record, TensorSpec, Trace

TOOLS = (
    "ptflops", "thop", "ultralytics-thop", "calflops", "calflops-macs", "deepspeed", "deepspeed-macs", "torchinfo",
    "flopth",
)  # fmt: skip
Layer = tuple[Callable[..., Any], tuple[tuple[int, ...], ...], tuple[int, ...]]
# numbers in the order of TOOLS
LAYERS: dict[str, Layer] = {
    # 8 rows of 64 by 128; the bias is 128 a row, and of the function calflops and DeepSpeed leave it out; ptflops
    # divides the sum over modules by what it takes for the batch
    "linear": (
        nn.Linear(64, 128), ((8, 64),),
        (66_560 // 8, 65_536, 65_536, 131_072, 65_536, 131_072, 65_536, 66_560, 65_536),
    ),
    # 2*10 rows of 8 by 6; torchinfo counts parameters for 2, flopth loses an axis: 2*10*10
    "linear on three axes": (
        nn.Linear(8, 6), ((2, 10, 8),),
        (20 * 54 // 2, 960, 960, 1920, 960, 1920, 960, 2 * 54, 200),
    ),
    # 1024 positions of 3*9*16, and the bias 16 a position
    "convolution": (
        nn.Conv2d(3, 16, 3, padding=1), ((1, 3, 32, 32),),
        (458_752, 442_368, 442_368, 901_120, 442_368, 901_120, 442_368, 458_752, 458_752),
    ),
    # 131 positions of 64 channels by 4
    "depthwise convolution": (
        nn.Conv1d(64, 64, 4, groups=64, padding=3), ((1, 64, 128),),
        (41_920, 33_536, 33_536, 75_456, 33_536, 75_456, 33_536, 41_920, 41_920),
    ),
    # 256 positions of 8*4*4, or 1024 of the output where it is wrong; bias 4 on 1024, of calflops on 8*8
    "transposed convolution": (
        nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),),
        (32_768 + 4096, 131_072, 32_768, 65_536 + 256, 32_768, 65_536 + 4096, 32_768, 135_168, 135_168),
    ),
    # in two groups of 4 by 3, kernel 3, on 10 positions: 720; on 21 of the output with a bias of 6: 1512 and 126
    "transposed convolution in groups": (
        nn.ConvTranspose1d(8, 6, 3, 2, groups=2), ((1, 8, 10),),
        (720 + 126, 21 * 6 * 4 * 3, 720, 2 * 10 * 8 * 3 * 1 + 3 * 4, 240, 1440 + 126, 720, 21 * 78, 1512 + 126),
    ),
    "batch norm": (
        nn.BatchNorm2d(16).eval(), ((1, 16, 32, 32),),
        (32_768, 65_536, 65_536, 32_768, 0, 32_768, 0, 32, 32_768),
    ),
    "layer norm": (nn.LayerNorm(64), ((8, 64),), (512 // 8, 2048, 2048, 2560, 0, 2560, 0, 1024, 512)),
    "group norm": (nn.GroupNorm(2, 8), ((1, 8, 4, 4),), (256, 0, 512, 640, 0, 640, 0, 16, 256)),
    "relu": (nn.ReLU(), ((1, 16, 32, 32),), (32_768, 0, 0, 16_384, 0, 16_384, 0, 0, 16_384)),
    "silu": (nn.SiLU(), ((1, 100),), (100, 0, 0, 100, 0, 100, 0, 0, 0)),
    "leaky relu": (nn.LeakyReLU(), ((1, 100),), (100, 0, 0, 100, 0, 100, 0, 0, 100)),
    "largest of a window": (nn.MaxPool2d(2), ((1, 16, 32, 32),), (32_768, 0, 0, 16_384, 0, 16_384, 0, 0, 16_384)),
    # 16 * 256 windows of 4, and 1 for each
    "mean of a window": (
        nn.AvgPool2d(2), ((1, 16, 32, 32),), (32_768, 4096, 20_480, 16_384, 0, 16_384, 0, 0, 16_384),
    ),
    "mean of all": (
        nn.AdaptiveAvgPool2d(1), ((1, 16, 32, 32),), (32_768, 16_400, 16_400, 16_384, 0, 16_384, 0, 0, 16_384),
    ),
    # 5 to 3: windows of 2, 3 and 2; thop takes the mean ratio 5/3, and 1, times 3
    "mean of uneven windows": (nn.AdaptiveAvgPool1d(3), ((1, 1, 5),), (10, 8, 10, 5, 0, 5, 0, 0, 0)),
    # ptflops sees the function alone, and so divides it by no batch; thop has 8 rows of 3*64 - 1
    "softmax": (nn.Softmax(-1), ((8, 64),), (512, 1528, 1528, 512, 0, 512, 0, 0, 0)),
    # one image of 2*16*16, and all of it again as a function; thop's 11 an output; flopth without the channels
    "upsampling": (
        nn.Upsample(scale_factor=2, mode="bilinear"), ((1, 2, 8, 8),),
        (512 + 512, 5632, 5632, 128, 0, 512, 0, 0, 256),
    ),
    "upsampling to a size": (nn.Upsample((4, 4)), ((1, 2, 8, 8),), (32 + 32, 32, 0, 16, 0, 16, 0, 0, 16)),
    "@": (lambda a, b: a @ b, ((3, 4), (4, 5)), (0, 0, 60, 0, 0, 120, 60, 0, 0)),
    "matmul": (torch.matmul, ((3, 4), (4, 5)), (60, 0, 60, 120, 60, 120, 60, 0, 0)),
    "matmul broadcast": (torch.matmul, ((3, 4), (7, 4, 5)), (60, 0, 420, 120, 60, 120, 60, 0, 0)),
    "bmm": (torch.bmm, ((2, 3, 4), (2, 4, 5)), (120, 0, 120, 0, 0, 240, 120, 0, 0)),
    "addmm": (torch.addmm, ((5,), (3, 4), (4, 5)), (65, 0, 0, 125, 60, 125, 60, 0, 0)),
    # numpy: twice the product of all axes, and one
    "einsum": (
        lambda a, b: torch.einsum("ij,jk->ik", a, b), ((3, 4), (4, 5)), (0, 0, 60, 121, 0, 121, 0, 0, 0),
    ),
    # (4,) beside (2, 3, 4) from the left: (4, 3, 4)
    "add of a row": (torch.add, ((2, 3, 4), (4,)), (48, 0, 0, 48, 0, 24, 0, 0, 0)),
    "+": (lambda a, b: a + b, ((2, 3, 4), (4,)), (0,) * 9),
    "relu of a method": (lambda x: x.relu(), ((2, 3, 4),), (0,) * 9),
    "attention": (F.scaled_dot_product_attention, ((1, 4, 16, 8),) * 3, (0, 0, 16_384, 0, 0, 32_768, 16_384, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS)
def test_layer(case: str) -> None:
    model, shapes, expected = LAYERS[case]
    report = flopscan.count(model, *shapes)
    assert {tool: int(report.under(tool)) for tool in TOOLS} == dict(zip(TOOLS, expected, strict=True))


def test_embedding() -> None:
    report = flopscan.count(nn.Embedding(1000, 64), flopscan.shape(2, 128, dtype="int64"))
    assert {tool: int(report.under(tool)) for tool in TOOLS} == {**dict.fromkeys(TOOLS, 0), "torchinfo": 128_000}


def test_lstm() -> None:
    # a step: gates of 4*6 rows by 4 and by 6, and 2*24 biases
    report = flopscan.count(nn.LSTM(4, 6), (5, 2, 4))
    products, biases, gates = 24 * (4 + 6), 48, 10 * 6
    assert report.under("ptflops") == 10 * (products + biases + gates) // 5  # divided by what it takes for the batch
    assert report.under("deepspeed") == report.under("calflops") == 10 * (2 * products - 48 + biases + gates)
    assert report.under("deepspeed-macs") == report.under("calflops-macs") == 0
    assert conventions.get("deepspeed-macs").without().total(report.ledger) == 10 * products
    each = 4 * (6 * 10 + 6 + 12) + 4 * 6  # four gates with their sums and biases, four products and sums of states
    assert report.under("thop") == report.under("ultralytics-thop") == 10 * each
    assert report.under("torchinfo") == 10 * (products + biases)


def test_attention_of_ptflops_and_ultralytics() -> None:
    # 5 rows of 8 in two heads, twice: four projections of 8 by 8, two products of 5 by 5 by 8, a softmax of 5 a row
    report = flopscan.count(nn.MultiheadAttention(8, 2), (5, 2, 8), (5, 2, 8), (5, 2, 8))
    assert report.under("ultralytics-thop") == 2 * (4 * 5 * 64 + 2 * 25 * 8 + 2 * 5 * 14)
    rule = 5 * 8 + 3 * 5 * 64 + 15 * 8 + 2 * (2 * 25 * 4 + 25) + 5 * 8 * 9
    inside = 2 * 2 * (25 + 2 * 25 * 4)  # the softmax, baddbmm and bmm that it patches as well; no mask is added
    assert report.under("ptflops") == 2 * rule // 5 + inside


@pytest.mark.parametrize(
    ("tool", "model", "shapes", "wrong", "right"),
    [
        ("ptflops", nn.ReLU(), ((1, 10),), 20, 10),
        ("ptflops", nn.MaxPool1d(2), ((1, 1, 10),), 20, 10),
        ("ptflops", torch.matmul, ((3, 4), (7, 4, 5)), 60, 420),
        ("ptflops", lambda a, b: a @ b, ((3, 4), (4, 5)), 0, 60),
        ("ptflops", torch.add, ((2, 3, 4), (4,)), 48, 24),
        ("ptflops", nn.LayerNorm(8), ((1, 8),), 8, 16),
        ("ptflops", Twice(), ((1, 8),), 2 * 2 * 64 + 2 * 2 * 8 + 2 * 8 + 2 * 2 * 8, 2 * 72 + 8 + 2 * 8),
        ("ptflops", nn.Linear(8, 6), ((4, 8),), 54, 4 * 54),
        ("thop", nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),), 131_072, 32_768),
        ("thop", lambda a, b: a @ b, ((3, 4), (4, 5)), 0, 60),
        ("thop", Twice(), ((3, 8),), 8 * 192, 2 * 192),
        ("ultralytics-thop", torch.mm, ((3, 4), (4, 5)), 0, 60),
        ("ultralytics-thop", torch.addmm, ((5,), (3, 4), (4, 5)), 0, 60),
        ("calflops", torch.bmm, ((2, 3, 4), (2, 4, 5)), 0, 240),
        ("calflops", F.scaled_dot_product_attention, ((1, 4, 16, 8),) * 3, 0, 32_768),
        ("calflops", nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),), 65_792, 69_632),
        ("calflops", nn.Upsample(scale_factor=2), ((1, 2, 8, 8),), 128, 512),
        ("calflops", torch.mul, ((2, 3, 4), (4,)), 48, 24),
        ("calflops", Twice(), ((3, 8),), 2 * 2 * 384 + 24 + 48, 2 * 384 + 24 + 48),
        ("calflops-macs", lambda a, b: torch.einsum("ij,jk->ik", a, b), ((3, 4), (4, 5)), 0, 60),
        ("deepspeed", torch.matmul, ((3, 4), (7, 4, 5)), 120, 840),
        ("deepspeed", nn.Upsample((4, 4)), ((1, 2, 8, 8),), 16, 32),
        ("deepspeed", nn.Conv1d(1, 1, 2, padding="same", bias=False), ((1, 1, 9),), 2 * 8 * 2, 2 * 9 * 2),
        ("deepspeed", lambda a, b: torch.einsum("ij,jk->ik", a, b), ((3, 4), (4, 5)), 121, 120),
        ("torchinfo", nn.Linear(64, 128), ((8, 10, 64),), 66_560, 80 * 8320),
        ("torchinfo", nn.BatchNorm2d(16).eval(), ((1, 16, 32, 32),), 32, 32_768),
        ("torchinfo", nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),), 135_168, 36_864),
        ("flopth", nn.Linear(8, 6), ((2, 10, 8),), 200, 960),
        ("flopth", nn.ConvTranspose2d(8, 4, 2, 2), ((1, 8, 16, 16),), 135_168, 36_864),
        ("flopth", nn.Sequential(*[nn.ReLU()] * 2), ((1, 10),), 10, 20),
    ],
)
def test_a_known_bug_and_without_it(tool: str, model: Any, shapes: Any, wrong: int, right: int) -> None:
    convention, ledger = conventions.get(tool), flopscan.count(model, *shapes).ledger
    assert convention.total(ledger) == wrong
    assert convention.without().total(ledger) == right
    assert all(bug.source for bug in convention.bugs)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_bug_can_be_mended_alone(tool: str) -> None:
    convention = conventions.get(tool)
    for bug in convention.bugs:
        assert [b.name for b in convention.without(bug.name).bugs] == [b.name for b in convention.bugs if b is not bug]


def test_a_function_that_a_module_keeps_is_not_seen_by_who_patches_torch() -> None:
    # Holder calls the F.relu of before, then F.gelu of now
    report = flopscan.count(Holder(), (1, 10))
    assert [int(report.under(tool)) for tool in ("ptflops", "calflops", "deepspeed")] == [10, 10, 10]


def test_ptflops_divides_the_sum_over_modules_and_not_each() -> None:
    # 5 + 5 over a batch of 2 is 5, as the operand's first axis says 2 and a vector of 5 is counted twice
    model = Around(lambda a, b: model.more[1](model.more[0](b)), nn.LeakyReLU(), nn.LeakyReLU())
    assert flopscan.count(model, (2,), (5,)).under("ptflops") == 5
    assert flopscan.count(model, x=flopscan.shape(2), y=flopscan.shape(5)).under("ptflops") == 10


def test_ptflops_loses_the_linear_layers_of_timms_attention() -> None:
    def attention(path: str) -> Call:
        given = {"operands": (TensorSpec((1, 5, 8)),), "named": (), "parameters": (), "leaf": False, "bases": ()}
        return Call(path, {**given, "settings": (("head_dim", 4), ("num_heads", 2))}, (TensorSpec((1, 5, 8)),))

    (linear,) = (c for c in flopscan.count(nn.Linear(8, 8), (1, 5, 8)).ledger.trace.calls if c.op.endswith("Linear"))
    timm = "module::timm.layers.attention.Attention"
    scaled_products_softmax = 5 * 8 + 2 * 25 * (2 * 4 + 1)
    for name, expected in ((timm, scaled_products_softmax), ("module::mine.Attention", 5 * 72)):
        trace = Trace(
            (attention(name), linear),
            (Record(0, 0, 1, envelope=True), Record(1, 1, 1, inside=0, envelope=True)),
            (Module("", "Attention"), Module("proj", "Linear", 72)),
            frames=(Frame(0),),
        )
        ledger = _ledger(trace)
        assert conventions.get("ptflops").total(ledger) == expected
    assert conventions.get("ptflops").without().total(_ledger(trace)) == 5 * 72


def test_ultralytics_counts_modules_inside_of_a_rule_and_no_functions() -> None:
    class Mine(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 5)
            self.conv = nn.Conv1d(2, 3, 1)

        def forward(self, x: Any) -> Any:
            return torch.matmul(self.conv(x), self.weight.t())

    # as a linear layer 7*3*5 outputs of 4, the convolution 7*4 positions of 2*3
    assert flopscan.count(Mine(), (7, 2, 4)).under("ultralytics-thop") == 105 * 4 + 28 * 6


TRANSFORMERS = "transformers.models.*"
KERNELS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    # ptflops, DeepSpeed and ultralytics. 13 padded positions of 6 channels by 4, with a bias; a SiLU of 2*6*10
    "flopscan::causal_conv1d": (
        {"x": TensorSpec((2, 6, 10)), "weight": TensorSpec((6, 4)), "bias": TensorSpec((6,)), "activation": "silu"},
        (120, 2 * 26 * 24 + 26 * 6 + 120, 0),
    ),
    # 10 products of 6 by 8 by 1, twice, and a SiLU
    "flopscan::selective_scan": (
        {"u": TensorSpec((2, 6, 10)), "A": TensorSpec((6, 8)), "z": TensorSpec((2, 6, 10))},
        (960 + 120, 1920 + 120, 960),
    ),
    # 10 steps in 3 chunks of 4, one head of 3 by 2 states: 3*4*4*2, 3*4*4*3, 3*4*3*2, 3*4*3*2, and 4*4*3*2
    "flopscan::ssd": (
        {"x": TensorSpec((1, 10, 1, 3)), "B": TensorSpec((1, 10, 1, 2)), "chunk_size": 4},
        (0, 2 * (96 + 144 + 72 + 72 + 96) + 5, 96 + 144 + 72 + 72 + 96),
    ),
    "flopscan::selective_state_update": (
        {"x": TensorSpec((2, 3, 4)), "state": TensorSpec((2, 3, 4, 5))}, (120, 240, 120),
    ),
    # one chunk of 4, 2 by 3: two of 4*4*2, two of 4*2*3, 4*4*3 and 2*4*3
    "flopscan::gated_delta_rule": (
        {"query": TensorSpec((1, 4, 1, 2)), "value": TensorSpec((1, 4, 1, 3)), "chunk_size": 4},
        (0, 2 * (64 + 48 + 48 + 24), 64 + 48 + 48 + 24),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_seen_where_transformers_writes_it_out(kernel: str) -> None:
    operands, expected = KERNELS[kernel]
    out = (next(iter(operands.values())),)
    for callee, numbers in ((f"{TRANSFORMERS}:f", expected), ("some_package.kernels:f", (0, 0, 0)), (None, (0, 0, 0))):
        call = Call(kernel, operands if callee is None else {**operands, "callee": callee}, out)
        ledger = _ledger(Trace((call,), (Record(0, 0, 1),), (Module("", "Mixer"),)))
        tools = ("ptflops", "deepspeed", "ultralytics-thop")
        assert tuple(int(conventions.get(tool).total(ledger)) for tool in tools) == numbers


def test_a_saved_trace_counts_the_same(tmp_path: Any) -> None:
    trace = flopscan.count(Twice(), (3, 8)).ledger.trace
    path = str(tmp_path / "trace.json")
    trace.save(path)
    before, after = (_ledger(t) for t in (trace, Trace.load(path)))
    for tool in TOOLS:
        assert conventions.get(tool).counts(before) == conventions.get(tool).counts(after)
    assert conventions.get("thop").total(after) == 8 * 192


@given(
    terms=st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True), min_size=1, max_size=4),
    sizes=st.fixed_dictionaries({axis: st.integers(1, 40) for axis in "abcde"}),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_einsum_costs_what_numpy_prints(terms: list[list[str]], sizes: dict[str, int], data: Any) -> None:
    axes = sorted({axis for term in terms for axis in term})
    result = data.draw(st.lists(st.sampled_from(axes), unique=True, max_size=3))
    equation = ",".join("".join(term) for term in terms) + "->" + "".join(result)
    shapes = [tuple(sizes[axis] for axis in term) for term in terms]
    call = Call("torch::einsum", {"equation": equation, "operands": tuple(map(TensorSpec, shapes))})
    report = np.einsum_path(equation, *(np.empty(shape) for shape in shapes), optimize="optimal")[1]
    (printed,) = (line for line in report.splitlines() if "Optimized FLOP" in line)
    assert _einsum.printed_flops(call) == int(float(printed.split(":")[1]))


def _ledger(trace: Trace) -> Ledger:
    return analysis.price(trace)
