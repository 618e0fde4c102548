"""Handles of fvcore for fused blocks and for other scans than VMamba's: bound by signature, contract and constants."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import flopscan
from flopscan.analysis import price_call
from flopscan.capture import jit
from flopscan.compat import fused_signatures, fvcore
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import FlopscanWarning
from graph_nodes import alive, count, node

b, d, l, n, r, w, m = 2, 8, 5, 3, 2, 4, 6
FLOPS = {"fma": 2, "add": 1, "mul": 1, "div": 1, "sqrt": 1, "cmp": 1}


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    yield
    alive.clear()


def flops(op: str, operands: dict[str, Any]) -> int:
    """The FLOPs that the rule of ``op`` states."""
    specs = {
        k: TensorSpec(tuple(v.shape), str(v.dtype)[6:]) if isinstance(v, Tensor) else v for k, v in operands.items()
    }
    cost = price_call(Call(op, {k: v for k, v in specs.items() if v is not None})).ideal
    assert cost is not None
    return sum(weight * getattr(cost, kind) for kind, weight in FLOPS.items())


class MambaInnerFn(torch.autograd.Function):
    """As mamba_ssm declares it."""

    @staticmethod
    def forward(
        ctx, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias,
        A, B=None, C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True,
        checkpoint_lvl=1, b_rms_weight=None, c_rms_weight=None, dt_rms_weight=None, b_c_dt_rms_eps=1e-6,
    ):  # fmt: skip
        return xz.new_zeros(xz.shape[0], xz.shape[2], out_proj_weight.shape[0])


class MambaInnerFnNoOutProj(torch.autograd.Function):
    """As Vim declares it."""

    @staticmethod
    def forward(
        ctx, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B=None, C=None, D=None,
        delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True, checkpoint_lvl=1,
    ):  # fmt: skip
        return xz.new_zeros(xz.shape[0], xz.shape[1] // 2, xz.shape[2])


class BiMambaInnerFn(torch.autograd.Function):
    """As Vim declares it."""

    @staticmethod
    def forward(
        ctx, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias,
        A, A_b, B=None, C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True,
        checkpoint_lvl=1,
    ):  # fmt: skip
        return xz.new_zeros(xz.shape[0], xz.shape[2], out_proj_weight.shape[0])


SHAPES = {
    "xz": (b, 2 * d, l), "conv1d_weight": (d, 1, w), "conv1d_bias": (d,), "x_proj_weight": (r + 2 * n, d),
    "delta_proj_weight": (d, r), "out_proj_weight": (m, d), "out_proj_bias": (m,), "A": (d, n), "A_b": (d, n),
    "D": (d,), "delta_bias": (d,), "B_proj_bias": (n,), "C_proj_bias": (n,),
}  # fmt: skip
INNER = {
    MambaInnerFn: [name for name in SHAPES if name != "A_b"],
    MambaInnerFnNoOutProj: [name for name in SHAPES if name not in ("A_b", "out_proj_weight", "out_proj_bias")],
    BiMambaInnerFn: list(SHAPES),
}


def traced(function: Any, operands: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The node of ``function`` on these operands by name, constants among them."""
    names = [p for p, _ in jit._forward(function)]
    defaults = dict(jit._forward(function))
    tensors = {k: v for k, v in operands.items() if isinstance(v, Tensor)}

    def run(*values: Tensor) -> Any:
        given = {**defaults, **operands, **dict(zip(tensors, values, strict=True))}
        return function.apply(*(given[name] for name in names))

    return node(run, *tensors.values())


@pytest.mark.parametrize("function", INNER)
@pytest.mark.parametrize("without", [(), ("D",), ("delta_bias", "conv1d_bias"), ("B_proj_bias", "out_proj_bias")])
def test_a_block_counts_what_its_rule_does(function: Any, without: tuple[str, ...]) -> None:
    operands = {name: torch.ones(SHAPES[name]) for name in INNER[function] if name not in without}
    values = traced(function, operands)
    assert count(values, convention="flops") == flops("flopscan::mamba_inner", {**operands, "delta_softplus": True})
    scans = 2 if function is BiMambaInnerFn else 1
    products = b * l * d * (w + r + 2 * n + r + (0 if function is MambaInnerFnNoOutProj else m))
    assert count(values) == products + scans * b * d * l * (9 * n + ("D" not in without) + 1)


