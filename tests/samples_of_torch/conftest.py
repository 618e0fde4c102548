"""Prints the coverage that the tests here measured, summed over their chunks (xdist's workers cannot print)."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One block per test that recorded a tally."""
    tallies: dict[str, Any] = {}
    for report in (r for key in ("passed", "failed") for r in terminalreporter.getreports(key)):
        for name, value in getattr(report, "user_properties", ()):
            if name == "coverage" and report.when == "call":
                from opinfo import Tally

                tallies.setdefault(report.nodeid.partition("[")[0], Tally()).merge(Tally(**value))
    for test, tally in tallies.items():
        terminalreporter.section(f"coverage: {test}")
        terminalreporter.write_line(str(tally))
