"""Write docs/models.md: what every counter says of twelve whole models, beside what flopscan says that it says.

The counters' numbers are those that `python benchmarks/answers.py` kept; flopscan's are counted anew, on shapes.
`make docs` runs it, a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import answers
import whole_models
from flopscan.peers import tools

INTRODUCTION = """# Twelve models in every counter

Each counter itself was run on these models at full size (`python benchmarks/answers.py`, in the environment of
`make test-peers`, on a CPU with torch {torch}, each in a process of its own that may take 15 minutes), with random
weights and one image of 224x224 or 128 tokens. Beside its number stands flopscan's under the convention that
reproduces the counter, on shapes, and what is left between them: {agree} numbers agree to the unit, {declared} differ
by what is declared with the counter's own line, {missing} are missing, as the counter gives none.

`=` agrees, a number is declared below, `-` is none. `make test-peers` counts flopscan's side anew; one model is asked
again by

    python benchmarks/answers.py --again --models swin_t --tools fvcore
    flopscan compare benchmarks/whole_models.py:swin_t --input 1x3x224x224 --tools all
"""


class Row(NamedTuple):
    """A number of a counter beside ours, and the reason where they differ or it has none (None)."""

    counter: str
    convention: str
    theirs: int | None
    ours: int
    unit: str
    reason: str

    @property
    def left(self) -> str:
        """Theirs less ours, in a cell."""
        return "-" if self.theirs is None else "=" if self.theirs == self.ours else f"{self.theirs - self.ours:+,}"


def rows(model: str, said: dict[str, Any]) -> Iterator[Row]:
    """What every counter said of a model, beside ours."""
    report = whole_models.counted(model)
    for tool, one in ((tool.name, said[tool.name]) for tool in tools.TOOLS):
        numbers, counter = one.get("numbers", {}), f"{tool} {one['version'].partition('+')[0]}"
        for name in numbers or one["conventions"]:
            declared = whole_models.DECLARED.get((model, name), (0, ""))[1]
            reason = declared if numbers else f"{one['status']}: {one['reason']}"
            ours = report.using(name)
            yield Row(counter, name, numbers.get(name), int(ours.value), ours.unit, reason)


def page() -> str:
    """The page."""
    kept = answers.kept()["models"]
    found = {model: list(rows(model, kept[model])) for model in whole_models.INPUTS}
    every = [row for one in found.values() for row in one]
    agree, missing = sum(row.left == "=" for row in every), sum(row.left == "-" for row in every)
    numbers = {"agree": agree, "missing": missing, "declared": len(every) - agree - missing}
    torch = kept["resnet50"]["torch"]["version"].partition("+")[0]
    sections = (_section(model, one) for model, one in found.items())
    return "\n".join([INTRODUCTION.format(torch=torch, **numbers), _matrix(found), *sections])


def _matrix(found: dict[str, list[Row]]) -> str:
    names = list(dict.fromkeys(row.convention for one in found.values() for row in one))
    lines = [f"| | {' | '.join(whole_models.TITLES[m] for m in found)} |", "|---" * (len(found) + 1) + "|"]
    for name in names:
        cells = (next((row.left for row in one if row.convention == name), "") for one in found.values())
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _section(model: str, one: list[Row]) -> str:
    lines = [f"## {whole_models.TITLES[model]}", "", f"`{model}`: {_told(model)}, on {whole_models.INPUTS[model]}.", ""]
    lines += ["| counter | it says | flopscan says | unit | left |", "|---|---|---|---|---|"]
    for row in one:
        counter = f"{row.counter}, `{row.convention}`" if row.convention.endswith("-macs") else row.counter
        theirs = "-" if row.theirs is None else f"{row.theirs:,}"
        lines.append(f"| {counter} | {theirs} | {row.ours:,} | {row.unit} | {row.left} |")
    reasons = dict.fromkeys(f"* {row.counter}: {row.reason}" for row in one if row.reason)
    return "\n".join([*lines, "", *reasons, *([""] if reasons else [])])


def _told(model: str) -> str:
    """The first line of what the model's factory says, without its full stop."""
    return (getattr(whole_models, model).__doc__ or "").split("\n")[0].removesuffix(".")


if __name__ == "__main__":
    Path(__file__).with_name("models.md").write_text(page())