def test_constant_B_and_softplus_are_read_from_the_node() -> None:
    operands = {name: torch.ones(SHAPES[name]) for name in INNER[MambaInnerFn] if not name.endswith("_proj_bias")}
    operands |= {"B": torch.ones(d, n), "x_proj_weight": torch.ones(r + n, d)}
    without = {**operands, "delta_softplus": False}
    counts = [count(traced(MambaInnerFn, each), convention="flops") for each in (operands, without)]
    assert counts == [flops("flopscan::mamba_inner", {"delta_softplus": True, **each}) for each in (operands, without)]
    assert counts[0] == counts[1] + b * d * l  # a comparison; its exponentials stand apart


def test_complex_states() -> None:
    A = torch.ones(d, n, dtype=torch.complex64)
    operands = {name: torch.ones(SHAPES[name]) for name in INNER[MambaInnerFn] if not name.endswith("_proj_bias")}
    operands |= {"A": A, "x_proj_weight": torch.ones(r + 4 * n, d)}
    values = traced(MambaInnerFn, operands)
    assert count(values, convention="flops") == flops("flopscan::mamba_inner", {**operands, "delta_softplus": True})

    class SelectiveScanFn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
            return torch.zeros_like(u)

    steps, pairs = torch.ones(b, d, l), torch.ones(b, n, 2 * l)
    scan = {"u": steps, "delta": steps.clone(), "A": A, "B": pairs, "C": pairs.clone()}
    assert count(traced(SelectiveScanFn, scan), convention="flops") == flops("flopscan::selective_scan", scan)
    with pytest.warns(FlopscanWarning, match=r"(?s)operand 'B' is \(2, 3, 5\), expected .*\[FS301\]"):
        assert count(traced(SelectiveScanFn, scan | {"B": torch.ones(b, n, l)})) == 0


h, p, g = 4, 6, 2


class MambaChunkScanCombinedFn(torch.autograd.Function):
    """As VMamba's copy declares it, without ``cu_seqlens``."""

    @staticmethod
    def forward(
        ctx, x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None,
        dt_softplus=False, dt_limit=(0.0, float("inf")), return_final_states=False,
    ):  # fmt: skip
        return torch.zeros_like(x)


class MambaSplitConv1dScanCombinedFn(torch.autograd.Function):
    """As mamba_ssm declares it."""

    @staticmethod
    def forward(
        ctx, zxbcdt, conv1d_weight, conv1d_bias, dt_bias, A, D, chunk_size, initial_states=None, seq_idx=None,
        dt_limit=(0.0, float("inf")), return_final_states=False, activation="silu", rmsnorm_weight=None,
        rmsnorm_eps=1e-6, outproj_weight=None, outproj_bias=None, headdim=None, ngroups=1, norm_before_gate=True,
    ):  # fmt: skip
        width = zxbcdt.shape[2] if outproj_weight is None else outproj_weight.shape[0]
        return zxbcdt.new_zeros(*zxbcdt.shape[:2], width)


CHUNK = {
    "x": (b, l, h, p), "dt": (b, l, h), "A": (h,), "B": (b, l, g, n), "C": (b, l, g, n), "D": (h,),
    "z": (b, l, h, p), "dt_bias": (h,), "initial_states": (b, h, p, n),
}  # fmt: skip


@pytest.mark.parametrize("without", [(), ("D", "z"), ("dt_bias",), ("initial_states", "z")])
@pytest.mark.parametrize("options", [{}, {"dt_softplus": True}, {"dt_limit": (0.0, 0.5)}])
def test_a_scan_of_the_second_kind(without: tuple[str, ...], options: dict[str, Any]) -> None:
    operands: dict[str, Any] = {name: torch.ones(shape) for name, shape in CHUNK.items() if name not in without}
    operands |= {"chunk_size": 4, **options}
    values = traced(MambaChunkScanCombinedFn, operands)
    assert count(values, convention="flops") == flops("flopscan::ssd", {"dt_limit": (0.0, math.inf), **operands})
    assert count(values, convention="megatron") == 7 * b * l * h * p * n
    with pytest.warns(FlopscanWarning, match=r"counted without flopscan::ssd: the convention has no number.*\[FS303\]"):
        assert count(values) == 0


