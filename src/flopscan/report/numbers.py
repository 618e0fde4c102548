"""How numbers are written: all digits with separators, or four significant digits with an SI letter."""

from __future__ import annotations

from collections.abc import Iterable

LETTERS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def exact(value: int) -> str:
    """Every digit: ``9,811,123,456``."""
    return f"{int(value):,}"


def si(value: int) -> str:
    """Four significant digits and the letter of the power of 1000: ``9.811 G``; below 1000 the number itself."""
    value = int(value)
    size = abs(value)
    if size < 1000:
        return str(value)
    last = len(LETTERS) - 1
    power = min((len(str(size)) - 1) // 3, last)
    for p, decimals in ((p, d) for p in range(power, min(power + 1, last) + 1) for d in (3, 2, 1)):
        unit = 1000**p
        scaled = (2 * size * 10**decimals + unit) // (2 * unit)  # rounded half up, in integers
        if scaled < 10_000:
            break
    digits = f"{scaled:0{decimals + 1}d}"
    return f"{'-' * (value < 0)}{digits[:-decimals]}.{digits[-decimals:]} {LETTERS[p]}"


def aligned(value: int) -> str:
    """`si`, padded so that digits stand below digits in a column: a number without a letter gets two blanks."""
    text = si(value)
    return text if text[-1].isalpha() else f"{text}  "


def scaled(value: int, power: int) -> str:
    """``value`` in units of 1000**power with four significant digits, or every digit before the point if that is more.

    It is rounded half up, in integers: ``scaled(4_825_265_664, 3)`` is ``4.825``, ``scaled(42, 2)`` is ``0.00004200``.
    """
    value, unit = int(value), 1000**power
    size = abs(value)
    if not size or not power:
        return exact(value)
    decimals = max(0, 3 * power + 4 - len(str(size)))
    digits = (2 * size * 10**decimals + unit) // (2 * unit)
    if decimals and len(str(digits)) > max(4, len(str(size)) - 3 * power):  # 9.9996 became 10.000
        decimals -= 1
        digits = (2 * size * 10**decimals + unit) // (2 * unit)
    whole, rest = divmod(digits, 10**decimals)
    return f"{'-' * (value < 0)}{whole:,}" + (f".{rest:0{decimals}d}" if decimals else "")


def power_of(values: Iterable[int]) -> int:
    """The power of 1000 in which the largest of ``values`` has one to three digits before the point."""
    return min((len(str(max((abs(int(v)) for v in values), default=0))) - 1) // 3, len(LETTERS) - 1)


def percent(part: int, whole: int) -> str:
    """The share of ``part`` in ``whole``: two decimals below ten percent, one above."""
    if not whole:
        return "-"
    if not part:
        return "0%"
    share = 100 * part / whole
    if 0 < share < 0.005:
        return "<0.01%"
    return f"{share:.1f}%" if share >= 9.995 else f"{share:.2f}%"
