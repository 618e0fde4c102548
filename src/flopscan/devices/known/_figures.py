"""How the files here write figures: rates in units of 10^12 a second, with one source for several."""

from __future__ import annotations

from flopscan.devices.device import Figure, Source

READ = "2026-11-27"
GUIDE = Source(
    "https://docs.nvidia.com/cuda/cuda-c-programming-guide/#arithmetic-instructions", READ,
    "https://arxiv.org/abs/2407.08608, footnote 5",
)  # fmt: skip


def tera(source: Source, how: str = "", **rates: float | None) -> dict[str, Figure]:
    """A figure by dtype, of numbers in 10^12 a second."""
    return {dtype: Figure(None if rate is None else rate * 1e12, source, how) for dtype, rate in rates.items()}


def gigabytes(size: float, source: Source, how: str = "") -> Figure:
    """A size in bytes, of a number in 10^9."""
    return Figure(size * 1e9, source, how)


def gigabytes_a_second(rate: float, source: Source, how: str = "") -> Figure:
    """A bandwidth in bytes a second, of a number in 10^9."""
    return Figure(rate * 1e9, source, how)


def special_functions(multiprocessors: int, gigahertz: float, source: Source = GUIDE, each: int = 16) -> Figure:
    """Exponentials a second: ``each`` a clock and multiprocessor. Halves in pairs are no faster: two instructions."""
    how = f"{each} a clock and multiprocessor x {multiprocessors} multiprocessors x {gigahertz} GHz"
    return Figure(each * multiprocessors * gigahertz * 1e9, source, how)
