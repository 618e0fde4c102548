"""The CUDA form of the selective scan against the definition in float64, its kernels run on the CPU by g++."""

from __future__ import annotations

import ctypes
import json
import re
from itertools import product
from typing import Any

import pytest
import torch

from flopscan.ops.gpu import nvrtc
from flopscan.ops.selective_scan import cuda, reference
from scan_cases import FULL, USUAL, check, error, operands

pytestmark = pytest.mark.usefixtures("emulated")


def mostly_slow(fast: list[Any], slow: list[Any]) -> list[Any]:
    """Parameters of which the ``slow`` ones only run with the slow tests: most compile kernels of their own."""
    return [*fast, *(pytest.param(*(x if isinstance(x, tuple) else (x,)), marks=pytest.mark.slow) for x in slow)]


def passes(shape: tuple[int, ...], given: list[str] = FULL, dtype: str = "float32", **more: Any) -> None:
    """Assert that output, last state and every gradient are right."""
    found = check({"shape": shape, "given": given, "dtype": dtype, **more}, "cpu")
    assert found["passed"], json.dumps(found["errors"])


@pytest.mark.parametrize("length", mostly_slow([1, 65], [2, 3, 63, 64, 196, 257]))
def test_lengths_of_sixteen_states(length: int) -> None:
    passes((2, 5, length, 16, 1))


@pytest.mark.parametrize("length", mostly_slow([257], [1, 2, 3, 63, 64, 65, 196, 600]))
def test_lengths_of_one_state(length: int) -> None:
    passes((2, 6, length, 1, 2))


@pytest.mark.parametrize("states", mostly_slow([3], [2, 8, 17, 64, 256]))
def test_numbers_of_states(states: int) -> None:
    passes((1, 6, 70, states, 2))


@pytest.mark.parametrize("channels, groups", mostly_slow([(34, 2)], [(1, 1), (3, 1), (33, 1), (72, 4)]))
@pytest.mark.parametrize("states", [1, 16])
def test_channels_and_groups(channels: int, groups: int, states: int) -> None:
    passes((1, channels, 65, states, groups))


@pytest.mark.slow
@pytest.mark.parametrize("missing", [["D"], ["delta_bias"], ["initial_state"], ["grad_last"]])
@pytest.mark.parametrize("states", [1, 16])
def test_an_operand_is_absent(missing: list[str], states: int) -> None:
    passes((1, 33, 65, states, 1), [name for name in FULL if name not in missing])


@pytest.mark.slow
@pytest.mark.parametrize("states", [1, 16])
def test_all_that_is_optional_is_absent(states: int) -> None:
    passes((1, 33, 65, states, 1), [], softplus=False)


@pytest.mark.parametrize("states", mostly_slow([16], [1]))
def test_deltas_beyond_the_softplus_and_fast_decays(states: int) -> None:
    passes((2, 9, 130, states, 1), USUAL, extreme=True)


@pytest.mark.parametrize("states", mostly_slow([1], [16]))
def test_strided_and_unaligned_operands(states: int) -> None:
    passes((2, 10, 131, states, 2), strided=True)


