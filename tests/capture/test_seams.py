"""Functions of packages that the dispatcher does not show: stand-ins, replacements, and nothing left behind."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
import flopscan.api
import flopscan.ops
from flopscan import conventions
from flopscan.capture.signatures import distribution_of
from flopscan.capture.swap import Swapped
from flopscan.core.trace import Trace
from flopscan.errors import FlopscanError, FlopscanWarning

PACKAGES = ("selective_scan_cuda", "mamba_ssm", "causal_conv1d")

VMAMBA = """
import torch
from torch import nn
try:
    import selective_scan_cuda_oflex
except ImportError:
    selective_scan_cuda_oflex = None

class SelectiveScanCuda(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False, oflex=True):
        ctx.delta_softplus = delta_softplus
        out, x, *rest = selective_scan_cuda_oflex.fwd(u, delta, A, B, C, D, delta_bias, delta_softplus, 1, oflex)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, x)
        return out

    @staticmethod
    def backward(ctx, dout, *args):
        u, delta, A, B, C, D, delta_bias, x = ctx.saved_tensors
        du, ddelta, dA, dB, dC, dD, ddelta_bias, *rest = selective_scan_cuda_oflex.bwd(
            u, delta, A, B, C, D, delta_bias, dout, x, ctx.delta_softplus, 1
        )
        return du, ddelta, dA, dB, dC, dD, ddelta_bias, None, None

class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.A = nn.Parameter(torch.rand(6, 4))
        self.D = nn.Parameter(torch.rand(6))
        self.bias = nn.Parameter(torch.rand(6))

    def forward(self, u, B):
        return SelectiveScanCuda.apply(u, u * 2, self.A, B, B, self.D, self.bias, True)
"""

MAMBA = """
import torch
from torch import nn
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.A = nn.Parameter(torch.rand(6, 4)), nn.Parameter(torch.rand(6, 4))
        self.bias = nn.Parameter(torch.rand(6))

    def forward(self, u, B):
        u = causal_conv1d_fn(u, self.weight, self.bias, activation="silu")
        y, state = selective_scan_fn(u, u, self.A, B, B, z=u, delta_softplus=True, return_last_state=True)
        assert state.shape == (2, 6, 4)
        return y
"""

INSTALLED = """
def fwd(*args):
    REACHED.append("fwd")
    raise SystemExit("a kernel was reached with a meta tensor")

def bwd(*args):
    REACHED.append("bwd")
    raise SystemExit("a kernel was reached with a meta tensor")

REACHED = []
"""

INPUTS = (2, 6, 9), (2, 2, 4, 9)


class Own(nn.Module):
    """What the code for CUDA computes, by our own operator."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.rand(6, 4))
        self.D = nn.Parameter(torch.rand(6))
        self.bias = nn.Parameter(torch.rand(6))

    def forward(self, u: Tensor, B: Tensor) -> Tensor:
        return flopscan.ops.selective_scan(u, u * 2, self.A, B, B, D=self.D, delta_bias=self.bias, delta_softplus=True)


def leftovers() -> list[str]:
    return [name for name in sys.modules if name.startswith(PACKAGES)]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    assert not leftovers()
    yield
    assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("flopscan.")]
    assert not leftovers()


def target(folder: Path, text: str, name: str) -> str:
    file = folder / f"{folder.name}_code.py"
    file.write_text(text)
    return f"{file}:{name}"


def scans(report: Any) -> dict[str, Any]:
    return {op: (row.calls, row.cost) for op, row in report.by_operator().items() if "selective_scan" in op}


@pytest.mark.parametrize("convention", ["flops", "vmamba"])
def test_vmamba_code_for_cuda_costs_what_our_operator_does(tmp_path: Path, convention: str) -> None:
    options: dict[str, Any] = {"backward": True, "convention": convention, "strict": True}
    theirs = flopscan.count(target(tmp_path, VMAMBA, "Scan"), *INPUTS, **options)
    ours = flopscan.count(Own(), *INPUTS, **options)
    assert (theirs.flops, theirs.value) == (ours.flops, ours.value)
    assert scans(theirs) == scans(ours)
    assert scans(theirs).keys() == {"flopscan::selective_scan", "flopscan::selective_scan_backward"}