c = h * p + 2 * g * n
SPLIT = {
    "zxbcdt": (b, l, h * p + c + h), "conv1d_weight": (c, w), "conv1d_bias": (c,), "dt_bias": (h,), "A": (h,),
    "D": (h,), "rmsnorm_weight": (h * p,), "outproj_weight": (m, h * p), "outproj_bias": (m,),
}  # fmt: skip


@pytest.mark.parametrize("without", [(), ("rmsnorm_weight",), ("outproj_bias", "outproj_weight"), ("conv1d_bias",)])
def test_the_block_of_the_second_kind(without: tuple[str, ...]) -> None:
    operands: dict[str, Any] = {name: torch.ones(shape) for name, shape in SPLIT.items() if name not in without}
    operands |= {"chunk_size": 4, "headdim": p, "ngroups": g, "norm_before_gate": False}
    values = traced(MambaSplitConv1dScanCombinedFn, {"conv1d_bias": None, **operands})
    expected = flops("flopscan::mamba_split", {"dt_limit": (0.0, math.inf), "activation": "silu", **operands})
    assert count(values, convention="flops") == expected
    seen = b * l * (c * w + (0 if "outproj_weight" in without else m * h * p))
    with pytest.warns(FlopscanWarning, match=r"counted without flopscan::ssd.*\[FS303\]"):
        assert count(values) == seen
    assert count(values, convention="nemo") == 2 * (seen - b * l * c * w + b * l * h * p * n) + 2 * norms(operands)


def norms(operands: dict[str, Any]) -> int:
    """The multiply-adds of the norm."""
    if "rmsnorm_weight" not in operands:
        return 0
    x = torch.ones(b * l, h * p)
    priced = price_call(
        Call("flopscan::gated_rms_norm", {"x": TensorSpec(tuple(x.shape)), "weight": TensorSpec((h * p,))})
    )
    assert priced.ideal is not None
    return priced.ideal.fma


class SelectiveScanStateFn(torch.autograd.Function):
    """As Spatial-Mamba declares it."""

    @staticmethod
    def forward(
        ctx, u, delta, A, B, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False, lag=0
    ):
        return torch.zeros_like(u)


@pytest.mark.parametrize("given", [(), ("delta_bias",), ("D", "z", "delta_bias")])
def test_a_scan_without_a_read_out(given: tuple[str, ...]) -> None:
    shapes = {"u": (b, d, l), "delta": (b, d, l), "A": (d, 1), "B": (b, 1, l)}
    optional = {"D": (d,), "z": (b, d, l), "delta_bias": (d,)}
    operands: dict[str, Any] = {name: torch.ones(s) for name, s in (shapes | {k: optional[k] for k in given}).items()}
    operands["delta_softplus"] = True
    values = traced(SelectiveScanStateFn, operands)
    assert count(values) == 7 * b * d * l  # as Spatial-Mamba counts, D and z left out
    assert count(values, convention="flops") == flops("flopscan::selective_scan_states", operands)
    two = {**operands, "A": torch.ones(d, 2), "B": torch.ones(b, 2, l)}
    with pytest.warns(FlopscanWarning, match=r"(?s)operand 'A' is \(8, 2\), expected 'd 1'.*\[FS301\]"):
        assert count(traced(SelectiveScanStateFn, two)) == 0


class PScan(torch.autograd.Function):
    """As mambapy declares it."""

    @staticmethod
    def forward(ctx, A_in, X_in):
        return torch.zeros_like(X_in)


def test_the_parallel_scan_of_mambapy() -> None:
    values = traced(PScan, {"A_in": torch.ones(b, l, d, n), "X_in": torch.ones(b, l, d, n)})
    assert count(values, convention="macs") == b * l * d * n
    with pytest.warns(FlopscanWarning, match=r"counted without flopscan::pscan.*\[FS303\]"):
        assert count(values) == 0


