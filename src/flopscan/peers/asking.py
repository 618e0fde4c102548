"""A tool in a process of its own, with a time limit: it may hang, die or leave torch patched, and nothing is lost.

The process is told the target as the command line names it, and builds the model itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopscan import rules
from flopscan.peers import tools
from flopscan.peers.tools import Tool, ToolError

SECONDS = 60.0
_LONGEST = 240
_CHILD = (
    "import json, sys; order = json.load(sys.stdin); sys.path[:] = order['path'];"
    " from flopscan.peers import asking; asking.answer(order)"
)


@dataclass(frozen=True)
class Reply:
    """What came of asking: numbers, or in a word or two and in a sentence why there are none."""

    numbers: tuple[int, ...] = ()
    status: str = ""
    reason: str = ""


def ask(
    tool: Tool, target: str, inputs: Sequence[str] = (), arguments: Sequence[str] = (), seconds: float = SECONDS
) -> Reply:
    """What ``tool`` says of a target, asked in a new process that may take ``seconds``.

    ``inputs`` and ``arguments`` are those of the command line: ``1x3x224x224``, ``depth=12``.
    """
    functions = {role: [f.__module__, f.__qualname__] for role, f in (("ask", tool.ask), ("call", tool.call))}
    names = {"name": tool.name, "distribution": tool.distribution, "module": tool.module}
    model = {"target": target, "inputs": [*inputs], "arguments": [*arguments]}
    order = {"path": sys.path, "functions": functions, "names": names, **model}
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            said, complaints = process.communicate(json.dumps(order), timeout=seconds)
        except subprocess.TimeoutExpired:
            return Reply(status=f"stopped after {seconds:g} s", reason="--timeout gives it longer")
        finally:
            _end(process)
    return _reply(said, complaints, process.returncode)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process, if it still runs, and with it what it started."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _reply(said: str, complaints: str, code: int) -> Reply:
    """What the process said before it ended; how it ended, where it said nothing."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        data = json.loads(said)
        return Reply(tuple(map(int, data["numbers"])), data["status"], data["reason"])
    how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    last = (complaints.strip().splitlines() or [""])[-1]
    return Reply(status="died", reason=f"it ended its process ({how})" + (f": {_short(last)}" if last else ""))


def answer(order: Mapping[str, Any]) -> None:
    """In the new process: build the model, ask the tool, and say on stdout as JSON what came of it."""
    with _stdout_kept() as say:
        try:
            said = {"numbers": _numbers(order), "status": "", "reason": ""}
        except ToolError as error:
            said = {"numbers": [], "status": "fails", "reason": _short(str(error))}
        except Exception as error:
            cause = _cause(error)
            said = {"numbers": [], "status": "fails", "reason": _short(f"{type(cause).__name__}: {cause}")}
        say(json.dumps(said))


def _cause(error: BaseException) -> BaseException:
    """The first of the errors that were raised one from the other."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _numbers(order: Mapping[str, Any]) -> list[int]:
    functions = {role: _function(*place) for role, place in order["functions"].items()}
    tool = Tool(conventions=(), **order["names"], **functions)

    from flopscan.capture import arguments as parse
    from flopscan.capture import targets
    from flopscan.capture.inputs import materialize
    from flopscan.capture.seams import installed

    with installed(rules.seams()):
        target = targets.build(order["target"], parse.options(order["arguments"]), with_weights=True)
    args, kwargs = parse.inputs(order["inputs"])
    if not args and not kwargs:
        args, kwargs = target.args, dict(target.kwargs)
    getattr(target.model, "eval", lambda: None)()
    real = {name: materialize(value, device="cpu") for name, value in kwargs.items()}
    return [*tools.run(tool, target.model, tuple(materialize(value, device="cpu") for value in args), real)]


def _function(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _stdout_kept() -> Iterator[Callable[[str], object]]:
    """Inside, stdout is stderr also for what is not Python; yields a function that writes to the real one."""
    kept = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(kept, "w") as channel:
        yield channel.write


def _short(text: str) -> str:
    """``text`` as one line of a length that can be read."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
