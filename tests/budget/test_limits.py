"""Limits and tolerances say exactly what they mean, and refuse what means nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopscan.budget import limits
from flopscan.errors import UsageError

G = 10**9


@pytest.mark.parametrize(
    ("text", "holds", "breaks"),
    [
        ("<=5G", (0, 5 * G), (5 * G + 1,)),
        ("<= 5 G", (5 * G,), (5 * G + 1,)),
        ("<5G", (5 * G - 1,), (5 * G,)),
        ("<4.82e9", (4_819_999_999,), (4_820_000_000,)),
        ("==4_825_265_664", (4_825_265_664,), (4_825_265_663, 4_825_265_665)),
        ("==4,825,265,664", (4_825_265_664,), (4_825_265_665,)),
        (">=1k", (1000,), (999,)),
        (">1k", (1001,), (1000,)),
        ("5G +-1%", (4_950_000_000, 5_050_000_000), (4_949_999_999, 5_050_000_001)),
        ("5G ±1%", (4_950_000_000,), (4_949_999_999,)),
        ("==5G +/- 1%", (5_050_000_000,), (5_050_000_001,)),
        ("100 +-2", (98, 102), (97, 103)),
        ("3M+-1.5k", (3_001_500,), (3_001_501,)),
        ("<=2.5e0k", (2500,), (2501,)),
        ("<=1E", (10**18,), (10**18 + 1,)),
    ],
)
def test_what_holds(text: str, holds: tuple[int, ...], breaks: tuple[int, ...]) -> None:
    limit = limits.limit(text)
    assert all(limit.holds(value) and limit.excess(value) == 0 for value in holds)
    assert not any(limit.holds(value) for value in breaks)


def test_how_far_off() -> None:
    assert limits.limit("<=5").excess(7) == 2
    assert limits.limit("==5").excess(3) == -2
    assert limits.limit("100 +-2").excess(95) == -3
    assert limits.limit("<5").excess(5) == 0, "at the edge"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5G", "'5G' does not say what of it: write '<=5G', '==5G' or '5G +-1%'"),
        ("", "'' is not a limit; expected a comparison such as '<=5G', '<4.82e9', '==4_825_265_664' or '5G +-1%'"),
        ("<=", "'<=' is not a limit"),
        ("<=five", "'<=five' is not a limit"),
        ("<=5 GFLOPs", "'<=5 GFLOPs' is not a limit"),
        ("<=-5", "'<=-5' is not a limit"),
        ("=5", "'=5' is not a limit"),
        ("<=nan", "'<=nan' is not a limit"),
        ("<=1e999", "'<=1e999' is not a limit"),
        ("<=5G +-1%", "'<=5G +-1%' has both <= and a margin"),
        (5_000_000_000, "5000000000 is not a limit"),
        (None, "None is not a limit"),
    ],
)
def test_what_is_no_limit(text: object, why: str) -> None:
    with pytest.raises(UsageError) as error:
        limits.limit(text)
    assert str(error.value).startswith(why) and "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "part"), [("1%", (1, 100)), ("0.5 %", (1, 200)), ("0", (0, 1)), ("100%", (1, 1))])
def test_tolerances(text: str, part: tuple[int, int]) -> None:
    assert limits.tolerance(text) == Fraction(*part)


@pytest.mark.parametrize("text", ["1", "-1%", "101%", "1e9%", "a lot", "", "%", "nan%", 1, 0.01, None])
def test_nonsense_is_no_tolerance(text: object) -> None:
    with pytest.raises(UsageError, match=r"is not a percentage from 0% to 100%; write it as in 1% or 0\.5%"):
        limits.tolerance(text)


@given(st.text(max_size=12))
def test_any_text_is_a_limit_or_one_sentence(text: str) -> None:
    try:
        limits.limit(text)
    except UsageError as error:
        assert error.exit_code == 2
