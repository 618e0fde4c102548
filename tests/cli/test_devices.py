"""devices, measure-device and --device as a person types them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flopscan import devices
from flopscan.cli import measuring
from flopscan.cli.main import main
from flopscan.errors import UsageError

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(shlex.split(line))
        return code, *capsys.readouterr()

    return run


def test_devices_lists_all_and_shows_one(run: Run) -> None:
    code, out, err = run("devices")
    assert (code, err) == (0, "")
    assert all(name in out for name in devices.all_known())
    code, out, _ = run("devices h100-sxm")
    assert code == 0 and "exp, log, roots" in out and "16 a clock and multiprocessor x 132" in out
    code, out, _ = run("devices --format json")
    assert {device["name"] for device in json.loads(out)} == set(devices.all_known())
    code, out, _ = run("devices l40s --format json")
    assert json.loads(out) == devices.get("l40s").to_dict()
    code, out, err = run("devices h200x")
    assert (code, out) == (2, "")
    assert err == "flopscan: error: there is no device 'h200x'; did you mean h200 or b200 or h100-sxm?\n"


def test_count_on_a_device(run: Run) -> None:
    code, out, _ = run("count vmamba_tiny --device h100-sxm --dtype bf16 --depth 0 -o tiny.json -o tiny.txt")
    assert code == 0
    assert "least time on NVIDIA H100 SXM5 80 GB, everything in bf16: a bound, not a prediction" in " ".join(
        out.split()
    )
    saved = json.loads(Path("tiny.json").read_text())["roofline"]
    assert saved["device"] == "h100-sxm" and saved["seconds"] > saved["fused"]["seconds"] > 0
    assert "least time on NVIDIA H100" in Path("tiny.txt").read_text()
    assert "again: flopscan count vmamba_tiny --device h100-sxm --dtype bf16" in " ".join(out.split())


def test_a_saved_ledger_on_a_device_gives_the_same_without_torch(run: Run) -> None:
    assert run("trace vmamba_tiny -o t.json")[0] == 0
    assert run("price t.json -o l.json")[0] == 0
    direct = json.loads(run("count vmamba_tiny --device l4 --dtype bf16 --format json")[1])["roofline"]
    line = ["report", "l.json", "--device", "l4", "--dtype", "bf16", "-o", "l4.json"]
    code = f"import sys; from flopscan.cli.main import main; print(main({line}), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "0 False"
    assert json.loads(Path("l4.json").read_text())["roofline"] == direct


def test_wrong_wishes_are_one_sentence_before_any_work(run: Run) -> None:
    assert run("count vmamba_tiny --device h100") == (
        2, "", "flopscan: error: there is no device 'h100'; did you mean h100-pcie or h100-sxm?\n",
    )  # fmt: skip
    code, out, err = run("count vmamba_tiny --dtype bf16")
    assert (code, out) == (2, "") and "give one with --device" in err
    code, out, err = run("count vmamba_tiny --device none.json")
    assert (code, out) == (1, "") and err.startswith("flopscan: error: cannot read none.json")
    code, out, err = run("count vmamba_tiny --device l4 --dtype fp12")
    assert (code, out) == (2, "") and "'fp12'" in err


def test_measuring_writes_a_device_that_a_count_takes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_LARGEST", 2**20)  # tiny: this is about the way, not about the numbers
    monkeypatch.setattr(measuring, "_SAMPLES", (3, 4))
    code, out, err = run("measure-device --on cpu --dtype fp32 --seconds 0.2 -o here.json --name mine")
    assert code == 0 and "flopscan: wrote here.json" in err
    for name in ("copy", "product", "elementwise", "exp"):
        assert name in out
    device = devices.get("here.json")
    assert device.name == "mine" and device.kind == "measured cpu"
    assert set(device.matrix) == set(device.vector) == {"fp32"} and device.special is not None
    assert all(figure.value > 0 for figure in device.figures().values())
    code, out, _ = run("count vmamba_tiny --device here.json --depth 0")
    assert code == 0 and "rates that torch reached on one machine" in " ".join(out.split())
    assert "--device" not in out[out.index("again:") :]  # a file of one machine is nothing to repeat elsewhere
    before = Path("here.json").read_text()
    code, _, err = run("measure-device --on cpu --seconds 0.1 -o nowhere/here.json")
    assert code == 2 and "there is no folder" in err
    assert Path("here.json").read_text() == before


def test_a_busy_machine_is_told_and_noted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_LARGEST", 2**20)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    told = "others kept 1.5 of 2 cores busy"
    code, _, err = run("measure-device --on cpu --dtype fp32 --seconds 0.2 -o here.json --quiet")
    assert code == 0 and err == f"flopscan: warning: {told}, so that the rates are too low; measure when they rest\n"
    assert devices.get("here.json").notes[-1] == told
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 5.0, 5.0))
    code, _, err = run("measure-device --on cpu --dtype fp32 --seconds 0.2 -o here.json --quiet")
    assert (code, err) == (0, "") and told not in devices.get("here.json").notes


def test_measured_rates_are_medians_with_quartiles_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_LARGEST", 2**20)
    found = measuring.measure("cpu", ("fp32", "bf16"), 0.2)
    assert [(m.name, m.dtype) for m in found] == [
        ("copy", "fp32"), ("product", "fp32"), ("elementwise", "fp32"), ("exp", "fp32"),
        ("product", "bf16"), ("elementwise", "bf16"), ("exp", "bf16"),
    ]  # fmt: skip
    for m in found:
        assert 0 < m.low <= m.rate <= m.high and m.samples >= 3


def test_the_work_of_a_measurement_is_what_its_call_does() -> None:
    """Counted by flopscan itself: a product of n is 2 n^3 FLOPs, an element of addcmul 2, a copy moves it twice."""
    import torch

    import flopscan

    for kind, dtype in ((measuring._PRODUCT, torch.float32), (measuring._ELEMENTWISE, torch.float32)):
        run = kind.prepare(128, dtype, "cpu")
        with flopscan.counting() as seen:
            run()
        assert int(seen.report.flops) == kind.work(128, 4)
    run = measuring._EXP.prepare(64, torch.float32, "cpu")
    with flopscan.counting() as seen:
        run()
    assert seen.report.transcendentals == measuring._EXP.work(64, 4)
    run = measuring._COPY.prepare(64, torch.float32, "cpu")
    with flopscan.counting() as seen:
        run()
    assert seen.report.bytes_read + seen.report.bytes_written == measuring._COPY.work(64, 4)


def test_what_cannot_be_measured_is_one_sentence(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(measuring.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no CUDA device here"):
        measuring.measure("cuda", ("fp32",), 1.0)
    with pytest.raises(UsageError, match="measure fp32 on a CPU"):
        measuring.measure("cpu", ("tf32",), 1.0)
    code, out, err = run("measure-device --seconds 0")
    assert (code, out) == (2, "") and "--seconds" in err
