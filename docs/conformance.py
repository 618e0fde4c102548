"""Write docs/conformance.md: every counter that is installed, run through the conformance suite.

    python docs/conformance.py              # those that are installed; what the page has of others stays
    python docs/conformance.py thop,flopth  # only these

Each counter has a process of its own, and of it one for each case: some leave torch patched, some end the process.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import flopscan
import torchvision_operators
from flopscan import conventions
from flopscan.peers import tools
from flopscan.testing import conformance
from flopscan.testing.conformance import Case, Result

PAGE = Path(__file__).with_name("conformance.md")
SECONDS = 300
FORK = multiprocessing.get_context("fork")
INTRODUCTION = """# The conformance suite

Layers, functions, scans and whole models, each with the number of its multiply-adds and how it follows from the
architecture ({cases} cases, `src/flopscan/testing/conformance`). Products of matrices, convolutions, attention and the
recurrence of a scan count; biases, norms and activations do not, so that a counter that adds these is off by them, and
one that takes 2k - 1 for a sum of k products by a little less. Any counter can be run through it by a function of two:

```python
from flopscan.testing.conformance import check


def mine(model, inputs):  # a torch.nn.Module in eval mode, and a tuple of tensors
    return my_counter(model, *inputs).macs


for result in check(mine, unit="MAC"):  # or "FLOP", where a multiply-add is two
    print(result)  # conv2d, 4 groups: +300.0%; expected 57,600 (10x10 outputs, ...), got 230,400
```

`result.exact`, `result.verdict`, `result.reason` are for a test. An exception of the counter is a result too.

## Every counter
`python docs/conformance.py` in the environment of `make test-peers` wrote the tables: `=` is the exact number, `0` is
zero where there is something to count, a percentage is how far off it is, and `fails` is an exception.
"""


def ask(tool: tools.Tool | None, case: Case) -> str:
    """The verdict on a counter (None for flopscan) in this process."""

    def counter(model: Any, inputs: Any) -> float:
        if tool is None:
            return int(flopscan.count(model, *inputs).macs)
        return tools.run(tool, model, tuple(inputs))[-1]  # of FLOPs and multiply-adds the latter

    (result,) = conformance.check(counter, unit(tool), [case])
    return short(result)


def unit(tool: tools.Tool | None) -> str:
    """What a counter's number is in."""
    return "FLOP" if tool is not None and conventions.get(tool.conventions[-1]).unit == "FLOP" else "MAC"


def short(result: Result) -> str:
    """The verdict as a cell."""
    return {"exact": "=", "zero": "0"}.get(result.verdict, result.verdict)


def _child(tool: tools.Tool | None, case: Case, channel: Any) -> None:
    channel.send(ask(tool, case))


def _one(tool: tools.Tool | None, case: Case) -> str:
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_child, args=(tool, case, theirs))
    process.start()
    theirs.close()
    try:
        return str(ours.recv()) if ours.poll(SECONDS) else "hangs"
    except EOFError:
        return "dies"
    finally:
        process.kill()
        process.join()


def _all(tool: tools.Tool | None, channel: Any) -> None:
    torchvision_operators.defined()  # flopth imports torchvision
    ask(tool, conformance.cases()[0])  # imports what it needs, once
    channel.send([_one(tool, case) for case in conformance.cases()])


def column(tool: tools.Tool | None) -> list[str]:
    """The verdicts on every case, from a process of its own."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_all, args=(tool, theirs))
    process.start()
    theirs.close()
    found: list[str] = ours.recv()
    process.join()
    return found


def kept() -> dict[str, dict[str, str]]:
    """The columns of the page's tables: title -> case -> cell."""
    columns: dict[str, dict[str, str]] = {}
    titles: list[str] = []
    for line in PAGE.read_text().splitlines() if PAGE.exists() else ():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| case |"):
            titles = cells
        elif titles and line.startswith("| "):
            for title, cell in zip(titles, cells, strict=True):
                columns.setdefault(title, {})[name] = cell
    return columns


def title(tool: tools.Tool | None) -> str:
    """The name and version of a counter; torch's own counter is torch's."""
    version = flopscan.__version__ if tool is None else str(tools.version(tool)).partition("+")[0]
    return f"{'flopscan' if tool is None else tool.name} {version}"


def page(columns: dict[str, dict[str, str]], before: str = "") -> str:
    """The page of these columns; the version of torch is that of ``before``, if it is given."""
    ordered = dict(sorted(columns.items(), key=lambda item: (-_exact(item[1]), item[0])))
    cases = conformance.cases()
    parts = [INTRODUCTION.format(cases=len(cases)), *_summary(ordered)]
    for group in dict.fromkeys(case.group for case in cases):
        parts += [
            "",
            f"## {group.capitalize()}",
            "",
            f"| case | {' | '.join(ordered)} |",
            "|---" * (len(ordered) + 1) + "|",
        ]
        for case in (case for case in cases if case.group == group):
            parts.append(f"| {case.name} | {' | '.join(cells.get(case.name, '') for cells in ordered.values())} |")
    torch = f"With torch {importlib.metadata.version('torch').partition('+')[0]}."
    parts += ["", before.splitlines()[-1] if before else torch, ""]
    return "\n".join(parts)


def _exact(cells: dict[str, str]) -> int:
    return sum(cell == "=" for cell in cells.values())


def _summary(columns: dict[str, dict[str, str]]) -> list[str]:
    lines = ["| counter | exact | off | zero | fails |", "|---|---|---|---|---|"]
    for name, cells in columns.items():
        bad = sum(cell in ("fails", "dies", "hangs") for cell in cells.values())
        zero = sum(cell == "0" for cell in cells.values())
        lines.append(f"| {name} | {_exact(cells)} | {len(cells) - _exact(cells) - zero - bad} | {zero} | {bad} |")
    return lines


def main(names: Sequence[str]) -> None:
    """Run what is installed and write the page."""
    chosen = [*tools.find(names[0] if names else "all"), *([] if names else [None])]
    columns = kept()
    for tool in chosen:
        if tool is not None and tools.version(tool) is None:
            continue
        found = dict(zip((case.name for case in conformance.cases()), column(tool), strict=True))
        columns = {k: v for k, v in columns.items() if k.split()[0] != title(tool).split()[0]} | {title(tool): found}
        PAGE.write_text(page(columns))
        print(title(tool), _exact(found), "of", len(found), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
