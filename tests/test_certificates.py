"""The committed certificates: that they are whole, and how near the executed tier of the rules comes to them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.rules import ssd_kernel
from hardware import certificate, tables
from hardware.kernels import KERNELS, Case, call, cases

IDEAL_ONLY = ("gated_norm",)
EXACT = ("causal_conv1d",)  # each kind of operation, not FLOPs alone

CERTIFICATES = [certificate.read(path) for path in certificate.committed()]
ROWS = [pytest.param(row, id=row.case.title) for made in CERTIFICATES for row in certificate.rows(made)]
LAUNCHES = [launch for made in CERTIFICATES for found in made["cases"] for launch in found["launches"]]


def test_every_kernel_has_a_certificate() -> None:
    assert {made["kernel"] for made in CERTIFICATES} == set(KERNELS)


@pytest.mark.parametrize("made", CERTIFICATES, ids=lambda made: made["kernel"])
def test_a_certificate_says_where_it_comes_from(made: dict[str, Any]) -> None:
    assert made["gpu"]["name"] and made["profiler"] and made["command"]
    assert made["build"]["packages"]["flopscan" if made["kernel"].startswith("flopscan_") else "mamba_ssm"]
    assert all(found["launches"] for found in made["cases"])


@pytest.mark.parametrize("row", ROWS)
def test_the_executed_tier_is_what_was_counted(row: certificate.Row) -> None:
    kernel = row.case.kernel
    if kernel in IDEAL_ONLY:
        assert row.executed is None and row.ideal is not None
        return
    for variant, cost in row.compared():
        held, functions = tables.HELD[kernel, variant], row.transcendental(cost)
        assert row.ratio(cost) == pytest.approx(1, abs=held.flops)
        if functions is not None:
            low = 0.0 if held.functions is None else 1 - held.functions
            assert low <= functions <= 1 + (held.functions or 0.0)
        if kernel in EXACT:
            assert cost is not None and cost.arithmetic() == row.counted.arithmetic()


def test_every_tolerance_is_of_a_variant_and_no_wider_than_it_must_be() -> None:
    found = {(made["kernel"], name): rows for made in CERTIFICATES for name, rows in tables.groups(made).items()}
    assert {key for key in found if key[0] not in IDEAL_ONLY} == set(tables.HELD)
    for key, held in tables.HELD.items():
        farthest = max(abs(1 - (row.ratio(cost) or 0.0)) for row, cost in found[key])
        assert farthest <= held.flops <= max(2 * farthest, 0.0)


def test_the_page_of_certificates_is_current() -> None:
    """If not: `python -m hardware.certify document` in benchmarks/."""
    assert tables.PAGE.read_text() == tables.page(certificate.committed())


@pytest.mark.parametrize("row", ROWS)
def test_no_kernel_executes_less_than_the_least(row: certificate.Row) -> None:
    assert row.ideal is None or certificate.flops(row.ideal) <= certificate.flops(row.counted)


def test_opcodes_add_up_to_the_counters() -> None:
    for launch in LAUNCHES:
        sums: Counter[str] = Counter()
        for opcode, threads in launch["opcodes"].items():
            sums[opcode.partition(".")[0].lower()] += threads
        for op in ("fadd", "fmul", "ffma"):
            assert sums[op] == launch["counters"][f"smsp__sass_thread_inst_executed_op_{op}_pred_on.sum"], launch


def test_products_on_tensor_cores_add_up_to_the_counters() -> None:
    seen = 0
    for launch in LAUNCHES:
        products = {opcode: n for opcode, n in launch["opcodes"].items() if opcode.startswith(("HGMMA", "HMMA"))}
        multiply_adds = certificate.counted([{"opcodes": products}]).fma
        assert 2 * multiply_adds == launch["counters"]["sm__ops_path_tensor_src_bf16_dst_fp32.sum"], launch
        seen += bool(products)
    assert seen


@pytest.mark.parametrize("made", [m for m in CERTIFICATES if m["kernel"] == "ssd"], ids=lambda made: made["date"])
def test_the_products_of_every_kernel_of_ssd_are_those_of_its_tiles(made: dict[str, Any]) -> None:
    """Launch by launch, to the last digit."""
    seen: set[str] = set()
    for found in made["cases"]:
        b, l, h, p, n, g, q = (found["sizes"][axis] for axis in "blhpngq")
        work = ssd_kernel.Chunk(q, q, p, n, ssd_kernel.Tiles())
        scan = ssd_kernel.Scan(b, l, h, g, work, certificate.tiles(found["tuned"]))
        for launch in found["launches"]:
            if counted := launch["counters"]["sm__ops_path_tensor_src_bf16_dst_fp32.sum"]:
                assert counted == 2 * products(scan, launch["kernel"]), launch["kernel"]
                seen.add(launch["kernel"])
    assert seen == {kernel for kernel in ssd_kernel.KERNELS if products(scan, kernel)}


def products(scan: ssd_kernel.Scan, kernel: str) -> int:
    """The multiply-adds of one launch; that of _state_passing_fwd is not on tensor cores."""
    return 0 if kernel == "_state_passing_fwd_kernel" else int(scan.cost(kernel).fma)


def test_kinds_of_opcodes() -> None:
    opcodes = {
        "FADD.FTZ": 1, "FMUL.RZ": 2, "FFMA": 4, "MUFU.EX2": 8, "MUFU.COS": 16, "MUFU.RCP": 96, "I2F.RP": 32,
        "HFMA2.MMA": 1000, "FSEL": 1000, "REDG.E.ADD.F32.FTZ.RN.STRONG.GPU": 5,
    }  # fmt: skip
    assert certificate.counted([{"opcodes": opcodes}]) == Cost(add=1, mul=2, fma=4, exp=8, trig=16, div=64)
    assert certificate.additions_in_memory([{"opcodes": opcodes}]) == 5


@pytest.mark.parametrize(
    ("opcode", "threads", "products"),
    [
        ("HGMMA.64x128x16.F32.BF16", 128, 64 * 128 * 16),
        ("HMMA.16816.F32.BF16", 32, 16 * 8 * 16),
        ("HMMA.1688.F32", 32, 16 * 8 * 8),
    ],
)
def test_multiply_adds_of_tensor_cores(opcode: str, threads: int, products: int) -> None:
    assert certificate.counted([{"opcodes": {opcode: threads}}]) == Cost(fma=products)


@pytest.mark.parametrize("case", [c for kernel in KERNELS for c in cases(kernel)], ids=lambda case: case.title)
def test_the_rules_price_every_case(case: Case) -> None:
    assert price_call(call(case)).ideal is not None


def test_a_certificate_survives_writing(tmp_path: Any) -> None:
    for made in CERTIFICATES:
        assert certificate.read(certificate.write(made, tmp_path)) == made