@pytest.mark.parametrize("names", [("gates", "tokens"), ("forget", "inputs")])
@pytest.mark.parametrize("home", [None, "accelerated_scan.warp"])
def test_the_scans_of_accelerated_scan(names: tuple[str, str], home: str | None) -> None:
    """warp, and scalar; a copy of either in somebody's module."""
    source = f"def forward(ctx, {names[0]}, {names[1]}):\n    return {names[1]} * 2\n"
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    if home and names[0] == "forget":
        home = "accelerated_scan.scalar"
    function = type("Scan", (torch.autograd.Function,), {"forward": staticmethod(namespace["forward"])})
    function.__module__ = home or __name__
    values = traced(function, {name: torch.ones(b, d, l) for name in names})
    assert count(values, convention="macs") == b * l * d
    _, note = fused_signatures.binders()["Scan"](jit.read(values[1]))
    assert bool(note) == (home is None)


def of_name(name: str, result: Any) -> Any:
    """A class of that name."""
    return type(name, (torch.autograd.Function,), {"forward": staticmethod(lambda ctx, x: result(x))})


IMAGE = torch.ones(b, d, 3, 3)


@pytest.mark.parametrize(
    ("name", "x", "result", "added"),
    [
        ("CrossScan2", IMAGE, lambda x: x.flatten(2).unsqueeze(1).repeat(1, 2, 1, 1), 0),
        ("CrossMerge2", IMAGE.unsqueeze(1).repeat(1, 2, 1, 1, 1), lambda y: y.sum(1), 1),
        ("CrossMerge3", IMAGE.unsqueeze(1).repeat(1, 3, 1, 1, 1), lambda y: y.sum(1), 2),
        ("CrossScanTritonFk2", IMAGE, lambda x: x.flatten(2).unsqueeze(1).repeat(1, 2, 1, 1), 0),
        ("CrossMergeTritonFk2", IMAGE.unsqueeze(1).repeat(1, 2, 1, 1, 1), lambda y: y.sum(1), 1),
        ("ThreeScan", IMAGE, lambda x: x.flatten(2).unsqueeze(1).repeat(1, 3, 1, 1), 0),
        ("ThreeMerge", IMAGE.unsqueeze(1).repeat(1, 3, 1, 1, 1), lambda y: y.sum(1), 2),
        ("EfficientScan", IMAGE, lambda x: x.new_zeros(b, 4, d, 4), 0),
        ("EfficientMerge", torch.ones(b, 4, d, 4), lambda y: y.new_zeros(b, d, 9), 0),  # what is padded is cut off
        ("LocalScanTriton", IMAGE, torch.zeros_like, 0),
        ("LocalReverseTriton", IMAGE, torch.zeros_like, 0),
    ],
)
def test_the_crossings_of_others(name: str, x: Tensor, result: Any, added: int) -> None:
    values = node(of_name(name, result).apply, x)
    assert (count(values), count(values, convention="flops")) == (0, added * b * d * 9)


class HydraSplitConv1dScanCombinedFn(torch.autograd.Function):
    """As Hydra declares it."""

    @staticmethod
    def forward(
        ctx, zxBCdt, conv1d_weight, conv1d_bias, dt_limit, dt_bias, A, D_weight, D_bias, rmsnorm_weight, rmsnorm_eps,
        outproj_weight, outproj_bias, chunk_size, initial_states, seq_idx, d_inner, d_state, headdim, ngroups,
    ):  # fmt: skip
        return zxBCdt.new_zeros(*zxBCdt.shape[:2], outproj_weight.shape[0])