@pytest.mark.parametrize("states", mostly_slow([16], [1]))
def test_deterministic_sums(states: int) -> None:
    passes((2, 40, 130, states, 1), deterministic=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(dtype: str) -> None:
    passes((2, 8, 130, 16, 2), dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("states", [1, 16])
def test_rows_that_end_in_the_middle_of_what_a_lane_loads(states: int) -> None:
    """196 positions of 16 bits: rows start at multiples of 8 bytes and are a whole number of these."""
    passes((2, 8, 196, states, 2), dtype="bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize(
    "lanes, each, more", [(2, 8, {"tile": 32, "sub": 4}), (8, 2, {}), (4, 4, {"tile": 32, "warps": 2})]
)
def test_other_forms(lanes: int, each: int, more: dict[str, int]) -> None:
    """What the default is for many channels, and what is timed beside it."""
    passes((1, 34, 130, 16, 2), form={"lanes": lanes, "states": each, **more})


@pytest.mark.slow
@pytest.mark.parametrize("given", [FULL, []])
@pytest.mark.parametrize("length", [1096, 1100])
def test_segments(given: list[str], length: int) -> None:
    passes((1, 8, length, 16, 1), given)


@pytest.mark.parametrize(
    "length, dtype", mostly_slow([(192, "float32")], [(136, "float32"), (256, "bfloat16"), (1152, "float32")])
)
def test_states_are_made_again_where_few_are_kept(length: int, dtype: str) -> None:
    """Without z: states before tiles lie in the gradient of u, or where its last tile has no room for them apart."""
    passes((1, 9, length, 16, 1), ["D", "grad_last"], dtype)


def test_segments_that_remember_everything() -> None:
    """Decays so slow that nothing may be left out of what crosses from a segment to the next."""
    x = _operands(1, 4, 1100, 16)
    x["A"] *= 1e-3
    eight = [None if v is None else v.double() for v in list(x.values())[:8]]
    assert error(_forward(x), reference.selective_scan(*eight, True)) < 2e-6


def test_nan_and_infinity_pass() -> None:
    x = _operands(1, 2, 70, 16)
    x["u"][0, 0, 5], x["u"][0, 1, 9] = float("nan"), float("inf")
    out = _forward(x)
    assert out[0, 0, :5].isfinite().all() and out[0, 0, 5:].isnan().all()
    assert out[0, 1, :9].isfinite().all() and not out[0, 1, 9:].isfinite().any()


def _operands(b: int, d: int, l: int, n: int) -> dict[str, Any]:
    return operands((b, d, l, n, 1), "float32", {"D", "delta_bias"}, "cpu")


def _forward(x: dict[str, Any]) -> torch.Tensor:
    return cuda.forward(*x.values(), delta_softplus=True, keep=False, out_dtype=torch.float32)[0]


def test_saved_states_take_half_the_bytes_of_u_in_sixteen_bits() -> None:
    for states in (1, 2, 16, 17, 64):
        b, chunks, d, n = cuda.saved_shape(2, 10, 4096, states)
        assert (b, d, n) == (2, 10, states)
        assert 4 * chunks * n * b * d <= 2 * 10 * 4096


@pytest.mark.parametrize("gated", [False, True])
def test_no_more_is_kept_than_the_public_kernel_keeps(gated: bool) -> None:
    """Which is, in numbers of 4 bytes, 2 n of every 2048 positions, and with z the output before it, in 16 bits."""
    for n, l in product((2, 16, 17, 64), (64, 196, 784, 2048, 3136, 65536)):
        _, chunks, _, _ = cuda.saved_shape(1, 1, l, n, gated)
        assert chunks * n <= 2 * n * -(-l // 2048) + (l // 2 if gated else 0)


def test_the_parameter_has_the_fields_of_the_source_in_order() -> None:
    text = re.search(r"struct Scan \{(.*?)\};", cuda.source("scan_forward"), re.DOTALL)[1]
    declared = re.sub(r"//.*", "", text)
    declared = re.sub(r"\b(const|void|float|int|i64|Matrix|Grouped)\b|\*", "", declared)
    assert re.findall(r"\w+", declared) == [name for name, _ in cuda.Scan._fields_]


def test_a_launch_is_told_what_the_cache_is_named_by(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setenv("FLOPSCAN_CACHE", str(tmp_path))
    monkeypatch.setattr(nvrtc, "version", lambda: (13, 0))
    monkeypatch.setattr(nvrtc, "compile_source", lambda *args: compiled.append(args) or b"machine code")
    for options in (("-DA=1",), ("-DA=1",), ("-DA=2",)):
        assert nvrtc.code("text", options, "sm_90") == b"machine code"
    assert compiled == [("text", ("-DA=1",), "sm_90"), ("text", ("-DA=2",), "sm_90")]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_emulator_has_the_parameter_of_the_source() -> None:
    assert ctypes.sizeof(cuda.Scan) % 8 == 0
    assert ctypes.sizeof(cuda.Scan) < 4096  # what every GPU takes as parameters
