"""The roofline: the floors of the selective scan on an H100, sums over operators and modules, text and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import flopscan
from flopscan import analysis, devices
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Module, Record, TensorSpec, Trace
from flopscan.devices.bound import UNITS
from flopscan.devices.device import Device, Figure, Source
from flopscan.errors import UsageError
from flopscan.report import formats, report, saved
from flopscan.report.format import Shown
from flopscan.report.formats import text
from flopscan.report.report import Report
from flopscan.report.roofline_text import duration

H100 = devices.get("h100-sxm")


def one_scan(b: int, d: int, l: int, n: int, g: int, dtype: str, *, z: bool, softplus: bool = True) -> Report:
    """The report of one selective scan with all that the measured calls were given."""

    def spec(*sizes: int, of: str = dtype) -> TensorSpec:
        return TensorSpec(sizes, of)

    x = spec(b, d, l)
    operands = {
        "u": x, "delta": x, "A": spec(d, n, of="float32"), "B": spec(b, g, n, l), "C": spec(b, g, n, l),
        "D": spec(d, of="float32"), "z": x if z else None, "delta_bias": spec(d, of="float32"),
        "delta_softplus": softplus,
    }  # fmt: skip
    call = Call("flopscan::selective_scan", operands, (x,))
    trace = Trace((call,), (Record(0, 0, 1),), (Module("", "Scan"),))
    return report.make(analysis.price(trace))


def as_measured(gigahertz: float = 1.75) -> Device:
    """An H100 with the bandwidth that a copy reaches and the clock that it ran the scans at."""
    special = Figure(16 * 132 * gigahertz * 1e9, Source("a test", "2026-01-01"))
    return dataclasses.replace(H100, bandwidth=H100.measured["copy"], special=special)


def test_the_scan_of_mamba_130m_is_bound_by_exponentials_on_an_h100() -> None:
    """Measured floors of (8, 1536, 2048, 16) in bf16 with a gate: memory 87 us, exp2 109 us, arithmetic under 40 us.

    87 us count the output twice, before and after its gate; the least is once. 109 us count the states' exponentials.
    The gate adds one to each 16, and softplus one: its logarithm, as the kernel has it, is a polynomial.
    """
    found = one_scan(8, 1536, 2048, 16, 1, "bfloat16", z=True).on(as_measured())
    (form,) = found.forms.values()
    states, steps = 8 * 1536 * 2048 * 16, 8 * 1536 * 2048
    assert form.bound.by == "special"
    assert form.work.special == states + 2 * steps
    assert states / found.device.special.value == pytest.approx(109e-6, rel=0.005)
    assert form.bound.busy["special"] == pytest.approx(109e-6 * 18 / 16, rel=0.005)
    once_more = 2 * steps  # bytes of the output before its gate
    assert form.bound.busy["memory"] + once_more / 3.0e12 == pytest.approx(87e-6, rel=0.04)
    assert (6 * states) / H100.vector["fp32"].value < 40e-6
    assert one_scan(8, 1536, 2048, 16, 1, "bfloat16", z=True).on("h100-sxm").by_operator().popitem()[1].by == "special"


@pytest.mark.parametrize(
    ("b", "d", "l", "n", "g", "dtype", "z", "by", "measured"),
    [
        (8, 1536, 2048, 16, 1, "bfloat16", True, "special", 451e-6),
        (2, 5120, 2048, 16, 1, "bfloat16", True, "special", 382e-6),
        (1, 1536, 65536, 16, 1, "bfloat16", True, "special", 2230e-6),
        (64, 768, 3136, 16, 4, "float16", False, "special", 5306e-6),
        (64, 384, 3136, 1, 4, "float16", False, "memory", 538e-6),
        (64, 1536, 196, 1, 4, "float16", False, "memory", 153e-6),
    ],
)
def test_scans_with_16_states_are_bound_by_exponentials_and_with_one_by_memory(
    b: int, d: int, l: int, n: int, g: int, dtype: str, z: bool, by: str, measured: float
) -> None:
    """The shapes that were timed on an H100: no kernel was faster than the bound."""
    found = one_scan(b, d, l, n, g, dtype, z=z).on("h100-sxm")
    assert found.all.by == by
    assert 0.1 * measured < found.total < measured


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 64)
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
        self.idle = nn.Linear(512, 512)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layers(self.table(ids))


@pytest.fixture(scope="module")
def counted() -> Report:
    return flopscan.count(Net(), flopscan.shape(2, 8, dtype="int64"))


def test_operators_sum_to_the_model_and_so_do_modules(counted: Report) -> None:
    found = counted.on("h100-sxm", "bf16")
    assert math.isclose(sum(row.seconds for row in found.by_operator().values()), found.total)
    modules = found.by_module()
    assert math.isclose(modules[""].seconds, found.total)
    below = sum(modules[name].seconds for name in ("table", "layers", "idle"))
    assert math.isclose(below, found.total)
    assert modules["idle"].seconds == 0 and modules["idle"].by == ""
    for row in (*modules.values(), *found.by_operator().values()):
        assert math.isclose(sum(row.limits.values()), row.seconds)
        assert set(row.limits) <= set(UNITS)
    assert sum(row.flops for row in found.by_operator().values()) == int(counted.flops)
    assert modules[""].bytes == modules["layers"].bytes + modules["table"].bytes


def test_fused_moves_what_is_read_once(counted: Report) -> None:
    """The parameters of the modules that ran, of the table the rows that were looked up, the ids and the output."""
    found = counted.on("h100-sxm")
    parameters = 64 * 128 + 128 + 128 * 64 + 64
    rows, ids, output = 2 * 8 * 64, 2 * 8 * 8, 2 * 8 * 64
    assert found.stored == 4 * (parameters + rows + output) + ids
    assert counted.on("h100-sxm", "bf16").stored == 2 * (parameters + rows + output) + ids
    assert found.fused.busy["memory"] == found.stored / 3.35e12
    assert found.fused.seconds <= found.total


def test_a_backward_writes_the_gradients_that_are_asked_for() -> None:
    layer = nn.Linear(16, 16, bias=False)
    forward = flopscan.count(layer, (4, 16)).on("h100-sxm").stored
    both = flopscan.count(layer, (4, 16), backward=True).on("h100-sxm").stored
    assert forward == 4 * (256 + 64 + 64) and both == forward + 4 * 256
    frozen = nn.Sequential(nn.Linear(16, 16, bias=False).requires_grad_(False), nn.Linear(16, 16, bias=False))
    assert flopscan.count(frozen, (4, 16), backward=True).on("h100-sxm").stored == 4 * (3 * 256 + 128)


def test_a_running_count_has_its_ends_too() -> None:
    layer = nn.Linear(16, 16)
    shapes = flopscan.count(layer, (4, 16)).on("l4")
    assert flopscan.count(layer, torch.ones(4, 16), run=True).on("l4").stored == shapes.stored
    with flopscan.counting() as seen:
        layer(torch.ones(4, 16))
    assert seen.report.on("l4").stored == 4 * (16 * 16 + 16)


def test_a_dtype_rescales_floats_and_leaves_integers() -> None:
    counted = flopscan.count(nn.Linear(256, 256, bias=False), (64, 256))
    bytes_of = {dtype: counted.on("h100-sxm", dtype).all.bytes for dtype in ("fp64", "fp32", "tf32", "bf16", "fp8")}
    elements = 256 * 256 + 2 * 64 * 256
    assert bytes_of == {name: elements * size for name, size in zip(bytes_of, (8, 4, 4, 2, 1), strict=True)}
    table = flopscan.count(nn.Embedding(10, 4), flopscan.shape(6, dtype="int64")).on("h100-sxm", "bf16")
    assert table.all.bytes == 6 * 8 + 2 * (6 * 4) * 2
    half = flopscan.count(nn.Linear(256, 256, bias=False).half(), flopscan.shape(64, 256, dtype="float16"))
    assert half.on("h100-sxm").all.bytes == bytes_of["bf16"]
    assert half.on("h100-sxm").main_dtype == "fp16"


def test_float32_products_run_on_vector_units_unless_tf32_is_asked_for() -> None:
    counted = flopscan.count(nn.Linear(4096, 4096, bias=False), (4096, 4096))
    flops = 2 * 4096**3
    exact, fast = counted.on("h100-sxm"), counted.on("h100-sxm", "tf32")
    assert exact.all.by == "vector" and exact.total == pytest.approx(flops / 66.9e12)
    assert fast.all.by == "matrix" and fast.total == pytest.approx(flops / 494.7e12)
    assert "--dtype tf32" in str(exact) and "--dtype tf32" not in str(fast)


def test_mamba2_takes_its_chunk_form_where_products_are_fast_and_its_recurrence_where_not() -> None:
    def spec(*sizes: int) -> TensorSpec:
        return TensorSpec(sizes, "bfloat16")

    bc = spec(8, 4096, 1, 128)
    operands = {
        "x": spec(8, 4096, 32, 64), "dt": spec(8, 4096, 32), "A": spec(32), "B": bc, "C": bc, "chunk_size": 256,
    }  # fmt: skip
    call = Call("flopscan::ssd", operands, (operands["x"],))
    ledger = analysis.price(Trace((call,), (Record(0, 0, 1),), (Module("", "Scan"),)))
    price = ledger.prices[0]
    assert price.executed is not None and price.executed.fma > price.ideal.fma
    chunks = report.make(ledger).on("h100-sxm").forms[0]
    steps = report.make(ledger).on(dataclasses.replace(H100, matrix={})).forms[0]
    assert chunks.cost == price.executed and chunks.work.matrix == 2 * price.executed.fma
    assert steps.cost == price.ideal and steps.work.matrix == 0
    assert chunks.bound.seconds < steps.bound.seconds


def test_ridge_and_intensity(counted: Report) -> None:
    found = counted.on("h100-sxm", "bf16")
    assert found.ridge == pytest.approx(989.4 / 3.35)
    assert found.intensity == pytest.approx(int(counted.flops) / found.all.bytes)
    assert counted.on("m1", "bf16").ridge == pytest.approx(2617 / 68.25)  # no matrix units: on vector units
    assert counted.on("m4").ridge is None
    assert "vector fp32" in counted.on("m4").unknown
    assert "not known of m4: its rate for vector fp32" in " ".join(str(counted.on("m4")).split())


def test_what_was_not_counted_makes_it_at_least() -> None:
    spec = TensorSpec((4, 4))
    known = Call("aten::mm", {"self": spec, "mat2": spec}, (spec,))
    trace = Trace(
        (known, Call("my::op", {"x": spec}, (spec,))), (Record(0, 1, 1), Record(1, 1, 2)),
        (Module("", "Net"), Module("layer", "Layer")),
    )  # fmt: skip
    found = report.make(analysis.price(trace)).on("l4")
    assert found.least and found.to_dict()["at_least"]
    assert found.by_module()["layer"].uncounted == 2
    printed = found.__str__()
    assert re.search(r"my::op +2 +\? +\? +not counted", printed)
    assert "operators that were not counted would add to it" in " ".join(printed.split())
    assert "≥0.640 ns" in text.render(report.make(found.ledger), width=120, roofline=found)


def test_nothing_to_do_is_no_failure() -> None:
    found = report.make(Ledger(Trace((), (), (Module("", "Net"),)), ())).on("h100-sxm", "bf16")
    assert (found.total, found.intensity, found.fused.seconds) == (0.0, None, 0.0)
    assert "nothing to do" in str(found) and "nothing moves" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_wrong_names_are_one_sentence(counted: Report) -> None:
    with pytest.raises(UsageError, match="no device 'h101'; did you mean"):
        counted.on("h101")
    with pytest.raises(UsageError, match="no dtype 'float16' for a roofline; expected fp64, fp32"):
        counted.on("h100-sxm", "float16")


def test_json_holds_what_the_object_says(counted: Report, tmp_path: Path) -> None:
    found = counted.on("h100-sxm", "bf16")
    data = json.loads(formats.get("json").render(counted, Shown(roofline=found)))["roofline"]
    assert "roofline" not in json.loads(formats.get("json").render(counted, Shown()))
    assert data == json.loads(json.dumps(found.to_dict()))
    assert data["seconds"] == found.total and data["device"] == "h100-sxm" and data["dtype"] == "bf16"
    assert sum(point["seconds"] for point in data["points"]) == pytest.approx(found.total)
    for point in data["points"]:
        assert point["bound_by"] in UNITS and point["intensity"] == point["flops"] / point["bytes"]
    rates = {"memory": 3.35e12, "matrix": 989.4e12, "vector": 133.8e12, "special": 16 * 132 * 1.98e9}
    assert data["rates"] == pytest.approx(rates)
    path = tmp_path / "net.json"
    formats.save(counted, path, Shown(roofline=found))
    assert saved.load(path)["roofline"] == data


@pytest.mark.parametrize("width", [44, 60, 80, 120, 200])
def test_text_fits_and_says_that_it_is_a_bound(counted: Report, width: int) -> None:
    printed = text.render(counted, width=width, depth=1, roofline=counted.on("h100-sxm", "bf16"))
    assert max(map(len, printed.splitlines())) <= width
    flat = " ".join(printed.split())
    assert (
        "a bound, not a prediction" in flat and "operators one by one ≥" in flat and "all fused, overlapped ≥" in flat
    )
    assert "time bound" in flat
    assert "predicted" not in flat


def test_the_module_table_has_the_times_of_its_modules(counted: Report) -> None:
    found = counted.on("h100-sxm", "bf16")
    printed = text.render(counted, width=140, depth=1, roofline=found)
    assert re.search(rf"^\(model\).* {re.escape(duration(found.total))}$", printed, re.MULTILINE)
    layers = re.escape(duration(found.by_module()["layers"].seconds))
    assert re.search(rf"^  layers.* {layers}$", printed, re.MULTILINE)


def test_durations_have_four_digits() -> None:
    shown = {
        0: "0 us",
        8.7243e-5: "87.24 us",
        9.9996e-4: "1.000 ms",
        1.5: "1.500 s",
        1234.5: "1234 s",
        5.29e-7: "529.0 ns",
        4e-10: "0.400 ns",
    }
    assert {seconds: duration(seconds) for seconds in shown} == shown
