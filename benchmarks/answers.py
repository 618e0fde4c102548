"""Ask every counter that is installed about twelve whole models, and keep what it says in answers.json.

    python benchmarks/answers.py                      # all tools on all models, which takes an hour
    python benchmarks/answers.py --tools thop --models gpt2,bert

What was kept of a tool on a model is asked again only with --again, and stays where the tool is not installed.
`docs/models.py` makes the page from it; `tests/golden/test_answers.py` compares the numbers with flopscan's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import whole_models
from flopscan import conventions
from flopscan.core.document import write_text
from flopscan.peers import asking, tools

FILE = Path(__file__).with_name("answers.json")
SCHEMA = "flopscan.answers-on-models/1"


def kept() -> dict[str, Any]:
    """What is in the file: model -> tool -> version, numbers by convention, or the reason why there are none."""
    if not FILE.exists():
        return {"schema": SCHEMA, "models": {}}
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def ask(model: str, tool: tools.Tool, seconds: float) -> dict[str, Any]:
    """What a tool says of a model, in a process of its own."""
    version = tools.version(tool) or ""
    target = f"{Path(__file__).with_name('whole_models.py')}:{model}"
    reply = asking.ask(tool, target, (whole_models.INPUTS[model],), (), seconds)
    names = [conventions.of_version(name, version) for name in tool.conventions]
    if reply.numbers:
        return {"version": version, "numbers": dict(zip(names, reply.numbers, strict=True))}
    return {"version": version, "conventions": names, "status": reply.status, "reason": reply.reason}


def main() -> None:
    """Ask, and write the file after every answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", default="all")
    parser.add_argument("--models", default=",".join(whole_models.INPUTS))
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds that each may take")
    parser.add_argument("--again", action="store_true", help="also what is in the file")
    chosen = parser.parse_args()
    document = kept()
    for model in chosen.models.split(","):
        said = document["models"].setdefault(model, {})
        for tool in tools.find(chosen.tools):
            if tools.version(tool) is None or (tool.name in said and not chosen.again):
                continue
            said[tool.name] = ask(model, tool, chosen.timeout)
            write_text(str(FILE), json.dumps(document, indent=1) + "\n")
            print(model, tool.name, said[tool.name], file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