@pytest.mark.parametrize("bias", [True, False])
def test_hydra_counts_a_scan_in_both_directions_and_what_is_around(bias: bool) -> None:
    inner, channels = h * p, h * p + 4 * g * n
    tensors = {
        "zxBCdt": torch.ones(b, l, inner + channels + 2 * h), "conv1d_weight": torch.ones(channels, 1, 5),
        "conv1d_bias": torch.ones(channels), "dt_bias": torch.ones(h), "A": torch.ones(h),
        "D_weight": torch.ones(h, inner), "D_bias": torch.ones(h), "rmsnorm_weight": torch.ones(inner),
        "outproj_weight": torch.ones(m, inner), "outproj_bias": torch.ones(m) if bias else None,
    }  # fmt: skip
    constants = {
        "dt_limit": (0.0, math.inf), "rmsnorm_eps": 1e-6, "chunk_size": 4, "initial_states": None, "seq_idx": None,
        "d_inner": inner, "d_state": n, "headdim": p, "ngroups": g,
    }  # fmt: skip

    def without_scan_and_norm(zxBCdt: Tensor) -> Tensor:
        xBC = zxBCdt[..., inner : inner + channels].mT
        xBC = F.conv1d(xBC, tensors["conv1d_weight"], tensors["conv1d_bias"], padding="same", groups=channels)
        x = F.silu(xBC).mT[..., :inner]
        D = F.linear(x, tensors["D_weight"], tensors["D_bias"]).repeat_interleave(p, -1)
        y = (x + x.flip(1) + D * x).contiguous()
        return F.linear(y, tensors["outproj_weight"], tensors["outproj_bias"])

    around = int(flopscan.count(without_scan_and_norm, tensors["zxBCdt"], strict=True).flops)
    states = torch.ones(2 * b, l, g, n)
    scan = {
        "x": torch.ones(2 * b, l, h, p), "dt": torch.ones(2 * b, l, h), "A": tensors["A"], "B": states, "C": states,
        "dt_bias": tensors["dt_bias"], "dt_softplus": True, "chunk_size": 4,
    }  # fmt: skip
    x = torch.ones(b * l, inner)
    norm = {"x": x, "z": x, "weight": tensors["rmsnorm_weight"]}
    values = traced(HydraSplitConv1dScanCombinedFn, {**tensors, **constants})
    expected = around + flops("flopscan::ssd", scan) + flops("flopscan::gated_rms_norm", norm)
    assert count(values, convention="flops") == expected
    wrong = traced(HydraSplitConv1dScanCombinedFn, {**tensors, **constants, "d_state": n + 1})
    with pytest.warns(FlopscanWarning, match=r"do not fit 4 heads of 6 channels.*\[FS301\]"):
        assert count(wrong) == 0


def test_a_copy_is_bound_with_a_note_and_a_class_of_the_package_without(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = {name: torch.ones(SHAPES[name]) for name in INNER[MambaInnerFn]}
    bind = fused_signatures.binders()["MambaInnerFn"]
    _, note = bind(jit.read(traced(MambaInnerFn, operands)[1]))
    assert "is bound as mamba_ssm.ops.selective_scan_interface:MambaInnerFn, by the names of its own parameters" in note
    monkeypatch.setattr(MambaInnerFn, "__module__", "mamba_ssm.ops.selective_scan_interface")
    call = jit.read(traced(MambaInnerFn, operands)[1])
    parts, note = bind(call)
    assert note == ""
    hidden = dataclasses.replace(call, parameters=())  # as *args would have it
    assert bind(hidden) == (parts, "")
    assert call.parameters is not None
    longer = dataclasses.replace(
        call, parameters=(("method", "zoh"), *call.parameters), operands=("zoh", *call.operands)
    )
    _, note = bind(longer)
    assert "has another signature than the one known of mamba_ssm; bound by its names" in note
    assert "what method means was not looked at" in note


def test_a_copy_with_other_operands_is_not_counted_and_says_why() -> None:
    class MambaInnerFnNoOutProj(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, x_proj_weight, delta_proj_weight, A):
            return torch.zeros_like(x)

    operands = {"x": torch.ones(b, d, l)} | {
        k: torch.ones(SHAPES[k]) for k in ("x_proj_weight", "delta_proj_weight", "A")
    }
    with pytest.warns(FlopscanWarning, match=r"no formula for a call with the operand 'x'.*\[FS301\]"):
        assert count(traced(MambaInnerFnNoOutProj, operands)) == 0


def test_all_classes_of_packages_have_handles() -> None:
    handles = fvcore.supported_ops()
    classes = (
        "MambaInnerFn", "MambaInnerFnNoOutProj", "BiMambaInnerFn", "MambaChunkScanCombinedFn", "PScan",
        "MambaSplitConv1dScanCombinedFn", "SelectiveScanStateFn", "HydraSplitConv1dScanCombinedFn", "CausalConv1dFn",
    )  # fmt: skip
    assert all(callable(handles[f"prim::PythonOp.{name}"]) for name in classes)
