"""The devices that come with flopscan: every figure has a source and a day, and they fit together."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from flopscan import devices
from flopscan.devices import text
from flopscan.devices.device import DTYPES, SCHEMA, Device
from flopscan.errors import SchemaError, UsageError

KNOWN = devices.all_known()
EXPECTED = {
    "h100-pcie", "h100-sxm", "h200", "b200", "a100-40gb-pcie", "a100-40gb-sxm", "a100-80gb-pcie", "a100-80gb-sxm", "l4",
    "l40s", "rtx-3090", "rtx-4090", "rtx-5090", "mi300x", "m1", "m2", "m3-max", "m4", "m4-max", "epyc-9654",
    "xeon-8480+", "ryzen-9-7950x",
}  # fmt: skip


def test_the_devices_are_there() -> None:
    assert set(KNOWN) == EXPECTED
    assert f"what is known of {len(KNOWN)} devices" in (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("device", KNOWN.values(), ids=KNOWN)
def test_every_figure_says_where_and_when_it_was_read(device: Device) -> None:
    for name, figure in device.figures().items():
        assert figure.source.url, name
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", figure.source.read), name
        assert figure.value is None or figure.value > 0, name
        assert figure.value is not None or figure.how, f"{name} is unknown and does not say why"
    assert device.bandwidth.value and device.kind in ("gpu", "cpu")
    assert {*device.matrix, *device.vector} <= {*DTYPES}
    assert "fp32" in device.vector


@pytest.mark.parametrize("device", [d for d in KNOWN.values() if d.title.startswith("NVIDIA")], ids=lambda d: d.name)
def test_matrix_rates_are_dense(device: Device) -> None:
    """On matrix units half the bits give twice the rate: a figure with sparsity among dense ones would be off by 2."""
    rate = {dtype: figure.value for dtype, figure in device.matrix.items() if figure.value}
    assert rate["fp16"] == rate["bf16"]
    for narrow, wide in (("fp8", "fp16"), ("fp16", "tf32")):
        if narrow in rate and wide in rate:
            assert rate[narrow] == pytest.approx(2 * rate[wide], rel=0.01), (narrow, wide)
    if device.special is not None and device.special.value:
        lanes = 64 if device.name.startswith("a100") else 128
        assert device.special.value == pytest.approx(device.vector["fp32"].value * 16 / (2 * lanes), rel=0.02)


def test_names_forgive_case_and_blanks_and_unknown_ones_say_what_is_near() -> None:
    assert devices.get("H100 SXM") is KNOWN["h100-sxm"]
    assert devices.get("rtx_4090") is KNOWN["rtx-4090"]
    with pytest.raises(UsageError, match="no device 'h100'; did you mean h100-pcie or h100-sxm"):
        devices.get("h100")
    with pytest.raises(UsageError, match="no device 'rtx-4091'; did you mean rtx-4090"):
        devices.get("rtx-4091")
    with pytest.raises(UsageError, match="no device ''; expected one of `flopscan devices`"):
        devices.get("")


def test_a_device_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    for device in KNOWN.values():
        device.save(path)
        assert devices.get(path) == device


def test_a_file_that_is_no_device_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    data = KNOWN["l4"].to_dict()

    def refused(text: str) -> str:
        path.write_text(text)
        with pytest.raises(SchemaError) as error:
            devices.get(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "not whole JSON" in refused(json.dumps(data)[:-20])
    assert f"expected '{SCHEMA}'" in refused(json.dumps({**data, "schema": "flopscan.device/0"}))
    assert "damaged" in refused(json.dumps({k: v for k, v in data.items() if k != "vector"}))
    assert "bandwidth is -1.0; expected a number above 0" in refused(
        json.dumps({**data, "bandwidth": {**data["bandwidth"], "value": -1}})
    )
    assert "rate for 'fp3'" in refused(json.dumps({**data, "vector": {"fp3": data["memory"]}}))
    with pytest.raises(SchemaError, match="cannot read"):
        devices.get(tmp_path / "none.json")


def test_text_lists_all_and_tells_one_whole() -> None:
    table = text.listed(KNOWN.values(), 100)
    assert all(re.search(rf"^{re.escape(name)} ", table, re.MULTILINE) for name in KNOWN)
    assert max(map(len, table.splitlines())) <= 100
    whole = text.described(KNOWN["h100-sxm"], 100)
    assert "989.4 TFLOP/s" in whole and "measured copy" in whole
    for figure in KNOWN["h100-sxm"].figures().values():
        assert figure.source.url in whole.replace("\n    ", " ")
    unknown = dataclasses.replace(KNOWN["mi300x"], name="x")
    assert re.search(r"vector fp64 +\? +\[1\] +not found", text.described(unknown, 100))
