"""Numbers with a unit, as the tools write them."""

from __future__ import annotations

from collections.abc import Mapping


def rounded(number: float, units: Mapping[str, int], plain: str, unit: str | None, digits: int) -> str:
    """``number`` in ``unit``, or in the first of ``units`` that it is at least one of; whole in the ``plain`` one."""
    if unit is None:
        unit = next((name for name, size in units.items() if number // size > 0), plain)
    if unit not in units:
        return f"{number} {plain}".rstrip()
    return f"{round(number / units[unit], digits)} {unit}"
