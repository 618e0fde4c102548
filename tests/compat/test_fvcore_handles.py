"""Handles for fvcore: what a graph calls its values does not matter; what cannot be bound is said, never silent."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
from flopscan import conventions, ops
from flopscan.capture import jit
from flopscan.capture.signatures import distribution_of
from flopscan.compat import fvcore, scan_signatures
from flopscan.errors import FlopscanWarning, UsageError
from flopscan.models import vmamba
from graph_nodes import alive, count, node

b, d, l, n, g = 2, 8, 5, 3, 4
STATES, STEPS = b * d * l * n, b * d * l


class SelectiveScanFn(torch.autograd.Function):
    """As mamba_ssm declares it."""

    @staticmethod
    def forward(
        ctx, u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False,
        cu_seqlens=None,
    ):  # fmt: skip
        out = torch.zeros_like(u)
        return (out, u.new_zeros(u.shape[0], u.shape[1], A.shape[1])) if return_last_state else out


class SelectiveScanCuda(torch.autograd.Function):
    """As VMamba declares it."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False, oflex=True, backend=None):
        return torch.zeros_like(u)


class Copied(torch.autograd.Function):
    """A copy under another name, with other names for the same operands in another order."""

    @staticmethod
    def forward(ctx, xs, dts, As, Bs, Cs, bias=None, Ds=None, softplus=False):
        return torch.zeros_like(xs)