def test_mamba_code_is_counted_forward_and_backward(tmp_path: Path) -> None:
    report = flopscan.count(target(tmp_path, MAMBA, "Block"), (2, 6, 9), (2, 4, 9), backward=True, strict=True)
    operators = report.by_operator()
    for name in ("selective_scan", "causal_conv1d"):
        assert [operators[f"flopscan::{name}{kind}"].calls for kind in ("", "_backward")] == [1, 1]
    assert operators["flopscan::causal_conv1d"].cost.fma == 2 * 6 * 9 * 4
    assert not operators.keys() & {"aten::empty", "aten::empty_strided"}


def test_all_is_put_back_after_an_exception(tmp_path: Path) -> None:
    code = VMAMBA + "\nclass Bad(Scan):\n    def forward(self, u, B):\n        super().forward(u, B)\n        1 / 0\n"
    with pytest.raises(FlopscanError, match="ZeroDivisionError"):
        flopscan.count(target(tmp_path, code, "Bad"), *INPUTS)


def test_a_stand_in_answers_shapes_alone(tmp_path: Path) -> None:
    name = target(tmp_path, VMAMBA, "Scan")
    flopscan.count(name, *INPUTS)
    module = sys.modules[Path(name.rpartition(":")[0]).stem]
    u, B = torch.rand(2, 6, 9), torch.rand(2, 2, 4, 9)
    assert module.Scan().to("meta")(u.to("meta"), B.to("meta")).shape == u.shape  # nobody counts: shapes all the same
    for refused in (lambda: module.Scan()(u, B), lambda: flopscan.count(module.Scan(), u, B, run=True)):
        with pytest.raises(FlopscanError, match="is a stand-in of flopscan: it has shapes only, and was"):
            refused()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "selective_scan_cuda_oflex.py").write_text(INSTALLED)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("selective_scan_cuda_oflex", None)


@pytest.mark.parametrize("imported_before", [True, False])
def test_an_installed_package_wins_and_is_put_back(installed: Path, imported_before: bool) -> None:
    if imported_before:
        importlib.import_module("selective_scan_cuda_oflex")
    report = flopscan.count(target(installed, VMAMBA, "Scan"), *INPUTS, backward=True, strict=True)
    assert [calls for calls, _ in scans(report).values()] == [1, 1]
    module = sys.modules["selective_scan_cuda_oflex"]
    assert module.REACHED == []
    assert not hasattr(module.fwd, "__flopscan_stand_in__")


def test_a_real_run_calls_the_installed_kernel_and_records_it(installed: Path) -> None:
    kernel: Any = importlib.import_module("selective_scan_cuda_oflex")
    kernel.fwd = lambda u, *rest: (u * 2, u)
    u, A = torch.rand(2, 6, 9), torch.rand(6, 4)

    def run(u: Tensor, A: Tensor) -> Tensor:
        return kernel.fwd(u, u, A, A, A, None, None, False, 1, True)[0]  # type: ignore[no-any-return]

    report = flopscan.count(run, u, A, run=True, strict=True)
    assert report.by_operator().keys() == {"flopscan::selective_scan"}
    assert report.flops == flopscan.count(run, u, A).flops


