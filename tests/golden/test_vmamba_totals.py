"""Every published VMamba total, to the unit."""

from __future__ import annotations

import pytest

from golden.vmamba import FORMS, counted


@pytest.mark.parametrize("name", FORMS)
def test_totals_are_the_published_ones(name: str) -> None:
    params, macs, norms, e, p, published = FORMS[name]
    report = counted(name)
    assert report.params == params
    assert report.under("vmamba") == macs + norms + 9 * e + p
    assert report.macs == macs + 2 * e  # a scan makes two multiply-adds per state: h = a h + b and y = c h + y
    if not name.endswith("_v0"):
        assert f"{int(report.under('vmamba')) / 1e9:.9f}".rstrip("0") == published.rstrip("0")
    else:
        assert report.under("vmamba") / 1e9 == pytest.approx(float(published), rel=5e-5)


def test_the_tiny_model_is_nothing_but_these_numbers() -> None:
    report = counted("vmamba_tiny")
    assert report.params == 30_249_064
    assert report.under("vmamba") == 4_905_609_984
    assert report.under("vmamba").unit == "mixed"
    assert report.uncounted == ()
