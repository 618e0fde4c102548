"""A target in other counters, each beside flopscan's count of the same call under the convention that reproduces it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flopscan import analysis, conventions, rules
from flopscan.errors import FlopscanError, UsageError
from flopscan.peers import asking, tools
from flopscan.peers.tools import Given, Tool
from flopscan.report import report as reports
from flopscan.report.answers import ABSENT, SAID, Answer
from flopscan.report.report import Report


@dataclass
class Subject:
    """A target as the command line names it: what flopscan counts, and what every tool is asked about."""

    target: str
    inputs: tuple[str, ...]
    arguments: tuple[str, ...]
    run: bool
    model: Any
    given: Given
    _counted: dict[Any, Report] = field(default_factory=dict)

    def report(self, tool: Tool | None = None) -> Report:
        """Flopscan's count of the model, called as ``tool`` calls it (default: on the inputs as they were given)."""
        from flopscan.capture import running, shape_only

        args, kwargs = (tool.call if tool else tools.as_given)(self.model, *self.given)
        key = (args, *kwargs.items())
        if key not in self._counted:
            route = running.trace if self.run else shape_only.trace
            trace = route(self.model, args, kwargs, training=False, seams=rules.seams())
            self._counted[key] = reports.make(analysis.price(trace))
        return self._counted[key]

    def ask(self, tool: Tool, seconds: float = asking.SECONDS) -> list[Answer]:
        """The answers of a tool, one for each of its numbers; where it gives none, they say why."""
        version = tools.version(tool)
        if version is None:
            reply = asking.Reply(status=ABSENT, reason=f"pip install {tool.distribution}")
        elif too_large := _too_large(self.model):
            reply = asking.Reply(status="too large", reason=too_large)
        else:
            reply = asking.ask(tool, self.target, self.inputs, self.arguments, seconds)
        return [
            self._answer(tool, version or "", name, reply, reply.numbers[i] if reply.numbers else None)
            for i, name in enumerate(tool.conventions)
        ]

    def _answer(self, tool: Tool, version: str, name: str, reply: asking.Reply, theirs: int | None) -> Answer:
        """A number of a tool beside ours; ours may be missing too."""
        chosen = conventions.get(conventions.of_version(name, version) if version else name)
        status, reason, ours = reply.status or SAID, reply.reason, None
        try:
            ours = int(self.report(tool).under(chosen.name))
        except FlopscanError as error:
            reason = reason or f"flopscan has no number for it: {error}"
        differ = theirs is not None and ours is not None and theirs != ours
        if differ and chosen.version and not tools.same_version(version, chosen.version):
            reason = f"the convention is of version {chosen.version}"
        elif differ and chosen.beyond:
            reason = f"known of it: {chosen.beyond}"
        return Answer(tool.name, version, chosen.name, chosen.unit, theirs, ours, status, reason)


def subject(
    target: str, inputs: tuple[str, ...] = (), arguments: tuple[str, ...] = (), *, run: bool = False
) -> Subject:
    """A target, built without weights; with ``run`` flopscan really runs it. Raises UsageError where it has no input.

    ``inputs`` and ``arguments`` are those of the command line: ``1x3x224x224``, ``depth=12``.
    """
    from flopscan.capture import arguments as parse

    args, kwargs = parse.inputs(inputs)
    options = parse.options(arguments)

    from flopscan.capture import targets
    from flopscan.capture.seams import installed

    with installed(rules.seams()):
        built = targets.build(target, options, with_weights=run)
    if not args and not kwargs:
        args, kwargs = built.args, dict(built.kwargs)
    if not args and not kwargs:
        raise UsageError(f"{target} has no default input; give one, as in --input 1x3x224x224")
    return Subject(target, inputs, arguments, run, built.model, (args, kwargs))


def _too_large(model: Any) -> str:
    from flopscan.capture.build import too_large  # loads torch

    return too_large(model)
