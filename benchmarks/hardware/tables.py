"""What certificates say, as text: the table of `certify compare`, and docs/certificates.md."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flopscan import rules
from flopscan.core.cost import Cost
from flopscan.core.rule import Rule
from flopscan.rules import cross_selective_scan_own, selective_scan_own
from hardware import certificate
from hardware.kernels import call

PAGE = Path(__file__).parents[2] / "docs" / "certificates.md"
HEAD = ("kernel", "cases", "FLOPs: executed / counted", "exp and trig", "FLOPs: ideal / counted")


@dataclass(frozen=True)
class Held:
    """How far the executed tier may lie from what was counted: of FLOPs, and of exponentials and trigonometry.

    Without ``functions`` the rule only may not say more: lanes repeat exponentials, which is not in the shapes.
    """

    flops: float
    functions: float | None = 0.0

    def __str__(self) -> str:
        return f"{100 * self.flops:g} %" if self.flops else "exact"


# where the executed tier of flopscan's own kernels is
OWN = {"flopscan_scan": selective_scan_own, "flopscan_cross_scan": cross_selective_scan_own}
HELD = {
    ("selective_scan", "forward"): Held(0.003),
    ("selective_scan", "forward, complex A"): Held(0.02),
    ("selective_scan", "forward, constant B or C"): Held(0.0),
    ("selective_scan", "backward"): Held(0.03),
    ("selective_scan", "backward, complex A"): Held(0.03),
    ("selective_scan", "backward, constant B or C"): Held(0.05),
    ("flopscan_scan", "forward"): Held(0.005),
    ("flopscan_scan", "backward"): Held(0.0),
    ("flopscan_cross_scan", "forward"): Held(0.005),
    ("flopscan_cross_scan", "backward"): Held(0.004),
    ("causal_conv1d", "forward"): Held(0.0),
    ("causal_conv1d", "backward"): Held(0.0),
    ("selective_state_update", "forward"): Held(0.0),
    ("ssd", "forward"): Held(0.08, None),
    ("ssd", "forward, its tiles known"): Held(0.01, None),
    ("ssd", "backward"): Held(0.10, None),
    ("ssd", "backward, its tiles known"): Held(0.02, None),
}

Compared = tuple[certificate.Row, Cost | None]


def groups(made: dict[str, Any]) -> dict[str, list[Compared]]:
    """Rows, each with the executed tier to show, by variant; those with known tiles are apart."""
    found: dict[str, list[Compared]] = {}
    for row in certificate.rows(made):
        for variant, cost in row.compared():
            found.setdefault(variant, []).append((row, cost))
    return found


def lines(paths: Sequence[Path], each_case: bool) -> Iterator[str]:
    """A Markdown table: a line for each variant of each kernel, or for each case."""
    yield from header(HEAD)
    for path in paths:
        made = certificate.read(path)
        for variant, rows in groups(made).items():
            if not each_case:
                yield line(f"{made['kernel']}, {variant}", rows)
                continue
            for row in rows:
                yield line(row[0].case.title + variant.removeprefix(row[0].variant), [row])


def header(names: Sequence[str]) -> Iterator[str]:
    """The names of the columns."""
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)


def line(name: str, rows: Sequence[Compared], *more: str) -> str:
    """The least and the greatest ratios of some rows."""
    executed = [row.ratio(cost) for row, cost in rows]
    functions = [row.transcendental(cost) for row, cost in rows]
    spreads = map(spread, (executed, functions, [row.ratio(row.ideal) for row, _ in rows]))
    return f"| {' | '.join([name, str(len(rows)), *spreads, *more])} |"


def spread(ratios: Sequence[float | None]) -> str:
    """The least and the greatest."""
    given = [f"{ratio:.4f}" for ratio in sorted(r for r in ratios if r is not None)]
    return " to ".join(dict.fromkeys((given[0], given[-1]))) if given else "-"


INTRODUCTION = """# Certificates of rules
What kernels execute on a GPU, by its hardware counters, beside what the rules say of the same calls. `executed` is the
rule's tier of what this kernel runs, `ideal` the least that the operator's definition takes. Of each variant the least
and the greatest ratio over its cases, FLOPs with a multiply-add as two; "held to" is the tolerance of
`tests/test_certificates.py`, exponentials of SSD apart, which only may not be more. Where Triton chooses tiles when it
runs the rule assumes them; "its tiles known" is the same formula with those that it chose. How certificates are
taken, what is counted and what they do not say: `benchmarks/hardware/README.md`. Written by
`python -m hardware.certify document`."""


def page(paths: Sequence[Path]) -> str:
    """docs/certificates.md."""
    return "\n".join([INTRODUCTION, *(text for path in paths for text in section(path))]) + "\n"


def section(path: Path) -> Iterator[str]:
    """One certificate: its rules, where and with what it was taken, its ratios."""
    made = certificate.read(path)
    yield from ("", f"## {made['kernel']}")
    yield from (f"* {text}" for text in dict.fromkeys(map(rule_line, made["cases"])))
    packages = ", ".join(f"{name} {version}" for name, version in made["build"]["packages"].items())
    software = f"CUDA {made['cuda']}, torch {made['torch']}, Triton {made['triton']}, {packages}"
    yield f"* {made['gpu']['name']}, {made['date']}: driver {made['driver']}, {software}"
    yield f"* `benchmarks/hardware/certificates/{path.name}`"
    yield ""
    yield from header(("variant", *HEAD[1:], "held to"))
    for variant, rows in groups(made).items():
        yield line(variant, rows, str(HELD.get((made["kernel"], variant), "-")))


def rule_line(found: dict[str, Any]) -> str:
    """The operator of a case, and where its executed tier is derived."""
    op = call(certificate.case(found)).op
    rule = rules.find(op)
    if not isinstance(rule, Rule) or rule.executed is None:
        return f"`{op}`: no executed tier"
    executed: Any = rule.executed
    if found["kernel"] in OWN:
        executed = getattr(OWN[found["kernel"]], found["direction"])
    first = (inspect.getdoc(executed) or "").partition("\n")[0]
    return f"`{op}` (`{executed.__module__}`): {first}"
