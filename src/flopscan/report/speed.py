"""Speed: how fast a model ran here, which is a measurement and no count."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Speed:
    """The seconds of some forward passes on ``items`` images, tokens or samples (``unit``), and where and when."""

    items: int
    unit: str
    seconds: tuple[float, ...]
    device: str
    threads: int
    date: str

    @property
    def rate(self) -> float:
        """Items a second, by the median of the passes."""
        return self.items / statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON-ready data."""
        return {
            "per_second": self.rate, "items": self.items, "unit": self.unit, "seconds": list(self.seconds),
            "device": self.device, "threads": self.threads, "date": self.date,
        }  # fmt: skip

    def __str__(self) -> str:
        low, high = (self.items / seconds for seconds in (max(self.seconds), min(self.seconds)))
        unit = self.unit if self.items > 1 else self.unit.removesuffix("s")
        return f"{self.items:,} {unit} a pass, {low:,.4g} to {high:,.4g} a second in {len(self.seconds)} passes"