def test_a_compiled_kernel_that_a_module_holds_by_name_is_seen(tmp_path: Path, monkeypatch: Any) -> None:
    stands_for_it = "from _statistics import _normal_dist_inv_cdf as fwd"  # compiled, and nothing else calls it
    (tmp_path / "selective_scan_cuda_oflex.py").write_text(stands_for_it)
    (tmp_path / "held_by_name.py").write_text("from selective_scan_cuda_oflex import fwd as kernel\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module: Any = importlib.import_module("held_by_name")
    kernel = sys.modules.pop("selective_scan_cuda_oflex")
    monkeypatch.setitem(sys.modules, "selective_scan_cuda_oflex", kernel)

    def run(u: Tensor, A: Tensor) -> Tensor:
        return module.kernel(u, u, A, A, A, None, None, False, 1, True)[0]  # type: ignore[no-any-return]

    report = flopscan.count(run, (2, 6, 9), (6, 4), strict=True)
    assert scans(report)["flopscan::selective_scan"][0] == 1
    assert module.kernel is kernel.fwd
    assert module.kernel.__module__ == "_statistics"
    del sys.modules["selective_scan_cuda_oflex"], sys.modules["held_by_name"]


def test_a_package_imported_while_counting_is_taken_and_put_back(installed: Path) -> None:
    def late(u: Tensor, A: Tensor) -> Tensor:
        import selective_scan_cuda_oflex as kernel

        return kernel.fwd(u, u, A, A, A, None, None, False, 1, True)[0]  # type: ignore[no-any-return]

    report = flopscan.count(late, (2, 6, 9), (6, 4), strict=True)
    assert scans(report)["flopscan::selective_scan"][0] == 1
    assert not hasattr(sys.modules["selective_scan_cuda_oflex"].fwd, "__flopscan_stand_in__")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from mamba_ssm.ops.selective_scan_interface import no_such", "rules for .*selective_scan_fn"),
        ("import mamba_ssm.no_such", "ops.selective_scan_interface.selective_scan_fn"),
    ],
)
def test_a_name_without_a_rule_is_not_offered(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(FlopscanError, match=said):
        flopscan.count(target(tmp_path, f"{code}\n", "model"), (1, 2))


def test_wrong_operands_are_uncounted_with_the_contracts_words(tmp_path: Path) -> None:
    report = flopscan.count(target(tmp_path, VMAMBA, "Scan"), (2, 6, 9), (2, 2, 4, 7))
    assert "axis l is 7 in 'B' and 9 in 'u'" in str(report.uncounted[0])


def test_another_signature_is_named(tmp_path: Path) -> None:
    code = VMAMBA.replace("delta_softplus, 1, oflex)", "delta_softplus)")
    with pytest.raises(FlopscanError, match=r"selective_scan_cuda_oflex:fwd.*nrows"):
        flopscan.count(target(tmp_path, code, "Scan"), *INPUTS)


def test_a_model_that_is_imported_before_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_before.py").write_text(VMAMBA)
    monkeypatch.syspath_prepend(str(tmp_path))
    with flopscan.stand_ins():
        module = importlib.import_module("imported_before")
    monkeypatch.delitem(sys.modules, "imported_before")
    assert "selective_scan_cuda_oflex" not in sys.modules
    report = flopscan.count(module.Scan(), (2, 6, 5), (2, 1, 4, 5), backward=True, strict=True)
    assert [report.by_operator()[f"flopscan::selective_scan{kind}"].calls for kind in ("", "_backward")] == [1, 1]


def test_a_compiled_kernel_with_another_signature_runs_and_is_listed(installed: Path) -> None:
    kernel: Any = importlib.import_module("selective_scan_cuda_oflex")

    class Compiled:
        def __call__(self, u: Tensor, delta: Tensor) -> Tensor:
            return u

    kernel.fwd = Compiled()
    u = torch.rand(2, 6, 9)
    with (
        pytest.warns(FlopscanWarning, match=r"selective_scan_cuda_oflex:fwd: missing .*\[FS202\]"),
        flopscan.counting() as counted,
    ):
        kernel.fwd(u, u)
    assert [(u.op, u.count) for u in counted.report.uncounted] == [("selective_scan_cuda_oflex::fwd", 1)]


def test_the_version_of_a_compiled_package_is_named(installed: Path) -> None:
    info = installed / "selective_scan-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: selective_scan\nVersion: 9.9\n")
    (info / "top_level.txt").write_text("selective_scan_cuda_oflex\n")
    importlib.import_module("selective_scan_cuda_oflex").fwd = lambda u: u
    said = r"selective_scan_cuda_oflex:fwd of selective_scan 9.9: missing a required argument: 'delta'"
    distribution_of.cache_clear()
    try:
        with pytest.warns(FlopscanWarning, match=rf"{said}.*\[FS201\]"):
            flopscan.count(lambda u: sys.modules["selective_scan_cuda_oflex"].fwd(u), (2, 6, 9))
    finally:
        distribution_of.cache_clear()


