"""``flopscan doctor``: every kind of finding, on packages made for the purpose."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flopscan import rules
from flopscan.capture import doctor, extensions
from flopscan.capture.doctor import FINE, NOTE, PROBLEM, Finding
from flopscan.cli.main import main


def found(subject: str) -> list[Finding]:
    return [f for f in doctor.examine(rules.seams()) if f.subject == subject]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = []

    def make(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_a_clean_machine_is_fine() -> None:
    findings = doctor.examine(rules.seams())
    assert not [f for f in findings if f.kind == PROBLEM]
    subjects = {f.subject for f in findings}
    assert {"Python", "torch", "CUDA", "torch.jit", "selective_scan_cuda", "causal_conv1d_cuda"} <= subjects
    assert found("torch.jit")[0].kind == FINE
    assert "a stand-in serves" in found("selective_scan_cuda_oflex")[0].found


def test_a_live_seam(package: Any) -> None:
    package("selective_scan_cuda_oflex", "from _statistics import _normal_dist_inv_cdf as fwd")
    assert found("selective_scan_cuda_oflex") == [Finding(FINE, "selective_scan_cuda_oflex", "seams live: fwd")]


def test_a_compiled_function_that_escaped(package: Any) -> None:
    package("selective_scan_cuda_oflex", "from _statistics import _normal_dist_inv_cdf as fwd")
    kernel: Any = importlib.import_module("selective_scan_cuda_oflex")
    holder = functools.partial(kernel.fwd, 1)
    (finding,) = found("selective_scan_cuda_oflex:fwd")
    assert (finding.kind, finding.found) == (PROBLEM, "a partial holds the compiled function itself")
    assert "selective_scan_cuda_oflex.fwd(...)" in finding.advice
    del holder


def test_a_class_runs_as_it_is_written_whoever_holds_it(package: Any) -> None:
    package("mambapy", "")
    code = "import torch\n\nclass PScan(torch.autograd.Function):\n    pass\n\npscan = PScan.apply\n"
    sys.modules["mambapy.pscan"] = module = types.ModuleType("mambapy.pscan")
    try:
        exec(code, vars(module))
        assert not [f for f in doctor.examine(rules.seams()) if f.kind == PROBLEM and "PScan" in f.subject]
    finally:
        del sys.modules["mambapy.pscan"]


def test_another_signature(package: Any) -> None:
    package("causal_conv1d", "def causal_conv1d_fn(signal, taps):\n    return signal\n")
    (finding,) = found("causal_conv1d.causal_conv1d_fn")
    assert finding.kind == PROBLEM
    assert finding.found.startswith("takes (signal, taps), known is (x, weight, bias=None")


def test_a_package_that_leans_on_a_missing_one(package: Any) -> None:
    package("causal_conv1d", "import causal_conv1d_cuda\n")
    (finding,) = found("causal_conv1d")
    assert (finding.kind, finding.found) == (
        NOTE, "imports causal_conv1d_cuda, which is missing: a stand-in serves it",
    )  # fmt: skip


def test_a_broken_package(package: Any) -> None:
    package("causal_conv1d", "import no_such_thing\n")
    (finding,) = found("causal_conv1d")
    assert finding.kind == PROBLEM
    assert "No module named 'no_such_thing'" in finding.found


def test_a_package_that_raises_as_it_is_imported(package: Any) -> None:
    package("causal_conv1d", "raise OSError('CUDA_HOME is not set')\n")
    (finding,) = found("causal_conv1d")
    assert finding.kind == PROBLEM
    assert finding.found == "installed, but it cannot be imported: OSError: CUDA_HOME is not set"
    assert "remove the package" in finding.advice


def test_a_kernel_without_a_seam_that_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = importlib.import_module("_statistics")
    held = (module._normal_dist_inv_cdf,)
    monkeypatch.setattr(extensions, "_takes_tensors", lambda value: value is held[0])
    monkeypatch.setattr(extensions, "_with_tensors", {module})
    (finding,) = found("_statistics:_normal_dist_inv_cdf")
    assert (finding.kind, finding.found) == (PROBLEM, "a tuple holds the compiled function itself")
    assert found("_statistics")[0].kind == NOTE


def test_the_command(capsys: pytest.CaptureFixture[str], package: Any) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ok   torch.jit" in out
    package("causal_conv1d", "import no_such_thing\n")
    assert main(["doctor", "--format", "json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"kind", "subject", "found", "advice"} == findings[0].keys()
    assert main(["doctor"]) == 1
    assert "BAD  causal_conv1d" in capsys.readouterr().out
