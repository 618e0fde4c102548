"""The nine VMamba forms at 224x224, batch 1: parameters, and the total as the VMamba repository counts.

total = exact multiply-adds of products and convolutions + norms and pooling + 9 E + P, where E sums B*D*L*N and P sums
B*D*L over the scans. For the six v05 forms this is what the repository printed, to the last digit (analyze/tp.py); for
the v0 forms its print-out is off by up to 5e-5, because numpy's einsum count has four digits: 5.62689504,
11.231522784 and 18.020115136 G were published.
"""

from __future__ import annotations

import functools

import flopscan

# name: (parameters, multiply-adds, norms and pooling, E, P, published total in G)
FORMS = {
    "vmamba_tiny_v0": (22_893_448, 3_676_962_816, 29_202_432, 211_943_424, 13_246_464, "5.62689504"),
    "vmamba_small_v0": (44_417_416, 7_689_738_240, 49_523_712, 385_351_680, 24_084_480, "11.231522784"),
    "vmamba_base_v0": (76_254_056, 13_297_262_592, 66_031_616, 513_802_240, 32_112_640, "18.020115136"),
    "vmamba_tiny_s2l5": (30_705_832, 4_716_208_128, 33_153_792, 10_838_016, 10_838_016, "4.85774208"),
    "vmamba_small": (50_147_752, 8_498_976_768, 48_206_592, 16_859_136, 16_859_136, "8.71577472"),
    "vmamba_base": (88_557_800, 15_069_880_320, 64_275_456, 22_478_848, 22_478_848, "15.358944256"),
    "vmamba_tiny": (30_249_064, 4_812_621_312, 29_766_912, 6_322_176, 6_322_176, "4.905609984"),
    "vmamba_small_s1l20": (49_012_840, 8_469_548_544, 43_314_432, 9_934_848, 9_934_848, "8.612211456"),
    "vmamba_base_s1l20": (86_614_504, 15_030_642_688, 57_752_576, 13_246_464, 13_246_464, "15.220859904"),
}


@functools.cache
def counted(name: str) -> flopscan.Report:
    """The report of a form, counted once in a process."""
    return flopscan.count(name, strict=True)