PYTHON_PACKAGE = """
REACHED = []

def causal_conv1d_fn(x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False,
                     final_states_out=None, activation=None):
    REACHED.append(x.shape)
    return x + 1

def closed(n):
    def causal_conv1d_update(x, conv_state, weight, bias=None, activation=None, *, scale=n):
        REACHED.append(scale)
        return x * n
    return causal_conv1d_update

causal_conv1d_update = closed(3)
"""


@pytest.fixture
def python_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "causal_conv1d.py").write_text(PYTHON_PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("causal_conv1d")
    sys.modules.pop("causal_conv1d", None)


def test_a_python_function_is_seen_under_the_name_that_others_gave_it(python_package: Any) -> None:
    own, update = python_package.causal_conv1d_fn, python_package.causal_conv1d_update
    held = [own, update]
    codes, names = [f.__code__ for f in held], set(vars(python_package))

    def run(x: Tensor, weight: Tensor) -> Tensor:
        assert [f.__code__ for f in held] != codes
        return own(x, weight, activation="silu") + update(x, x, weight)  # type: ignore[no-any-return]

    report = flopscan.count(run, (2, 6, 9), (6, 4), strict=True)
    assert report.by_operator()["flopscan::causal_conv1d"].calls == 2
    assert python_package.REACHED == []
    assert [f.__code__ for f in held] == codes
    assert set(vars(python_package)) == names
    assert update(torch.ones(1), None, None).item() == 3


def test_a_real_run_of_a_python_function_runs_it_once(python_package: Any) -> None:
    own = python_package.causal_conv1d_fn
    x, weight = torch.zeros(2, 6, 9), torch.zeros(6, 4)
    with flopscan.counting() as counted:
        y = own(x, weight)
    assert torch.equal(y, torch.ones(2, 6, 9))
    assert counted.report.by_operator().keys() == {"flopscan::causal_conv1d"}
    assert len(python_package.REACHED) == 1


SLOW = """
import torch.nn.functional as F

def causal_conv1d_fn(x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False,
                     final_states_out=None, activation=None):
    y = F.conv1d(x, weight.unsqueeze(1), bias, padding=weight.shape[1] - 1, groups=x.shape[1])[..., :x.shape[2]]
    return F.silu(y) + (y @ y.mT @ y) * 0
"""


def test_what_a_function_calls_in_a_real_run_is_not_seen_beside_it(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "causal_conv1d.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("causal_conv1d").causal_conv1d_fn
    x, weight = torch.rand(2, 6, 9, requires_grad=True), torch.rand(6, 4)
    for_real, on_shapes = (
        flopscan.count(lambda *a: own(*a, activation="silu"), x, weight, backward=True, run=run, strict=True)
        for run in (True, False)
    )
    del sys.modules["causal_conv1d"]
    assert on_shapes.under("vmamba") == 2 * 6 * 9 * 4
    for name in conventions.names():
        if not conventions.get(name).whole:
            assert for_real.under(name) == on_shapes.under(name), name


def test_the_callee_stands_in_the_trace_forward_and_backward(tmp_path: Path) -> None:
    report = flopscan.count(target(tmp_path, MAMBA, "Block"), (2, 6, 9), (2, 4, 9), backward=True)
    report.ledger.trace.save(str(tmp_path / "trace.json"))
    for trace in (report.ledger.trace, Trace.load(str(tmp_path / "trace.json"))):
        callees = {call.op: call["callee"] for call in trace.calls if call.op.startswith("flopscan::")}
        assert callees == {
            "flopscan::causal_conv1d": "causal_conv1d:causal_conv1d_fn",
            "flopscan::causal_conv1d_backward": "causal_conv1d:causal_conv1d_fn",
            "flopscan::selective_scan": "mamba_ssm.ops.selective_scan_interface:selective_scan_fn",
            "flopscan::selective_scan_backward": "mamba_ssm.ops.selective_scan_interface:selective_scan_fn",
        }


def test_a_python_function_with_another_signature_is_counted_by_what_it_does(python_package: Any) -> None:
    own = python_package.causal_conv1d_update

    def run(x: Tensor) -> Tensor:
        return own(x, x, x, scale=2)  # type: ignore[no-any-return]

    with pytest.warns(FlopscanWarning, match=r"causal_conv1d:causal_conv1d_update.*scale.*\[FS201\]"):
        report = flopscan.count(run, (2, 6, 9))
    assert report.by_operator().keys() == {"aten::mul"}


BLOCK = """
import torch.nn.functional as F

def mamba_inner_fn(xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight, out_proj_bias,
                   A, B=None, C=None, D=None, delta_bias=None, method=None):
    return F.linear(xz.chunk(2, 1)[0].mT, out_proj_weight)
"""


@pytest.fixture
def fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    package = tmp_path / "mamba_ssm" / "ops"
    package.mkdir(parents=True)
    (package / "selective_scan_interface.py").write_text(BLOCK)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("mamba_ssm.ops.selective_scan_interface").mamba_inner_fn
    for name in leftovers():
        del sys.modules[name]


BLOCK_SHAPES = (1, 8, 5), (4, 1, 4), (4,), (5, 4), (4, 3), (7, 4), (7,), (4, 1)


@pytest.mark.parametrize("run", [True, False])
def test_a_function_made_of_parts_runs_inside_its_operator(fused: Any, run: bool) -> None:
    trace = flopscan.api.trace_of(fused, *map(torch.rand, BLOCK_SHAPES), run=run)
    (frame,) = (i for i, each in enumerate(trace.frames) if trace.calls[each.call].op == "flopscan::mamba_inner")
    call = trace.calls[trace.frames[frame].call]
    assert (call["x_proj_weight"].shape, call.outputs[0].shape) == ((5, 4), (1, 5, 7))
    products = [r for r in trace.records if trace.calls[r.call].op in ("aten::mm", "aten::bmm") and not r.envelope]
    assert products
    assert all(trace.frames[r.inside].parent == frame or r.inside == frame for r in products)


def test_a_function_made_of_parts_with_another_signature_is_counted_by_what_it_does(fused: Any) -> None:
    with pytest.warns(FlopscanWarning, match=r"mamba_inner_fn.*method.*\[FS201\]"):
        report = flopscan.count(lambda *x: fused(*x, method="zoh"), *map(torch.rand, BLOCK_SHAPES))
    assert report.macs == 5 * 4 * 7


EXTENSION = """
#include <torch/extension.h>
float touch(at::Tensor x) { return x.data_ptr<float>()[0]; }
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("touch", &touch); }
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ninja") is None, reason="compiling takes ninja")
def test_an_unknown_compiled_kernel_is_not_reached_with_a_shape(tmp_path: Path) -> None:
    from torch.utils.cpp_extension import load_inline

    module: Any = load_inline("flopscan_touch", EXTENSION, build_directory=str(tmp_path))  # not in sys.modules
    touch = module.touch
    with pytest.raises(FlopscanError, match=r"flopscan_touch\.touch is a compiled kernel"):
        flopscan.count(lambda x: module.touch(x), (4, 4))
    with pytest.raises(FlopscanError, match=r"flopscan_touch\.touch is a compiled kernel"):
        flopscan.count(lambda x: touch(x), (4, 4))
    assert module.touch is touch
    x = torch.full((2,), 5.0)
    with flopscan.counting() as counted:
        assert module.touch(x) == 5
    assert [(u.op, u.count) for u in counted.report.uncounted] == [("flopscan_touch::touch", 1)]
    assert module.touch is touch


def test_the_frame_of_a_swapped_closure_can_be_looked_at() -> None:
    def outer(y: int, z: int) -> Any:
        def function(x: int) -> int:
            return x + y + z

        return function

    function = outer(2, 3)
    swapped = Swapped(function, lambda *args: 1 // 0)
    assert swapped.original(1) == 6
    with pytest.raises(ZeroDivisionError) as caught:
        function(1)
    frame = caught.tb
    while frame is not None:
        dict(frame.tb_frame.f_locals)
        frame = frame.tb_next  # type: ignore[assignment]
    swapped.restore()
    assert function(1) == 6