class Functional(torch.autograd.Function):
    """The newer form, whose forward takes no context."""

    @staticmethod
    def forward(u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
        return torch.zeros_like(u)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


class SelectiveScanOflex(torch.autograd.Function):
    """A known name with another meaning: there is no C."""

    @staticmethod
    def forward(ctx, u, delta, A, B, D=None):
        return torch.zeros_like(u)


class SelectiveScanNRow(torch.autograd.Function):
    """A known name whose operands have no names."""

    @staticmethod
    def forward(ctx, *operands):
        return torch.zeros_like(operands[0])


class SelectiveScanCore(torch.autograd.Function):
    """A known name with one tensor more."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, direction):
        return torch.zeros_like(u)


class Extended(torch.autograd.Function):
    """A convolution with one tensor more."""

    @staticmethod
    def forward(ctx, x, weight, gate):
        return torch.zeros_like(x)


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    yield
    alive.clear()


def operands(grouped: bool = True, given: tuple[str, ...] = ("D", "delta_bias")) -> dict[str, Tensor]:
    form = (b, g, n, l) if grouped else (b, n, l)
    shapes = {"u": (b, d, l), "delta": (b, d, l), "A": (d, n), "B": form, "C": form}
    optional = {"D": (d,), "z": (b, d, l), "delta_bias": (d,)}
    return {name: torch.ones(shape) for name, shape in (shapes | {k: optional[k] for k in given}).items()}


def by_two_frames_up(u, delta, A, B, C, D, delta_bias):
    return SelectiveScanCuda.apply(u, delta, A, B, C, D, delta_bias, True)


def seed(xs, dts, As, Bs, Cs, Ds, bias):
    return by_two_frames_up(xs, dts, As, Bs, Cs, Ds, bias)


def numbered(xs, dts, As, Bs, Cs, Ds, bias):
    return SelectiveScanCuda.apply(*(x * 1 for x in (xs, dts, As, Bs, Cs, Ds, bias)), True)


def test_names_of_values_do_not_matter() -> None:
    tensors = tuple(operands().values())

    def wrapped_again(*args):
        return [seed(*args)][0]

    plain, inner = node(seed, *tensors), node(numbered, *tensors)
    names = {tuple(v.debugName() for v in inputs) for inputs, _ in (plain, inner)}
    assert len(names) == 2  # the values are called differently, and yet:
    counts = {count(plain), count(inner), count(node(by_two_frames_up, *tensors)), count(node(wrapped_again, *tensors))}
    assert counts == {9 * STATES + STEPS}


@pytest.mark.parametrize(
    "names", ["u.1 delta.1 A.1 B.1 C.1 D.1 delta_bias.1", "xs dts As Bs Cs Ds bias", "1 75 82 94 106 114 119"]
)
def test_the_same_graph_under_three_sets_of_names(names: str) -> None:
    values = node(numbered, *operands().values())
    for value, name in zip(values[0], names.split(), strict=True):
        if not name.isdigit():  # jit gives numbers itself and refuses them from others
            value.setDebugName(name)
    if not names[0].isdigit():
        assert [v.debugName().split(".")[0] for v in values[0]] == [name.split(".")[0] for name in names.split()]
    assert count(values) == 9 * STATES + STEPS


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("given", [c for r in range(4) for c in itertools.combinations(("D", "z", "delta_bias"), r)])
def test_every_combination_of_optional_operands(given: tuple[str, ...], grouped: bool) -> None:
    tensors = operands(grouped, given)

    def scan(*values):
        named = dict(zip(tensors, values, strict=True))
        return SelectiveScanFn.apply(*values[:5], *(named.get(k) for k in ("D", "z", "delta_bias")), True, False)

    values = node(scan, *tensors.values())
    call, note = scan_signatures.bind(jit.read(values[1]))
    assert {k for k in ("D", "z", "delta_bias") if call.get(k) is not None} == set(given)
    assert call["delta_softplus"] is True
    assert scan_signatures.CONTRACT_OF(call).bind("scan", call.args).sizes.get("g") == (g if grouped else None)
    assert "is bound by the names of its own parameters" in note
    assert count(values) == 9 * STATES + STEPS * (("D" in given) + ("z" in given))
    assert count(values, convention="flops") > 6 * STATES


def test_softplus_is_read_from_the_constants() -> None:
    tensors = operands()
    on, off = (
        node(lambda *x, s=softplus: SelectiveScanCuda.apply(*x, s), *tensors.values()) for softplus in (True, False)
    )
    assert count(on) == count(off)
    assert count(on, convention="flops") > count(off, convention="flops")


def test_a_scan_that_also_returns_its_last_state() -> None:
    tensors = operands(given=("z",))

    def scan(u, delta, A, B, C, z):
        y, last = SelectiveScanFn.apply(u, delta, A, B, C, None, z, None, False, True)
        return y, last

    values = node(scan, *tensors.values())
    assert count(values) == 9 * STATES + STEPS
    assert [o.shape for o in jit.read(values[1]).outputs] == [(b, d, l), (b, d, n)]


def test_where_sequences_begin_costs_nothing() -> None:
    tensors = (*operands(given=()).values(), torch.tensor([0, 2, l], dtype=torch.int32))
    values = node(lambda *x: SelectiveScanFn.apply(*x[:5], None, None, None, False, False, x[5]), *tensors)
    assert count(values) == 9 * STATES


def test_another_version_of_a_package_is_bound_by_its_names_with_a_note() -> None:
    values = node(lambda *x: Copied.apply(*x), *operands(given=()).values())
    call = dataclasses.replace(jit.read(values[1]), qualified="mamba_ssm.ops.selective_scan_interface.SelectiveScanFn")
    assert "has another signature than the one known" in scan_signatures.bind(call)[1]


def test_the_kernel_for_one_state() -> None:
    shapes = ((b, d, l), (b, d, l), (d,), (b, g, l), (b, g, l))
    values = node(lambda *x: SelectiveScanCuda.apply(*x), *(torch.ones(shape) for shape in shapes))
    assert count(values) == 9 * STEPS


@pytest.mark.parametrize("function", [Copied, Functional])
def test_a_copy_under_another_name_is_bound_by_its_own_parameters(function: Any) -> None:
    tensors = operands(given=("D",))
    order = (None,) if function is Copied else ()
    values = node(lambda *x: function.apply(*x[:5], *order, x[5]), *tensors.values())
    call, note = scan_signatures.bind(jit.read(values[1]))
    assert call.get("D") is not None and call.get("delta_bias") is None
    assert function.__name__ in note
    assert fvcore.selective_scan_flop_jit(*values) == 9 * STATES + STEPS


def test_a_class_of_the_package_needs_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SelectiveScanFn, "__module__", "mamba_ssm.ops.selective_scan_interface")
    monkeypatch.setattr(SelectiveScanCuda, "__module__", "classification.models.csms6s")
    for function in (SelectiveScanFn, SelectiveScanCuda):
        values = node(lambda *x, f=function: f.apply(*x), *operands(given=()).values())
        assert scan_signatures.bind(jit.read(values[1]))[1] == ""


def test_an_operand_that_the_formula_does_not_know_is_refused() -> None:
    values = node(lambda *x: Extended.apply(*x), *(torch.ones(s) for s in ((b, d, l), (d, 4), (d,))))
    with pytest.warns(FlopscanWarning, match=r"no formula for a call with the operand 'gate' \[FS301\]"):
        assert count(values, "prim::PythonOp.CausalConv1dFn") == 0


@pytest.mark.parametrize(
    ("name", "home", "forward", "shapes"),
    [
        (
            "SelectiveScanFn", "mamba_ssm.ops.selective_scan_interface",
            lambda ctx, u, delta, A, B, C, direction: u * 2, ((b, d, l), (b, d, l), (d, n), (b, n, l), (b, n, l), (d,)),
        ),
        (
            "CausalConv1dFn", "causal_conv1d.causal_conv1d_interface",
            lambda ctx, x, weight, direction: x * 2, ((b, d, l), (d, 4), (d,)),
        ),
    ],
)  # fmt: skip
def test_a_package_that_changed_its_signature_is_named_with_its_version(
    name: str, home: str, forward: Any, shapes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = home.partition(".")[0]
    info = tmp_path / f"{package}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = type(name, (torch.autograd.Function,), {"forward": staticmethod(forward), "__module__": home})
    distribution_of.cache_clear()
    try:
        with pytest.warns(FlopscanWarning, match=rf"{name} \({package} 9.9\).* operand 'direction'.*\[FS301\]"):
            assert count(node(function.apply, *map(torch.ones, shapes))) == 0
    finally:
        distribution_of.cache_clear()


def test_a_graph_without_shapes_is_not_counted() -> None:
    alive.append(torch._C.parse_ir("graph(%x : Tensor):\n  %y : Tensor = kernels::scan(%x)\n  return (%y)"))
    (found,) = alive[-1].nodes()
    with pytest.warns(FlopscanWarning, match=r"kernels::scan is not counted: the shape of %x is not in the graph"):
        assert fvcore.selective_scan_flop_jit(list(found.inputs()), list(found.outputs())) == 0


def test_a_known_class_whose_names_are_hidden_has_those_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    values = node(lambda *x: SelectiveScanNRow.apply(*x, True), *operands().values())
    monkeypatch.setattr(SelectiveScanNRow, "__module__", "models.csms6s")
    call, note = scan_signatures.bind(jit.read(values[1]))
    assert call.get("D") is not None and call.get("delta_bias") is not None and call["delta_softplus"] is True
    assert note == ""


def test_a_forward_under_autocast_keeps_its_names() -> None:
    class SelectiveScanFake(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
            return torch.zeros_like(u)

    assert count(node(SelectiveScanFake.apply, *operands().values())) == 9 * STATES + STEPS


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        (SelectiveScanOflex, 4, r"no parameter is 'C'; its parameters are u, delta, A, B, D"),
        (SelectiveScanNRow, 5, r"5 operands, but the signature has no names that can be read"),
        (SelectiveScanCore, 6, r"operand 'direction' \(8,\) is none that a scan has"),
    ],
)
def test_another_signature_is_not_counted_and_says_why(function: Any, arguments: int, reason: str) -> None:
    values = node(lambda *x: function.apply(*x[:arguments]), *operands().values())
    with pytest.warns(FlopscanWarning, match=rf"{function.__name__} is not counted.*{reason}.*\[FS301\]"):
        assert count(values) == 0


def test_wrong_shapes_get_the_error_of_the_contract() -> None:
    tensors = operands(grouped=False) | {"B": torch.ones(b, n, l + 1)}
    values = node(lambda *x: SelectiveScanCuda.apply(*x), *tensors.values())
    with pytest.warns(
        FlopscanWarning, match=r"(?s)operand 'B' is \(2, 3, 6\), expected .*axis l is 6 in 'B' and 5 in 'u'"
    ):
        assert count(values) == 0


def parsed(*shapes: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    """The node of an operator that nothing is known of but the shapes of its operands."""
    values = [f"%v{i} : Float({', '.join(map(str, shape))})" for i, shape in enumerate(shapes)]
    called = ", ".join(f"%v{i}" for i in range(len(shapes)))
    text = f"graph({', '.join(values)}):\n  %y : Float({b}, {d}, {l}) = kernels::scan({called})\n  return (%y)"
    alive.append(torch._C.parse_ir(text))
    (found,) = alive[-1].nodes()
    return list(found.inputs()), list(found.outputs())


FIRST = ((b, d, l), (b, d, l), (d, n), (b, g, n, l), (b, g, n, l))
VECTOR, GATE = (d,), (b, d, l)


@pytest.mark.parametrize(
    ("rest", "given"),
    [
        ((), ()),
        ((GATE,), ("z",)),
        ((VECTOR, VECTOR), ("D", "delta_bias")),
        ((VECTOR, GATE), ("D", "z")),
        ((GATE, VECTOR), ("z", "delta_bias")),
        ((VECTOR, GATE, VECTOR), ("D", "z", "delta_bias")),
    ],
)
def test_a_graph_without_python_objects_is_bound_by_shapes(rest: tuple[Any, ...], given: tuple[str, ...]) -> None:
    with pytest.warns(FlopscanWarning, match=r"kernels::scan.*assumed the order u, delta.*\[FS302\]"):
        total = fvcore.selective_scan_flop_jit(*parsed(*FIRST, *rest))
    assert total == 9 * STATES + STEPS * (("D" in given) + ("z" in given))


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ((VECTOR,), r"fits 'D' and 'delta_bias' alike"),
        ((GATE, VECTOR, VECTOR), r"two operands would be 'delta_bias'"),
        (((b, g, n, l),), r"expected D, z and delta_bias"),
        (((d + 1,), GATE), r"operand 'D' is \(9,\), expected 'd'"),
    ],
)
def test_what_fits_two_roles_is_not_guessed(rest: tuple[Any, ...], reason: str) -> None:
    with pytest.warns(FlopscanWarning, match=rf"(?s)not counted.*{reason}.*\[FS301\]"):
        assert fvcore.selective_scan_flop_jit(*parsed(*FIRST, *rest)) == 0
    with pytest.warns(FlopscanWarning, match="a scan has at least u, delta, A, B and C"):
        assert fvcore.selective_scan_flop_jit(*parsed(*FIRST[:3])) == 0


def test_an_operator_with_a_schema_is_bound_by_it() -> None:
    class Model(nn.Module):
        def forward(self, *args):
            return ops.selective_scan(*args, delta_softplus=True)

    graph, _ = torch.jit._get_trace_graph(Model(), tuple(operands(given=("D",)).values()))
    (found,) = (each for each in graph.nodes() if each.kind() == "flopscan::selective_scan")
    values = list(found.inputs()), list(found.outputs())
    assert count(values, found.kind()) == 9 * STATES + STEPS


def test_the_options_of_vmambas_handle(capsys: pytest.CaptureFixture[str]) -> None:
    values = node(seed, *operands().values())
    assert fvcore.selective_scan_flop_jit(*values, backend="naive") == 7 * STATES // 2 + STEPS
    asked = []
    assert fvcore.selective_scan_flop_jit(*values, flops_fn=lambda **sizes: asked.append(sizes) or 7) == 7
    assert asked == [{"B": b, "L": l, "D": d, "N": n, "with_D": True, "with_Z": False}]
    fvcore.selective_scan_flop_jit(*values, verbose=True)
    assert "SelectiveScanCuda as flopscan::selective_scan: u float32[2, 8, 5]" in capsys.readouterr().out
    with pytest.raises(UsageError, match="'prefixsum' or 'naive'"):
        fvcore.selective_scan_flop_jit(*values, backend="other")


class CrossMerge(torch.autograd.Function):
    @staticmethod
    def forward(ctx, ys):
        return ys.sum(1)


class CrossScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.unsqueeze(1).repeat(1, 4, 1, 1)


def test_crossings_count_what_they_add() -> None:
    scan, merge = node(CrossScan.apply, torch.ones(b, d, l)), node(CrossMerge.apply, torch.ones(b, 4, d, l))
    assert [count(each, convention=c) for each in (scan, merge) for c in ("vmamba", "flops")] == [0, 0, 0, 3 * STEPS]


class MambaInnerFn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias,
        A, B=None, C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True,
    ):  # fmt: skip
        return xz.new_zeros(xz.shape[0], xz.shape[2], out_proj_weight.shape[0])


class CausalConv1dFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias=None, seq_idx=None, initial_states=None, activation=None):
        return torch.zeros_like(x)


def test_a_fused_block_counts_its_projections_and_its_scan() -> None:
    r, k, m = 2, 4, 6
    shapes = ((b, 2 * d, l), (d, 1, k), (d,), (r + 2 * n, d), (d, r), (m, d), (d, n), (d,), (d,))
    tensors = [torch.ones(shape) for shape in shapes]
    values = node(lambda *x: MambaInnerFn.apply(*x[:6], None, x[6], None, None, *x[7:]), *tensors)
    macs = STEPS * k + b * l * (d * (r + 2 * n) + r * d + d * m)
    assert count(values) == macs + 9 * STATES + 2 * STEPS
    assert count(values, convention="flops") > 2 * macs + 6 * STATES
    wrong = [torch.ones(b, 2 * d + 2, l), *tensors[1:]]
    values = node(lambda *x: MambaInnerFn.apply(*x[:6], None, x[6], None, None, *x[7:]), *wrong)
    with pytest.warns(FlopscanWarning, match=r"(?s)axis d is 8 in 'conv1d_weight' and 9 in 'xz' \[FS301\]"):
        assert count(values) == 0


def test_a_causal_convolution_counts_its_taps() -> None:
    values = node(
        lambda x, w: CausalConv1dFn.apply(x, w, None, None, None, "silu"), torch.ones(b, d, l), torch.ones(d, 4)
    )
    assert count(values) == STEPS * 4
    values = node(lambda x, w: CausalConv1dFn.apply(x, w), torch.ones(b, d, l), torch.ones(d + 1, 4))
    with pytest.warns(FlopscanWarning, match=r"\[FS301\]"):
        assert count(values) == 0


def test_a_convention_with_a_formula_counts_and_one_without_says_so() -> None:
    values = node(seed, *operands().values())
    formulas = [name for name in conventions.names() if conventions.get(name).scan]
    assert len(formulas) >= 9
    assert all(count(values, convention=name) > 0 for name in formulas)
    with pytest.warns(FlopscanWarning, match=r"counted without flopscan::selective_scan.*\[FS303\]"):
        assert count(values, convention="fvcore") == 0


@pytest.mark.peers
@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_s2l5"])
def test_vmamba_under_fvcore_is_what_flopscan_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("fvcore.nn")
    expected = flopscan.count(name).under("vmamba")
    model = vmamba.build(name).eval()

    def scan(u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):
        return SelectiveScanCuda.apply(u, delta, A, B, C, D, delta_bias, delta_softplus, True, None)

    monkeypatch.setattr(vmamba, "selective_scan", scan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = peer.FlopCountAnalysis(model, torch.zeros(vmamba.INPUT_SHAPE)).set_op_handle(
            **fvcore.supported_ops()
        )
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert analysis.total() == expected
    assert not any("PythonOp" in op for op in analysis.unsupported_ops())
