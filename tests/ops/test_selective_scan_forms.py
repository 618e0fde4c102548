"""Every form of the selective scan that runs here, against the definition in float64: outputs, states and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flopscan.ops import selective_scan
from flopscan.ops.selective_scan import forms
from ops.scans import Case, check

LENGTHS = (1, 2, 63, 64, 65, 196, 1000, 3136, 8192)
STATES = (1, 8, 16, 64, 256)
OPTIONAL = ("D", "z", "delta_bias", "initial_state")
GIVEN = [given for k in range(5) for given in combinations(OPTIONAL, k)]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(params=["cpu", "chunked"], scope="module")
def form(request: pytest.FixtureRequest) -> str:
    if forms.find(request.param) is None:
        pytest.skip("numba is not installed")
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """Fresh memory holds NaN: what is read before it is written shows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("l", [1, 2, 63, 65, 196])
@pytest.mark.parametrize("n", STATES)
def test_lengths_and_states(form: str, n: int, l: int) -> None:
    check(Case(l, n, d=18 if n < 64 or l < 63 else 3), form)


@pytest.mark.parametrize(("l", "n"), [(1000, 64), (3136, 1)])
def test_long_sequences(form: str, n: int, l: int) -> None:
    check(Case(l, n, d=4), form)


@pytest.mark.slow
@pytest.mark.parametrize("n", STATES)
@pytest.mark.parametrize("l", LENGTHS)
def test_the_whole_grid(form: str, l: int, n: int) -> None:
    for dtype, g in product(DTYPES, (1, 2)):
        check(Case(l, n, d=34 if l < 1000 else 4, b=2, g=g, dtype=dtype), form)


@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_optional_operands(form: str, given: tuple[str, ...]) -> None:
    dtype = DTYPES[len(given) % 3]
    check(Case(70, 5, b=2, d=20, given=given, dtype=dtype), form, seen="D" in given)


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(("d", "g"), [(1, 1), (16, 1), (33, 1), (8, 4), (64, 2), (51, 3)])
def test_groups_and_channels(form: str, d: int, g: int, strided: bool) -> None:
    check(Case(67, 3, b=2, d=d, g=g, strided=strided), form)
    check(Case(67, 3, b=2, d=d, g=g, B="b n l", strided=strided), form)


@pytest.mark.parametrize(
    ("step", "decay", "softplus"),
    [
        (25.0, 1.0, True), (20.0, 0.01, True), (-25.0, 1.0, True), (-60.0, 1.0, True), (-2.0, 1e4, True),
        (3.0, 1e-4, False),
    ],
    ids=["large steps", "around 20", "small steps", "next to none", "fast decay", "slow decay"],
)  # fmt: skip
def test_extremes(form: str, step: float, decay: float, softplus: bool) -> None:
    check(Case(130, 16, d=17, step=step, decay=decay, softplus=softplus), form)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("complex_A", [False, True])
@pytest.mark.parametrize(("B", "C"), [*product(("d n", "b n l"), repeat=2), ("b g n l", "d n"), ("b n l", "b g n l")])
def test_the_form_for_everything(B: str, C: str, complex_A: bool, dtype: torch.dtype) -> None:
    check(Case(130, 3, b=2, d=6, g=2, B=B, C=C, complex_A=complex_A, dtype=dtype), None)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_scan(form: str, data: st.DataObject) -> None:
    g = data.draw(st.integers(1, 3))
    case = Case(
        l=data.draw(st.integers(1, 200)), n=data.draw(st.integers(1, 40)), b=data.draw(st.integers(1, 3)),
        d=g * data.draw(st.integers(1, 20)), g=g, given=tuple(data.draw(st.sets(st.sampled_from(OPTIONAL)))),
        softplus=data.draw(st.booleans()), dtype=data.draw(st.sampled_from(DTYPES)), strided=data.draw(st.booleans()),
    )  # fmt: skip
    check(case, form, seen=data.draw(st.booleans()))


def test_an_output_of_another_dtype(form: str) -> None:
    operands = Case(30, dtype=torch.float16).operands()
    with forms.use(form):
        half, wide = (selective_scan(**operands, delta_softplus=True, dtype=dtype) for dtype in (None, torch.float32))
    assert (half.dtype, wide.dtype) == (torch.float16, torch.float32)
    torch.testing.assert_close(wide.half(), half, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "initial_state"])
def test_nan_goes_through(form: str, name: str) -> None:
    """To all that depends on it, and to nothing before it."""
    operands = Case(80, 4, d=18).operands()
    operands[name][(0,) * (operands[name].dim() - 1) + (-1 if name in "udeltaBCz" and name != "A" else 0,)] = torch.nan
    with forms.use(form):
        out = selective_scan(**operands, delta_softplus=True)
    at = -1 if operands[name].shape[-1] == 80 else 0
    assert out[0, 0, at].isnan()
    if at:
        assert not out[..., :at].isnan().any()


def test_what_is_kept_is_no_larger_than_the_input(form: str) -> None:
    for n, l in product(STATES, (300, 4096)):
        (b, d), form_of = (2, 8), forms.find(form)
        assert form_of is not None
        kept = form_of.saved_shape(b, d, l, n)
        assert torch.Size(kept).numel() <= b * d * (l + 256)


def test_results_do_not_depend_on_the_number_of_threads(form: str) -> None:
    case, found = Case(100, 16, d=256), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        with forms.use(form):
            found.append(selective_scan(**case.operands(), delta_softplus=True))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_cases_reach_what_they_are_for() -> None:
    """The operands of a case are as it says, so that a test of an extreme is one."""
    fast = replace(Case(30), decay=1e4).operands()
    assert fast["A"].max() < -1e3
    assert not Case(30, strided=True).operands()["u"].is_contiguous()
