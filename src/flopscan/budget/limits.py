"""Limits and tolerances as people write them: ``<=5G``, ``==4_825_265_664``, ``5G +-1%``; ``0.5%``."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from fractions import Fraction

from flopscan.errors import UsageError

_DIGITS = r"\d[\d_,]*(?:\.[\d_]+)?(?:[eE][+-]?\d{1,2})?"
_FORM = re.compile(
    rf"(?P<sign><=|>=|==|<|>)?\s*(?P<number>{_DIGITS})\s*(?P<letter>[kKMGTPE]?)"
    rf"(?:\s*(?:\+-|\+/-|±)\s*(?:(?P<percent>{_DIGITS})\s*%|(?P<margin>{_DIGITS})\s*(?P<margin_letter>[kKMGTPE]?)))?"
)
_PERCENTAGE = re.compile(rf"({_DIGITS})\s*%|0")
_HOLDS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq}
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
EXPECTED = "expected a comparison such as '<=5G', '<4.82e9', '==4_825_265_664' or '5G +-1%'"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a number must be: ``sign`` and ``bound``, or within ``margin`` of ``bound`` where there is no sign."""

    text: str
    sign: str
    bound: Fraction
    margin: Fraction = Fraction(0)

    def holds(self, value: int) -> bool:
        """Whether ``value`` is within the limit."""
        if self.sign:
            return bool(_HOLDS[self.sign](value, self.bound))
        return abs(value - self.bound) <= self.margin

    def excess(self, value: int) -> Fraction:
        """How far ``value`` is from what would hold, with its sign; 0 where it is within the limit or at its edge."""
        low = self.bound - self.margin if self.sign in ("", ">", ">=", "==") else None
        high = self.bound + self.margin if self.sign in ("", "<", "<=", "==") else None
        if high is not None and value > high:
            return value - high
        return value - low if low is not None and value < low else Fraction(0)


def limit(text: object) -> Limit:
    """The limit that ``text`` states. Raises UsageError for anything else, which says how one is written."""
    match = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"{text!r} is not a limit; {EXPECTED}")
    sign, bound = match["sign"] or "", _amount(match["number"], match["letter"])
    margin = Fraction(0)
    if match["percent"]:
        margin = bound * _amount(match["percent"]) / 100
    elif match["margin"]:
        margin = _amount(match["margin"], match["margin_letter"])
    elif not sign:
        raise UsageError(f"{text!r} does not say what of it: write '<={match[0]}', '=={match[0]}' or '{match[0]} +-1%'")
    if sign == "==" and (match["percent"] or match["margin"]):
        sign = ""
    if sign and (match["percent"] or match["margin"]):
        raise UsageError(f"{text!r} has both {sign} and a margin; {EXPECTED}")
    return Limit(" ".join(match[0].split()), sign, bound, margin)


def tolerance(text: object) -> Fraction:
    """The part that a number may grow by, from ``1%``, ``0.5%`` or ``0``. Raises UsageError for anything else."""
    match = _PERCENTAGE.fullmatch(text.strip()) if isinstance(text, str) else None
    found = _amount(match[1] or "0") / 100 if match else None
    if found is None or found > 1:
        raise UsageError(f"the tolerance {text!r} is not a percentage from 0% to 100%; write it as in 1% or 0.5%")
    return found


def _amount(digits: str, letter: str = "") -> Fraction:
    return Fraction(digits.replace(",", "").replace("_", "")) * 1000 ** _POWERS[letter]
